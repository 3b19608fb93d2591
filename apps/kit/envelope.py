"""Events as they come off the wire, read by what their queue receives."""

from aio_pika import IncomingMessage

from apps.kit.errors import PermanentError
from apps.kit.topology import EVENTS
from contracts import Event

ROUTING_KEY_HEADER = "orderflow-routing-key"
"""The routing key that a message had before it went through a retry level."""


class OtherEventError(PermanentError):
    """The message is another event than its queue receives."""


class OtherRoutingKeyError(OtherEventError):
    """The message was published as another event, and led here by a `CC` or `BCC` header."""

    def __init__(self, published_as: str, expected: str) -> None:
        super().__init__(f"routing key: is {published_as!r}, this queue receives {expected!r}")


class UnknownTypeError(OtherEventError):
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


def open_envelope(message: IncomingMessage, expected: type[Event]) -> Event:
    """Read the body of a message as the event that its queue receives.

    Only the body counts: a publisher may leave every property out, but must not contradict the routing key.

    Raises:
        OtherRoutingKeyError: it was published as another event.
        UnknownTypeError: the `type` property names another event.
        pydantic.ValidationError: the body is no JSON, or breaks the contract.
    """
    # RabbitMQ before 4.0 asks for no right to the keys in `CC` and `BCC`, but for that to the routing key.
    key = published_as(message)
    if key is not None and key != expected.topic:
        raise OtherRoutingKeyError(key, expected.topic)
    stated = message.type
    if stated and stated != expected.topic:
        raise UnknownTypeError(stated, expected.topic)
    return expected.model_validate_json(message.body)
