"""The one recovery policy: a message is acknowledged when it is handled, kept for later, or kept as dead."""

import traceback
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid5

import aio_pika
from aio_pika import DeliveryMode, IncomingMessage
from faststream import BaseMiddleware
from faststream.exceptions import HandlerException, NackMessage
from faststream.message import StreamMessage
from faststream.rabbit import RabbitExchange
from faststream.rabbit.response import RabbitPublishCommand
from faststream.rabbit.subscriber.usecase import RabbitSubscriber
from pydantic import ValidationError
from pymongo.errors import PyMongoError
from structlog.contextvars import bound_contextvars
from structlog.stdlib import get_logger

from apps.kit.clock import utc_now
from apps.kit.envelope import ROUTING_KEY_HEADER, published_as
from apps.kit.errors import PermanentError
from apps.kit.headers import passed_on
from apps.kit.producer import RabbitUnavailable
from apps.kit.topology import ARCHIVED_QUEUES, DEAD, RETRY_LEVELS, event_of
from apps.kit.validation import explain
from apps.kit.waiting import OUT_OF_REACH, WaitedTooLongError
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


class RecoveryMiddleware(BaseMiddleware[RabbitPublishCommand, IncomingMessage | None]):
    """Waits out a missing dependency, retries at growing distances what may pass, keeps the rest as dead."""

    async def consume_scope(
        self,
        call_next: Callable[[StreamMessage[IncomingMessage]], Awaitable[Any]],
        msg: StreamMessage[IncomingMessage],
    ) -> Any:
        broker: EventBroker = self.context.get_local("broker")
        subscriber: RabbitSubscriber = self.context.get_local("handler_")
        is_archive = subscriber.queue in ARCHIVED_QUEUES

        async def handle() -> Any:
            async with broker.suspects.turn(msg.raw_message):
                return await call_next(msg)

        with bound_contextvars(**_about(await msg.decode(), msg)):
            # What is in an archive's queue has no other place to go: whatever fails, it waits.
            out_of_reach = (Exception,) if is_archive else OUT_OF_REACH
            result = await broker.waiting.out(handle, msg.raw_message, out_of_reach)
            outcome = result.body if hasattr(result, "body") else result
            log.info("handled", outcome=getattr(outcome, "topic", None))
            return result

    async def after_processed(
        self,
        _exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        _exc_tb: TracebackType | None = None,
    ) -> bool:
        if not isinstance(exc_val, Exception) or isinstance(exc_val, HandlerException) or self.msg is None:
            return False
        subscriber: RabbitSubscriber = self.context.get_local("handler_")
        broker: EventBroker = self.context.get_local("broker")
        if subscriber.queue in ARCHIVED_QUEUES:
            raise NackMessage from exc_val
        verdict = _judge(exc_val, _attempt(self.msg))
        copy = _copy(self.msg, subscriber, exc_val, verdict.next_attempt)

        async def publish_copy() -> None:
            await broker.publish(copy, exchange=verdict.exchange, routing_key=subscriber.queue.name)

        try:
            await broker.waiting.out(publish_copy, self.msg, (RabbitUnavailable,))
        except Exception as error:
            # Unknown whether the copy arrived, so the original stays; a copy too many changes nothing.
            log.exception("could not set a failed message aside", queue=subscriber.queue.name)
            raise NackMessage from error
        log.error(
            verdict.text,
            queue=subscriber.queue.name,
            event_id=copy.message_id,
            order_id=copy.correlation_id,
            attempt=_attempt(self.msg),
            reason=reason_for(exc_val),
            traceback=None if isinstance(exc_val, _HOPELESS) else traceback_of(exc_val),
        )
        return True


class _Verdict(NamedTuple):
    text: str
    exchange: RabbitExchange
    next_attempt: int


def _judge(error: Exception, attempt: int) -> _Verdict:
    if isinstance(error, WaitedTooLongError):
        return _Verdict("goes on waiting", RETRY_LEVELS[-1].exchange, attempt)
    if isinstance(error, _HOPELESS) or attempt > len(RETRY_LEVELS):
        return _Verdict("dead letter", DEAD, attempt)
    return _Verdict("will be tried again", RETRY_LEVELS[attempt - 1].exchange, attempt + 1)


def _about(content: Any, message: StreamMessage[IncomingMessage]) -> dict[str, str]:
    """What the log says of a message in all its lines."""
    if not isinstance(content, Event):  # a queue that takes any message
        return {"message_id": message.message_id}
    about = "order_id" if hasattr(content, "order_id") else content.identity_field
    return {
        "event_type": content.topic,
        "event_id": str(content.event_id),
        about: content.correlation_id,
    }


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
