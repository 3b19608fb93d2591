"""The one recovery policy: a message is acknowledged when it is handled, kept for later, or kept as dead."""

import traceback
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid5

import aio_pika
from aio_pika import DeliveryMode, IncomingMessage
from faststream.rabbit import RabbitExchange, RabbitQueue
from faststream.rabbit.subscriber.usecase import RabbitSubscriber
from opentelemetry import trace
from prometheus_client import Counter
from pydantic import ValidationError
from pymongo.errors import PyMongoError
from structlog.stdlib import get_logger

from apps.kit.clock import utc_now
from apps.kit.envelope import ROUTING_KEY_HEADER, OtherEventError, published_as
from apps.kit.errors import PermanentError
from apps.kit.headers import passed_on
from apps.kit.metrics import DEAD_LETTERS, RETRIES
from apps.kit.producer import RabbitUnavailable
from apps.kit.topology import ARCHIVED_QUEUES, DEAD, RETRY_LEVELS, event_of
from apps.kit.tracing import failed
from apps.kit.validation import explain
from apps.kit.waiting import WaitedTooLongError
from contracts import Event
from contracts.event import NAMESPACE

if TYPE_CHECKING:  # it imports this module
    from apps.kit.broker import EventBroker

ATTEMPT = "orderflow-attempt"
QUEUE = "orderflow-queue"
HANDLER = "orderflow-handler"
REASON = "orderflow-reason"
ERROR_TYPE = "orderflow-error-type"
TRACEBACK = "orderflow-traceback"
FIRST_FAILED_AT = "orderflow-first-failed-at"
LAST_FAILED_AT = "orderflow-last-failed-at"

_HOPELESS = (PermanentError, ValidationError)
_CAUSES_OF_RETRY = ("error", "waited-too-long")
_CAUSES_OF_DEATH = ("undecodable", "contract", "permanent", "exhausted")
_TRACEBACK_CHARACTERS = 4000
_REASON_CHARACTERS = 1000

log = get_logger()


def reason_for(error: BaseException) -> str:
    """One sentence that says what was wrong and where, without the customer's data."""
    if isinstance(error, ValidationError):
        reason = explain(error)
    elif isinstance(error, PyMongoError):  # its text quotes whole documents
        reason = f"{type(error).__name__} with code {getattr(error, 'code', None)}"
    else:
        reason = str(error) or type(error).__name__
    return reason[:_REASON_CHARACTERS]


def traceback_of(error: BaseException) -> str:
    """Where it happened, and no more of the error's own words than `reason_for` tells."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    return f"{frames}{type(error).__name__}: {reason_for(error)}"[-_TRACEBACK_CHARACTERS:]


async def set_aside(
    broker: "EventBroker", subscriber: RabbitSubscriber, message: IncomingMessage, error: Exception
) -> bool:
    """Keep a message that failed, for a later attempt or as a dead letter; true once a copy is confirmed.

    False if it has to stay where it is.
    """
    failed(trace.get_current_span(), type(error).__name__)
    if subscriber.queue in ARCHIVED_QUEUES:
        return False
    verdict = _judge(error, _attempt(message))
    copy = _copy(message, subscriber, error, verdict.next_attempt)

    async def send_copy() -> None:
        await broker.send(copy, verdict.exchange, subscriber.queue.name)

    try:
        await broker.waiting.out(send_copy, message, (RabbitUnavailable,))
    except Exception:
        # Unknown whether the copy arrived, so the original stays; a copy too many changes nothing.
        log.exception("could not set a failed message aside", queue=subscriber.queue.name)
        return False
    verdict.counter.labels(subscriber.queue.name, verdict.cause).inc()
    log.error(
        verdict.text,
        queue=subscriber.queue.name,
        event_id=copy.message_id,
        order_id=copy.correlation_id,
        attempt=_attempt(message),
        reason=reason_for(error),
        traceback=None if isinstance(error, _HOPELESS) else traceback_of(error),
    )
    return True


class _Verdict(NamedTuple):
    text: str
    exchange: RabbitExchange
    next_attempt: int
    counter: Counter
    cause: str


def _judge(error: Exception, attempt: int) -> _Verdict:
    if isinstance(error, WaitedTooLongError):
        return _Verdict("goes on waiting", RETRY_LEVELS[-1].exchange, attempt, RETRIES, "waited-too-long")
    if isinstance(error, _HOPELESS) or attempt > len(RETRY_LEVELS):
        return _Verdict("dead letter", DEAD, attempt, DEAD_LETTERS, _cause_of_death(error))
    exchange = RETRY_LEVELS[attempt - 1].exchange
    return _Verdict("will be tried again", exchange, attempt + 1, RETRIES, "error")


def _cause_of_death(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        return "undecodable" if first["type"] == "json_invalid" else "contract"
    if isinstance(error, OtherEventError):
        return "contract"
    return "permanent" if isinstance(error, PermanentError) else "exhausted"


def begin_counting(queue: RabbitQueue) -> None:
    """Show as 0 what may happen to a queue's messages: Prometheus sees no increase in what begins at 1."""
    if queue not in ARCHIVED_QUEUES:  # they neither retry nor give up
        for cause in _CAUSES_OF_RETRY:
            RETRIES.labels(queue.name, cause)
        for cause in _CAUSES_OF_DEATH:
            DEAD_LETTERS.labels(queue.name, cause)


def _attempt(message: IncomingMessage) -> int:
    """Which attempt this was; a header that is not ours to read counts as none."""
    stated = message.headers.get(ATTEMPT)
    return stated if isinstance(stated, int) and stated > 0 else 1


def _copy(
    message: IncomingMessage, subscriber: RabbitSubscriber, error: Exception, attempt: int
) -> aio_pika.Message:
    """The message again, with its identity, and with what is known of its failure."""
    now = utc_now().isoformat()
    headers = passed_on(message.headers)
    headers.setdefault(FIRST_FAILED_AT, now)
    headers |= {
        ROUTING_KEY_HEADER: published_as(message) or message.routing_key or "",
        ATTEMPT: attempt,
        QUEUE: subscriber.queue.name,
        HANDLER: ",".join(call.name for call in subscriber.calls),
        REASON: reason_for(error),
        ERROR_TYPE: type(error).__name__,
        TRACEBACK: traceback_of(error),
        LAST_FAILED_AT: now,
    }
    event = _readable(message, subscriber)
    derived_id = event.event_id if event else uuid5(NAMESPACE, message.body.hex())
    return aio_pika.Message(
        message.body,
        headers=headers,
        delivery_mode=DeliveryMode.PERSISTENT,
        # What the publisher left out is derived, and so the same at every delivery.
        message_id=message.message_id or str(derived_id),
        correlation_id=message.correlation_id or (event.correlation_id if event else None),
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        timestamp=message.timestamp,
        type=message.type,
        app_id=message.app_id,
    )


def _readable(message: IncomingMessage, subscriber: RabbitSubscriber) -> Event | None:
    """The event in a failed message, unless that is what failed."""
    expected = event_of(subscriber.queue)
    try:
        return expected.model_validate_json(message.body) if expected else None
    except ValidationError:
        return None
