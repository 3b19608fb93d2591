"""Dead letters as messages: what their headers tell, and the message again as it was published."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import aio_pika
import orjson
from aio_pika import DeliveryMode
from aio_pika.abc import AbstractIncomingMessage
from pamqp import decode, encode

from apps.kit import recovery
from apps.kit.envelope import ROUTING_KEY_HEADER
from apps.kit.headers import is_passed_on, sendable
from apps.recovery.domain import Death, Source, order_of, trace_of
from apps.recovery.mongo import DeadLetter

REPLAY_HEADER = "orderflow-replay"
"""On a replayed message: which replay of its dead letter it is. If it dies again, it brings that back."""

_FAILURE_HEADERS = frozenset(
    {
        recovery.ATTEMPT,
        recovery.QUEUE,
        recovery.HANDLER,
        recovery.REASON,
        recovery.ERROR_TYPE,
        recovery.TRACEBACK,
        recovery.FIRST_FAILED_AT,
        recovery.LAST_FAILED_AT,
    }
)
_PARSED_BODY_BYTES = 1024 * 1024
_TEXT_CHARACTERS = 4000
_NAME_BYTES = 255
_DEEPEST_SHOWN = 20
_OUR_APPS = "orderflow."
_DELIVERY_LIMIT = "delivery_limit"


def dead(message: AbstractIncomingMessage) -> Death:
    """What a message in the queue `dead` tells; whatever its headers hold, it is read.

    Our own workers write headers. What RabbitMQ itself gave up has only the `x-death` that RabbitMQ writes,
    and perhaps our headers of an earlier attempt.
    """
    if given_up := _given_up(message.headers):
        return _given_up_death(message, given_up)
    headers = message.headers
    queue = _name(headers.get(recovery.QUEUE))
    return Death(
        source=Source.DEAD,
        queue=queue,
        error_type=_text(headers.get(recovery.ERROR_TYPE)) or "Unknown",
        reason=_text(headers.get(recovery.REASON)) or "no reason is given",
        handler=_text(headers.get(recovery.HANDLER)),
        traceback=_text(headers.get(recovery.TRACEBACK)),
        attempts=_number(headers.get(recovery.ATTEMPT)),
        first_failed_at=_time(headers.get(recovery.FIRST_FAILED_AT)),
        last_failed_at=_time(headers.get(recovery.LAST_FAILED_AT)),
        # A message that somebody put into `dead` by hand says nothing of where it was published.
        **_message(message, _name(headers.get(ROUTING_KEY_HEADER)) or _name(message.type)),
    )


def unrouted(message: AbstractIncomingMessage) -> Death:
    """A message that no queue was bound for, as it was published."""
    routing_key = message.routing_key or ""
    return Death(
        source=Source.UNROUTED,
        queue=None,
        error_type="Unrouted",
        reason=f"no queue is bound for {routing_key!r}"[:_TEXT_CHARACTERS],
        **_message(message, routing_key),
    )


def replay(letter: DeadLetter, body: bytes) -> aio_pika.Message:
    """The original again: its body, ids and own headers, nothing of its failures, and which replay it is."""
    headers = {
        name: value
        for name, value in decode_headers(letter.headers).items()
        if name not in _FAILURE_HEADERS and is_passed_on(name)
    }
    # It comes back under its queue's name, so the key that it was published under travels with it.
    headers |= {REPLAY_HEADER: letter.replays, ROUTING_KEY_HEADER: letter.event_type or ""}
    return aio_pika.Message(
        body,
        headers=headers,
        delivery_mode=DeliveryMode.PERSISTENT,
        message_id=letter.message_id,
        correlation_id=letter.correlation_id,
        content_type=letter.content_type,
        content_encoding=letter.content_encoding,
        timestamp=letter.published_at,
        type=letter.type,
        app_id=letter.app_id,
    )


def encode_headers(headers: Mapping[str, Any]) -> bytes:
    """Headers in the form that AMQP has on the wire; a value that cannot be sent again becomes text."""
    return encode.field_table({name: sendable(value) for name, value in headers.items()})


def decode_headers(table: bytes) -> dict[str, Any]:
    """Read what `encode_headers` wrote."""
    return dict(decode.field_table(table)[1])


def shown_headers(table: bytes) -> dict[str, Any]:
    """The same as JSON can hold them."""
    return {name: _shown(value, _DEEPEST_SHOWN) for name, value in decode_headers(table).items()}


def _given_up(headers: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """RabbitMQ's own entry about the death, if the message did not come from one of our workers.

    The newest comes first; one about a retry queue only tells that a pause was over.
    """
    entries = headers.get("x-death")
    tables = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    crashes = [entry for entry in tables if entry.get("reason") == _DELIVERY_LIMIT]
    return next(iter(crashes + tables), None)


def _given_up_death(message: AbstractIncomingMessage, entry: Mapping[str, Any]) -> Death:
    why = _text(entry.get("reason")) or "unknown"
    routing_keys = entry.get("routing-keys")
    published_under = routing_keys[0] if isinstance(routing_keys, list) and routing_keys else None
    is_crash_loop = why == _DELIVERY_LIMIT
    return Death(
        source=Source.DEAD,
        queue=_name(entry.get("queue")),
        error_type="DeliveryLimitExceeded" if is_crash_loop else "DeadLettered",
        reason="it was delivered again too often: each time its worker died or lost RabbitMQ"
        if is_crash_loop
        else f"RabbitMQ gave it up: {why}",
        attempts=_number(message.headers.get(recovery.ATTEMPT)),
        first_failed_at=_time(message.headers.get(recovery.FIRST_FAILED_AT)),
        last_failed_at=_time(entry.get("time")),
        **_message(message, _name(message.headers.get(ROUTING_KEY_HEADER)) or _name(published_under)),
    )


def _message(message: AbstractIncomingMessage, event_type: str | None) -> dict[str, Any]:
    """What holds for every dead letter."""
    is_ours = (message.app_id or "").startswith(_OUR_APPS)
    return {
        "event_type": event_type,
        "body": message.body,
        "headers": encode_headers(message.headers),
        "replay": _number(message.headers.get(REPLAY_HEADER)) or 0,
        "message_id": message.message_id,
        "correlation_id": message.correlation_id,
        "order_id": order_of(
            _stated_order(message.body), event_type, message.correlation_id, is_ours=is_ours
        ),
        "app_id": message.app_id,
        "type": message.type,
        "content_type": message.content_type,
        "content_encoding": message.content_encoding,
        "published_at": message.timestamp,
        "trace_id": trace_of(message.headers.get("traceparent")),
    }


def _stated_order(body: bytes) -> object:
    """The `order_id` in a JSON body; orjson refuses hostile nesting instead of running out of stack."""
    if len(body) > _PARSED_BODY_BYTES:
        return None
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return content.get("order_id") if isinstance(content, dict) else None


def _name(value: object) -> str | None:
    """The name of a queue or a routing key, which AMQP allows to be no longer than this."""
    return value if isinstance(value, str) and 0 < len(value.encode()) <= _NAME_BYTES else None


def _text(value: object) -> str | None:
    return value[:_TEXT_CHARACTERS] if isinstance(value, str) else None


def _number(value: object) -> int | None:
    """A small whole number, which is all that our own headers hold."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else None


def _time(value: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        return moment.astimezone(UTC) if isinstance(moment, datetime) else None
    except (ValueError, OverflowError):
        return None


def _shown(value: Any, depth: int) -> Any:
    match value:
        case bytearray():
            return value.decode(errors="replace")
        case datetime() | Decimal() | float():
            return str(value)  # JSON has no NaN either, and rounds what has many digits
        case dict() if depth:
            return {name: _shown(inner, depth - 1) for name, inner in value.items()}
        case list() if depth:
            return [_shown(inner, depth - 1) for inner in value]
        case _:
            return value if depth else "…"
