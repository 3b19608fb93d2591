"""Events on the wire: read by what their queue receives, written with everything that surrounds them."""

from collections.abc import Awaitable, Callable
from typing import Any

from aio_pika import IncomingMessage
from faststream import BaseMiddleware
from faststream.message import StreamMessage
from faststream.rabbit.response import RabbitPublishCommand

from apps.kit.errors import PermanentError
from apps.kit.producer import RabbitUnavailable
from apps.kit.topology import EVENTS
from apps.kit.waiting import Waiting
from contracts import Event
from contracts.envelope import publication

ROUTING_KEY_HEADER = "orderflow-routing-key"
"""The routing key that a message had before it went through a retry level."""


class OtherRoutingKeyError(PermanentError):
    """The message was published as another event, and led here by a `CC` or `BCC` header."""

    def __init__(self, published_as: str, expected: str) -> None:
        super().__init__(f"routing key: is {published_as!r}, this queue receives {expected!r}")


class UnknownTypeError(PermanentError):
    """The message says that it is another event than its queue receives."""

    def __init__(self, stated: str, expected: str) -> None:
        super().__init__(f"type: is {stated!r}, this queue receives {expected!r}")


def published_as(message: IncomingMessage) -> str | None:
    """The routing key by which a message came to `events`, also when it has been set aside since.

    None if it never was there, as what an operator puts straight into a queue.
    """
    if message.exchange == EVENTS.name:
        return message.routing_key
    stated = message.headers.get(ROUTING_KEY_HEADER)
    return stated if isinstance(stated, str) else None


def open_envelope(message: StreamMessage[IncomingMessage], expected: type[Event]) -> Event:
    """Read the body of a message as the event that its queue receives.

    Only the body counts: a publisher may leave every property out, but must not contradict the routing key.

    Raises:
        OtherRoutingKeyError: it was published as another event.
        UnknownTypeError: the `type` property names another event.
        pydantic.ValidationError: the body is no JSON, or breaks the contract.
    """
    # RabbitMQ before 4.0 asks for no right to the keys in `CC` and `BCC`, but for that to the routing key.
    key = published_as(message.raw_message)
    if key is not None and key != expected.topic:
        raise OtherRoutingKeyError(key, expected.topic)
    stated = message.raw_message.type
    if stated and stated != expected.topic:
        raise UnknownTypeError(stated, expected.topic)
    return expected.model_validate_json(message.body)


def seal(command: RabbitPublishCommand, event: Event, cause: IncomingMessage | None) -> None:
    """Turn a command that carries an event into one that carries its JSON and all its properties."""
    options: Any = dict(publication(event))
    command.body = options.pop("message")
    command.correlation_id = options.pop("correlation_id")
    command.headers |= options.pop("headers")
    command.message_options |= options
    if cause is not None and (trace := cause.headers.get("traceparent")):
        command.headers["traceparent"] = trace


class EnvelopeMiddleware(BaseMiddleware[RabbitPublishCommand, IncomingMessage | None]):
    """Seals events on their way out; of a handler's publishers, only that of the returned event sends."""

    async def publish_scope(
        self,
        call_next: Callable[[RabbitPublishCommand], Awaitable[Any]],
        cmd: RabbitPublishCommand,
    ) -> Any:
        if cmd.body is None:
            return None  # a handler with nothing to announce
        if isinstance(cmd.body, Event):
            if cmd.body.topic != cmd.destination:
                return None
            seal(cmd, cmd.body, self.msg)
        if self.msg is None:
            return await call_next(cmd)
        waiting: Waiting = self.context.get_local("broker").waiting
        return await waiting.out(lambda: call_next(cmd), self.msg, (RabbitUnavailable,))
