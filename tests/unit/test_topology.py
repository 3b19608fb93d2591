"""What RabbitMQ holds: queues that survive, limits on every one, and a name that says what it is for."""

from collections import Counter
from typing import cast

import pytest
from faststream.rabbit import ExchangeType, RabbitQueue
from faststream.rabbit.publisher import RabbitPublisher

from apps.cli.system import BROKERS, bindings
from apps.kit.broker import EventBroker
from apps.kit.topology import (
    ARCHIVED_QUEUES,
    DEAD,
    DELIVERY_LIMIT,
    EVENTS,
    EXCHANGES,
    REPLAY,
    RETRY_LEVELS,
    UNROUTED,
    RetryLevel,
    event_of,
    inbox,
    outcome,
)
from contracts import EVENTS as EVENT_TYPES
from contracts import OrderCreated

CONSUMED = sorted(
    (consumer.queue for broker in BROKERS for consumer in broker.consumers), key=lambda queue: queue.name
)
INBOXES = [queue for queue in CONSUMED if event_of(queue)]

of_every_inbox = pytest.mark.parametrize("queue", INBOXES, ids=lambda queue: queue.name)


@of_every_inbox
def test_inbox_survives_and_gives_up_in_the_end(queue: RabbitQueue) -> None:
    """An inbox is replicated, bounds the redeliveries of a crash loop, and keeps what it gives up."""
    assert queue.durable
    assert queue.arguments["x-queue-type"] == "quorum"
    assert queue.arguments["x-delivery-limit"] == DELIVERY_LIMIT
    assert queue.arguments["x-dead-letter-exchange"] == DEAD.name


@of_every_inbox
def test_inbox_receives_one_event(queue: RabbitQueue) -> None:
    """Its routing key is one topic, without wildcards, and its name says whose it is and of what."""
    event = event_of(queue)
    assert event is not None
    assert queue.routing_key == event.topic
    app = queue.name.partition(".")[0]
    assert queue.name == inbox(app, event).name
    assert app in {broker.app for broker in BROKERS}


def test_each_inbox_has_one_consumer() -> None:
    """No two handlers share a queue, or each would see only some of its events."""
    assert max(Counter(queue.name for queue in CONSUMED).values()) == 1


def test_every_event_is_received_by_someone() -> None:
    """Nothing is announced that nobody listens to."""
    assert {event_of(queue) for queue in INBOXES} == set(EVENT_TYPES)


def test_every_queue_is_a_durable_quorum_queue() -> None:
    """Also those of the retry levels, the dead letters and the unrouted."""
    for _, queue, _ in bindings():
        assert queue.durable, queue.name
        assert queue.arguments["x-queue-type"] == "quorum", queue.name


@of_every_inbox
def test_inbox_is_reached_by_its_event_and_by_its_name(queue: RabbitQueue) -> None:
    """What is replayed goes to the one consumer that failed, not to all that the event is for."""
    led_by = {(binding.exchange, binding.routing_key) for binding in bindings() if binding.queue == queue}
    assert led_by == {(EVENTS, queue.routing_key), (REPLAY, queue.name)}


@pytest.mark.parametrize("queue", ARCHIVED_QUEUES, ids=lambda queue: queue.name)
def test_archived_queue_never_drops_a_message(queue: RabbitQueue) -> None:
    """RabbitMQ 4 gives up after 20 redeliveries unless told otherwise, and there is no further place."""
    assert queue.arguments["x-delivery-limit"] > 1_000_000_000


def test_every_exchange_is_durable() -> None:
    """A restart of RabbitMQ loses no exchange."""
    assert all(exchange.durable for exchange in EXCHANGES)
    assert len({exchange.name for exchange in EXCHANGES}) == len(EXCHANGES)


def test_unrouted_events_are_caught() -> None:
    """What no queue is bound for goes to the alternate exchange, which has a queue."""
    assert EVENTS.type is ExchangeType.TOPIC
    assert EVENTS.arguments == {"alternate-exchange": UNROUTED.name}
    fed = {binding.exchange.name for binding in bindings()}
    assert {UNROUTED.name, DEAD.name} <= fed


@pytest.mark.parametrize(
    ("seconds", "name"), [(2, "retry.2000ms"), (0.1, "retry.100ms"), (600, "retry.600000ms")]
)
def test_retry_level_carries_its_delay(seconds: float, name: str) -> None:
    """A changed delay is a new queue, since RabbitMQ refuses to change the old one."""
    level = RetryLevel(seconds)
    assert (level.queue.name, level.exchange.name) == (name, name)
    assert level.queue.arguments["x-message-ttl"] == seconds * 1000


def test_retry_levels_return_to_the_queue_and_lose_nothing() -> None:
    """Through the default exchange, at least once, and refusing what they have no room for."""
    for level in RETRY_LEVELS:
        assert level.queue.arguments["x-dead-letter-exchange"] == ""
        assert level.queue.arguments["x-dead-letter-strategy"] == "at-least-once"
        assert level.queue.arguments["x-overflow"] == "reject-publish"
    assert len({level.queue.name for level in RETRY_LEVELS}) == len(RETRY_LEVELS)


@pytest.mark.parametrize("broker", BROKERS, ids=lambda broker: broker.app)
def test_apps_publish_persistent_events_under_their_topics(broker: EventBroker) -> None:
    """Every announced event goes to the events exchange, is written to disk, and is one of the contracts."""
    topics = {event.topic for event in EVENT_TYPES}
    for publisher in cast("list[RabbitPublisher]", broker.publishers):
        assert publisher.exchange == EVENTS
        assert publisher.routing_key in topics
        assert publisher._message_options["persist"] is True


def test_names_are_derived_from_app_and_event() -> None:
    """A queue and a publisher need nothing but the app and the event."""
    assert inbox("stock", OrderCreated).name == "stock.order-created"
    assert outcome(OrderCreated)["routing_key"] == "order.created.v1"
