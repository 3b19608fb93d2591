"""What surrounds an event on the wire: AMQP properties and CloudEvents attributes, on all alike."""

from collections.abc import Awaitable, Callable
from typing import Any

from aio_pika import IncomingMessage
from faststream import BaseMiddleware
from faststream.message import StreamMessage
from faststream.rabbit.response import RabbitPublishCommand

from apps.kit.errors import PermanentError
from apps.kit.producer import RabbitUnavailable
from apps.kit.waiting import Waiting
from contracts import Event

ROUTING_KEY_HEADER = "orderflow-routing-key"
"""The routing key that a message had before it went through a retry level."""


class UnknownTypeError(PermanentError):
    """The message says that it is another event than its queue receives."""

    def __init__(self, stated: str, expected: str) -> None:
        super().__init__(f"type: is {stated!r}, this queue receives {expected!r}")


def open_envelope(message: StreamMessage[IncomingMessage], expected: type[Event]) -> Event:
    """Read the body of a message as the event that its queue receives.

    Only the body counts: a publisher may leave every property out, but must not contradict the routing key.

    Raises:
        UnknownTypeError: the `type` property names another event.
        pydantic.ValidationError: the body is no JSON, or breaks the contract.
    """
    stated = message.raw_message.type
    if stated and stated != expected.topic:
        raise UnknownTypeError(stated, expected.topic)
    return expected.model_validate_json(message.body)


def seal(command: RabbitPublishCommand, event: Event, cause: IncomingMessage | None) -> None:
    """Turn a command that carries an event into one that carries its JSON and all its properties."""
    event_id, occurred_at = str(event.event_id), event.occurred_at
    command.body = event.model_dump_json().encode()
    command.correlation_id = event.correlation_id
    command.message_options |= {
        "message_id": event_id,
        "message_type": event.topic,
        "timestamp": occurred_at,
        "content_type": "application/json",
        "persist": True,
    }
    command.headers |= {
        "cloudEvents:specversion": "1.0",
        "cloudEvents:id": event_id,
        "cloudEvents:type": event.topic,
        "cloudEvents:source": f"/orderflow/{event.owner}",
        "cloudEvents:subject": event.correlation_id,
        "cloudEvents:time": occurred_at.isoformat().replace("+00:00", "Z"),
    }
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
