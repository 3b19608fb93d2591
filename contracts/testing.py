"""A pytest plugin: our examples, delivered to the handlers of a FastStream service on a broker in memory."""

from typing import Any, Protocol

import pytest
from aio_pika import Message

from contracts.envelope import envelope
from contracts.event import Event


class DeliverEvent(Protocol):
    """What the fixture `deliver_event` is."""

    async def __call__(self, broker: Any, event: type[Event], **changes: Any) -> Event:
        """Publish an event's example, with changes, as Orderflow does, and return it.

        Args:
            broker: a `RabbitBroker` within `TestRabbitBroker`.
            event: its class.
            changes: fields that differ from the example; together they must be valid.

        Raises:
            pydantic.ValidationError: the changed example is not valid.
            faststream.exceptions.SubscriberNotFound: no handler subscribes to the event.
        """


@pytest.fixture
def deliver_event() -> DeliverEvent:
    """Delivers an event to those handlers of a service that subscribe to it."""

    async def deliver(broker: Any, event: type[Event], **changes: Any) -> Event:
        delivered = event.model_validate(event.example | changes)
        await broker.publish(Message(**envelope(delivered)), exchange="events", routing_key=event.topic)
        return delivered

    return deliver
