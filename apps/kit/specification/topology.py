"""What RabbitMQ holds for some apps, and for all of them together, exactly as it is declared."""

from collections.abc import Sequence
from typing import Any

from apps.kit.broker import EventBroker
from apps.kit.topology import EXCHANGES, SHARED_BINDINGS, Binding, bindings_of


def bindings(brokers: Sequence[EventBroker]) -> list[Binding]:
    """Every queue that the apps consume or that all share, with the exchanges that feed it."""
    queues = [consumer.queue for broker in brokers for consumer in broker.consumers]
    consumed = [
        binding for queue in sorted(queues, key=lambda queue: queue.name) for binding in bindings_of(queue)
    ]
    return list(dict.fromkeys([*consumed, *SHARED_BINDINGS]))


def topology(brokers: Sequence[EventBroker]) -> dict[str, Any]:
    """The same as data, for whoever has to declare it without this code."""
    fed = bindings(brokers)
    return {
        "exchanges": [
            {
                "name": exchange.name,
                "type": exchange.type.value,
                "durable": exchange.durable,
                "arguments": exchange.arguments or {},
            }
            for exchange in EXCHANGES
        ],
        "queues": [
            {
                "name": queue.name,
                "type": queue.arguments["x-queue-type"],
                "durable": queue.durable,
                "arguments": queue.arguments,
            }
            for queue in dict.fromkeys(binding.queue for binding in fed)
        ],
        "bindings": [
            {"exchange": exchange.name, "queue": queue.name, "routingKey": routing_key}
            for exchange, queue, routing_key in fed
        ],
    }
