"""What waits in RabbitMQ, and who takes it: asked of the server itself, over the connection that is there."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aio_pika.exceptions import AMQPError, ChannelNotFoundEntity

from apps.kit.broker import EventBroker
from apps.kit.errors import DependencyUnavailable
from apps.kit.topology import DEAD_QUEUE, RETRY_LEVELS, UNROUTED_QUEUE, inbox
from contracts import (
    EVENTS,
    DeadLetterClosed,
    DeadLetterOpened,
    Event,
    InvoiceIssued,
    InvoiceVoided,
    OrderCancelled,
    OrderCreated,
    OrderRejected,
    OrderValidated,
    StockAdjusted,
    WebhookEndpointDisabled,
)

_ANSWER_TIMEOUT_SECONDS = 3.0
_OF_NO_ORDER = (StockAdjusted, WebhookEndpointDisabled)
_CONSUMED: Mapping[str, Sequence[type[Event]]] = {
    "stock": (OrderCreated, OrderCancelled, StockAdjusted),
    "billing": (OrderValidated, OrderCancelled),
    "notifications": (InvoiceIssued, InvoiceVoided, OrderRejected, OrderCancelled),
    "documents": (InvoiceIssued, InvoiceVoided),
    "orders": [event for event in EVENTS if event not in _OF_NO_ORDER],
    "webhooks": [event for event in EVENTS if event not in (DeadLetterOpened, DeadLetterClosed)],
}
"""What each app receives, as its `app.py` says; a test compares them."""

QUEUES: Mapping[str, Sequence[str]] = {
    **{app: [inbox(app, event).name for event in events] for app, events in _CONSUMED.items()},
    "recovery": [DEAD_QUEUE.name, UNROUTED_QUEUE.name],
}
"""The queues of each app."""
RETRY_QUEUES = {level.queue.name: level.delay_seconds for level in RETRY_LEVELS}
"""Where messages wait to be tried again, and for how long; nobody consumes them."""


@dataclass(frozen=True)
class QueueState:
    """A queue as RabbitMQ sees it; one that is gone has neither."""

    messages: int | None
    """Those that wait; not those in a worker's hands."""
    consumers: int | None


GONE = QueueState(None, None)


async def read_queues(broker: EventBroker) -> Mapping[str, QueueState]:
    """The state of every queue of ours, by its name.

    Raises:
        DependencyUnavailable: RabbitMQ does not answer.
    """
    try:
        async with asyncio.timeout(_ANSWER_TIMEOUT_SECONDS):
            return await _read(broker)
    except (TimeoutError, AMQPError, OSError, RuntimeError) as error:
        reason = str(error) or type(error).__name__
        raise DependencyUnavailable(f"RabbitMQ is out of reach: {reason}") from error


async def _read(broker: EventBroker) -> Mapping[str, QueueState]:
    if not await broker.ping(timeout=1):
        raise DependencyUnavailable("RabbitMQ is out of reach")
    connection = await broker.connect()
    names = [*(name for queues in QUEUES.values() for name in queues), *RETRY_QUEUES]
    found: dict[str, QueueState] = {}
    while len(found) < len(names):
        try:
            async with connection.channel(publisher_confirms=False) as channel:
                for name in names[len(found) :]:
                    queue = await channel.declare_queue(name, passive=True, robust=False)
                    result = queue.declaration_result
                    found[name] = QueueState(result.message_count, result.consumer_count)
        except ChannelNotFoundEntity:  # which also closes the channel
            found[names[len(found)]] = GONE
    return found
