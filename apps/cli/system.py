"""The whole system on one page: every app, its documents, and all that RabbitMQ holds for them."""

import aio_pika
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import AMQPError
from faststream.specification.base import SpecificationFactory

from apps.billing import app as billing
from apps.documents import app as documents_app
from apps.ingress import api as ingress
from apps.kit.broker import EventBroker
from apps.kit.errors import DependencyUnavailable
from apps.kit.specification import EventSpecification
from apps.kit.specification import bindings as bindings_of_brokers
from apps.kit.topology import EXCHANGES, Binding
from apps.kit.worker import specification
from apps.notifications import app as notifications
from apps.orders import app as orders
from apps.recovery import app as recovery
from apps.stock import app as stock
from apps.webhooks import app as webhooks

BROKERS: tuple[EventBroker, ...] = (
    ingress.broker,
    orders.broker,
    stock.broker,
    billing.broker,
    notifications.broker,
    recovery.broker,
    webhooks.broker,
    documents_app.broker,
)


def documents() -> dict[str, SpecificationFactory]:
    """The AsyncAPI document of each app, and `system` for all together, by name."""
    apps = {
        "ingress": specification(ingress.broker, "Takes orders over HTTP."),
        "orders": orders.app.schema,
        "stock": stock.app.schema,
        "billing": billing.app.schema,
        "notifications": notifications.app.schema,
        "recovery": recovery.app.schema,
        "webhooks": webhooks.app.schema,
        "documents": documents_app.app.schema,
    }
    system = EventSpecification(
        *BROKERS,
        title="Orderflow",
        description="Every event of the order pipeline, and who handles it.",
        apps={name: app.description or "" for name, app in apps.items()},
    )
    return {**apps, "system": system}


def bindings() -> list[Binding]:
    """Every queue with the exchanges that feed it."""
    return bindings_of_brokers(BROKERS)


async def apply_topology(rabbitmq_url: str) -> None:
    """Declare everything; what is there already must be the same.

    Raises:
        DependencyUnavailable: RabbitMQ does not answer, or something of that name has another shape.
    """
    try:
        connection = await aio_pika.connect(rabbitmq_url, timeout=10)
        async with connection, connection.channel() as channel:
            await _declare_all(channel)
    except (AMQPError, OSError) as error:
        raise DependencyUnavailable(f"RabbitMQ: {str(error) or type(error).__name__}") from error


async def _declare_all(channel: AbstractChannel) -> None:
    for exchange in EXCHANGES:
        await channel.declare_exchange(
            exchange.name, exchange.type.value, durable=True, arguments=exchange.arguments
        )
    for exchange, queue, routing_key in bindings():
        declared = await channel.declare_queue(queue.name, durable=True, arguments=queue.arguments)
        await declared.bind(exchange.name, routing_key)
