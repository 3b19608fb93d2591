"""What an app does: it sends events, and it receives what its queues hold."""

from collections.abc import Iterator
from inspect import cleandoc
from typing import Any, cast

from faststream.rabbit.publisher import RabbitPublisher
from faststream.rabbit.subscriber.usecase import RabbitSubscriber

from apps.kit.broker import EventBroker
from apps.kit.specification.messages import AMQP_BINDING, summary_of, text_of, title_of
from apps.kit.topology import EVENTS, event_of
from contracts import Event
from contracts.envelope import PERSISTENT


def operations(broker: EventBroker) -> dict[str, dict[str, Any]]:
    """Every operation of one app by its name."""
    sent = {f"{broker.app}.send.{event.__name__}": _send(broker, event) for event in sent_by(broker)}
    received = {
        f"{broker.app}.receive.{_name(consumer)}": _receive(broker, consumer) for consumer in broker.consumers
    }
    return sent | received


def sent_by(broker: EventBroker) -> set[type[Event]]:
    """The events that an app publishes."""
    return set(_events(cast("list[RabbitPublisher]", broker.publishers)))


def _events(publishers: list[RabbitPublisher]) -> Iterator[type[Event]]:
    for publisher in publishers:
        yield cast("type[Event]", publisher.specification.config.schema_)


def _follows(consumer: RabbitSubscriber) -> set[type[Event]]:
    """The events that a consumer's handler may announce."""
    publishers = [publisher for call in consumer.calls for publisher in call.handler._publishers]  # noqa: SLF001
    return set(_events(cast("list[RabbitPublisher]", publishers)))


def _send(broker: EventBroker, event: type[Event]) -> dict[str, Any]:
    text = text_of(event)
    causes = [f"`{_name(consumer)}`" for consumer in broker.consumers if event in _follows(consumer)]
    after = f" May follow {_either(causes)}." if causes else ""
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{event.topic}"},
        "title": f"{broker.app} sends {title_of(event)}",
        "summary": summary_of(text),
        "description": f"{text}\n\nPublished to the exchange `{EVENTS.name}` with the routing key "
        f"`{event.topic}`, persistent, mandatory, and confirmed by RabbitMQ.{after}",
        "tags": [{"name": broker.app}],
        # `ack` says nothing of what is sent, but `faststream docs serve FILE` takes no document without it.
        "bindings": {"amqp": {"deliveryMode": PERSISTENT, "mandatory": True, "ack": True, **AMQP_BINDING}},
        "messages": [{"$ref": f"#/channels/{event.topic}/messages/{event.__name__}"}],
    }


def _receive(broker: EventBroker, consumer: RabbitSubscriber) -> dict[str, Any]:
    queue, event = consumer.queue, event_of(consumer.queue)
    text = cleandoc(consumer.specification.description or "")
    outcomes = [f"`{outcome.__name__}`" for outcome in _follows(consumer)]
    after = f" May lead to {_either(outcomes)}." if outcomes else ""
    return {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{queue.name}"},
        "title": f"{broker.app} receives {title_of(event) if event else 'any message'}",
        "summary": summary_of(text),
        "description": f"{text}\n\nTaken from the queue `{queue.name}`, and acknowledged once it is handled "
        f"or set aside for another attempt.{after}",
        "tags": [{"name": broker.app}],
        "bindings": {"amqp": {"deliveryMode": PERSISTENT, "ack": True, **AMQP_BINDING}},
        "messages": [{"$ref": f"#/channels/{queue.name}/messages/{event.__name__}"}] if event else [],
    }


def _name(consumer: RabbitSubscriber) -> str:
    event = event_of(consumer.queue)
    return event.__name__ if event else consumer.queue.name


def _either(names: list[str]) -> str:
    *others, last = sorted(names)
    return f"{', '.join(others)} or {last}" if others else last
