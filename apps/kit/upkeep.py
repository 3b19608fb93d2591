"""Upkeep: a consumer sees to it that what it consumes still reaches it."""

import asyncio
from typing import TYPE_CHECKING

from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import AMQPError
from structlog.stdlib import get_logger

from apps.kit.topology import bindings_of

if TYPE_CHECKING:  # it imports this module
    from apps.kit.broker import EventBroker

_INTERVAL_SECONDS = 10.0

log = get_logger()


async def keep_bound(broker: "EventBroker") -> None:
    """Bind every queue of the broker's consumers, at once and again and again.

    Binding what is bound changes nothing, and needs no right to configure: only to write to the queue and
    to read from the exchange.
    """
    while True:
        try:
            if await broker.ping(timeout=1):
                await bind_all(broker, await broker.connect())
        except (AMQPError, OSError, RuntimeError, TimeoutError) as error:
            log.error("could not bind", error=str(error) or type(error).__name__)  # noqa: TRY400
        await asyncio.sleep(_INTERVAL_SECONDS)


async def bind_all(broker: "EventBroker", connection: AbstractConnection) -> None:
    """Bind every queue of the broker's consumers."""
    # On a channel of its own: a refusal closes it, and would take the handlers of a consumer with it.
    async with asyncio.timeout(_INTERVAL_SECONDS), connection.channel() as channel:
        for consumer in broker.consumers:
            queue = await channel.get_queue(consumer.queue.name, ensure=False)
            for exchange, _, routing_key in bindings_of(consumer.queue):
                await queue.bind(exchange.name, routing_key)
