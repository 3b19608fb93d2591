"""Everything in RabbitMQ: one events exchange, one quorum queue per consumer and event."""

from typing import Any, NamedTuple, cast

from faststream.rabbit import Channel, ExchangeType, QueueType, RabbitExchange, RabbitQueue
from faststream.rabbit.helpers.declarer import RabbitDeclarer

from apps.kit.settings import get_settings
from contracts import EVENTS as CONTRACTS
from contracts import Event

_declare = get_settings().declare_topology

TOPICS = frozenset(event.topic for event in CONTRACTS)
"""Every event's, for those who may not take a message's own word for it."""

UNROUTED = RabbitExchange("unrouted", type=ExchangeType.FANOUT, durable=True, declare=_declare)
"""Catches events that no queue is bound for."""
EVENTS = RabbitExchange(
    "events",
    type=ExchangeType.TOPIC,
    durable=True,
    declare=_declare,
    arguments={"alternate-exchange": UNROUTED.name},
)
"""Every event passes here, its topic as the routing key."""
DEAD = RabbitExchange("dead", type=ExchangeType.FANOUT, durable=True, declare=_declare)
"""Takes what could not be handled, with the reason in its headers."""

REPLAY = RabbitExchange("replay", type=ExchangeType.DIRECT, durable=True, declare=_declare)
"""Leads to every inbox by its own name, for messages that go back to exactly one consumer."""

DELIVERY_LIMIT = 19
"""Redeliveries after which RabbitMQ itself gives a message up, 20 deliveries in all: a crash loop only."""
_NO_DELIVERY_LIMIT = 2**31 - 1
"""RabbitMQ 4 has a limit of 20 unless told otherwise, and drops what exceeds it if no exchange takes it."""

PUBLISHING = Channel(on_return_raises=True)
"""The channel of all publishing, on a connection of its own."""


class RetryLevel:
    """A pause of fixed length: an exchange and a queue whose messages return to their consumer's queue."""

    def __init__(self, delay_seconds: float) -> None:
        self.delay_seconds = delay_seconds
        milliseconds = round(delay_seconds * 1000)
        # The length is in the name, since RabbitMQ refuses to change it on a queue that exists.
        name = f"retry.{milliseconds}ms"
        # All of it goes into one queue; but only at a topic exchange can RabbitMQ say who may use which key.
        self.exchange = RabbitExchange(name, type=ExchangeType.TOPIC, durable=True, declare=_declare)
        self.queue = _quorum_queue(
            name,
            arguments={
                "x-message-ttl": milliseconds,
                # The default exchange routes by queue name, and the routing key names the consumer's queue.
                "x-dead-letter-exchange": "",
                "x-dead-letter-strategy": "at-least-once",
                "x-overflow": "reject-publish",
            },
        )


def _quorum_queue(name: str, *, routing_key: str = "", arguments: dict[str, Any]) -> RabbitQueue:
    return RabbitQueue(
        name,
        queue_type=QueueType.QUORUM,
        durable=True,
        declare=_declare,
        routing_key=routing_key,
        arguments=cast("Any", arguments),  # its TypedDict lacks arguments that quorum queues have
    )


RETRY_LEVELS = tuple(RetryLevel(delay) for delay in get_settings().retry_delays_seconds)
UNROUTED_QUEUE = _quorum_queue("unrouted", arguments={"x-delivery-limit": _NO_DELIVERY_LIMIT})
DEAD_QUEUE = _quorum_queue("dead", arguments={"x-delivery-limit": _NO_DELIVERY_LIMIT})
ARCHIVED_QUEUES = (UNROUTED_QUEUE, DEAD_QUEUE)
"""They take any message, and are where it ends: what cannot be archived stays in them."""

EXCHANGES = (UNROUTED, DEAD, REPLAY, EVENTS, *(level.exchange for level in RETRY_LEVELS))
"""Every exchange, those that others name first."""


class Binding(NamedTuple):
    """What leads messages from an exchange into a queue."""

    exchange: RabbitExchange
    queue: RabbitQueue
    routing_key: str = ""


SHARED_BINDINGS = (
    Binding(UNROUTED, UNROUTED_QUEUE),
    Binding(DEAD, DEAD_QUEUE),
    *(Binding(level.exchange, level.queue, "#") for level in RETRY_LEVELS),
)
"""Of every queue that is no consumer's inbox."""

_EVENT_OF_QUEUE: dict[str, type[Event]] = {}


def inbox(app: str, event: type[Event]) -> RabbitQueue:
    """The queue in which `app` receives one event: `stock.order-created`, `stock.order-created-v2`."""
    name = f"{app}.{event.topic.replace('.', '-').removesuffix('-v1')}"
    _EVENT_OF_QUEUE[name] = event
    return _quorum_queue(
        name,
        routing_key=event.topic,
        arguments={
            "x-delivery-limit": DELIVERY_LIMIT,
            "x-dead-letter-exchange": DEAD.name,
            # Even what RabbitMQ itself gives up is moved only once the dead letters have it.
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        },
    )


def event_of(queue: RabbitQueue) -> type[Event] | None:
    """The one event that an inbox receives; none if the queue takes any message."""
    return _EVENT_OF_QUEUE.get(queue.name)


def bindings_of(queue: RabbitQueue) -> tuple[Binding, ...]:
    """What leads into a consumer's queue."""
    if event_of(queue) is None:
        return tuple(binding for binding in SHARED_BINDINGS if binding.queue == queue)
    return Binding(EVENTS, queue, queue.routing_key), Binding(REPLAY, queue, queue.name)


def outcome(event: type[Event]) -> dict[str, Any]:
    """Arguments of a publisher that announces one event."""
    return {
        "exchange": EVENTS,
        "routing_key": event.topic,
        "persist": True,
        "schema": event,
        "title": event.__name__,
        "description": event.__doc__,
    }


async def declare(publishing: RabbitDeclarer, consuming: RabbitDeclarer) -> None:
    """Declare all that does not belong to one consumer, or check that it is there.

    A publisher declares its exchanges over the connection that it publishes by.
    """
    for exchange in EXCHANGES:
        await publishing.declare_exchange(exchange)
    for exchange, queue, routing_key in SHARED_BINDINGS:
        declared = await consuming.declare_queue(queue)
        if queue.declare:
            await declared.bind(exchange.name, routing_key)
