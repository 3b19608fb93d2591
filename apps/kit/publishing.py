"""Publishing outside a handler: confirmed by RabbitMQ, or an error that says it may not have arrived."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aio_pika
from aio_pika.exceptions import AMQPError, PublishError
from faststream.exceptions import FastStreamException
from faststream.rabbit import RabbitExchange

from apps.kit.broker import EventBroker
from apps.kit.errors import DependencyUnavailable
from contracts import Event

Publish = Callable[[Event], Awaitable[None]]


class PublishFailed(DependencyUnavailable):
    """Not confirmed: the event may have arrived or not. Publish it again, its id makes a repeat harmless."""

    def __init__(self, what: str, cause: BaseException) -> None:
        super().__init__(f"{what}: {str(cause) or type(cause).__name__}")


class Undeliverable(Exception):  # noqa: N818
    """No queue is bound for the message, so it certainly did not arrive."""

    def __init__(self, exchange: RabbitExchange, routing_key: str) -> None:
        super().__init__(f"nothing is bound to the exchange {exchange.name} for {routing_key!r}")


async def publish(broker: EventBroker, event: Event) -> None:
    """Publish an event under the routing key of its class and wait for the confirm.

    Raises:
        PublishFailed: RabbitMQ is out of reach, refused it, or did not confirm in time.
    """
    try:
        await broker.announce(event)
    except (DependencyUnavailable, AMQPError, RuntimeError, FastStreamException) as error:
        raise PublishFailed(f"{event.topic} {event.correlation_id}", error) from error


async def publish_message(
    broker: EventBroker, message: aio_pika.Message, exchange: RabbitExchange, routing_key: str
) -> None:
    """Publish a message as it is, without making an event of it, and wait for the confirm.

    Raises:
        Undeliverable: RabbitMQ returned it.
        PublishFailed: RabbitMQ is out of reach, refused it, or did not confirm in time.
    """
    try:
        await broker.send(message, exchange, routing_key)
    except PublishError as error:
        raise Undeliverable(exchange, routing_key) from error
    except (DependencyUnavailable, AMQPError, RuntimeError, FastStreamException) as error:
        raise PublishFailed(f"{routing_key} {message.message_id}", error) from error


@asynccontextmanager
async def event_publisher(
    app: str, rabbitmq_url: str | None = None, *, timeout_seconds: float = 10
) -> AsyncIterator[Publish]:
    """A connection that only publishes, for a process that is no worker.

    Args:
        app: what the messages' `app_id` names as their sender.
        rabbitmq_url: the one in the settings if not given.
        timeout_seconds: how long to wait for RabbitMQ at the start.

    Raises:
        DependencyUnavailable: RabbitMQ does not answer.
    """
    broker = EventBroker(app, rabbitmq_url)
    await broker.connect_within(timeout_seconds)
    try:
        await broker.start_once()
        yield lambda event: publish(broker, event)
    finally:
        await broker.stop()
