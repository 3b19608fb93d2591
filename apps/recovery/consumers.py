"""Who would take a replayed message: the number of consumers that RabbitMQ itself counts."""

import asyncio

from aio_pika.exceptions import AMQPError, ChannelNotFoundEntity

from apps.kit.broker import EventBroker
from apps.kit.errors import DependencyUnavailable

_ANSWER_TIMEOUT_SECONDS = 3.0


class Consumers:
    """Consumers by queue, each asked for once."""

    def __init__(self, broker: EventBroker) -> None:
        self._broker = broker
        self._counts: dict[str, int | None] = {}

    async def of(self, queue: str) -> int | None:
        """How many consume a queue; None if there is no such queue.

        Raises:
            DependencyUnavailable: RabbitMQ does not answer.
        """
        if queue not in self._counts:
            try:
                async with asyncio.timeout(_ANSWER_TIMEOUT_SECONDS):
                    self._counts[queue] = await self._count(queue)
            except (TimeoutError, AMQPError, OSError, RuntimeError) as error:
                reason = str(error) or type(error).__name__
                raise DependencyUnavailable(f"RabbitMQ is out of reach: {reason}") from error
        return self._counts[queue]

    async def _count(self, queue: str) -> int | None:
        if not await self._broker.ping(timeout=1):
            raise DependencyUnavailable("RabbitMQ is out of reach")
        connection = await self._broker.connect()
        # On a channel of its own: that a queue does not exist closes it.
        async with connection.channel(publisher_confirms=False) as channel:
            try:
                found = await channel.declare_queue(queue, passive=True, robust=False)
            except (ChannelNotFoundEntity, ValueError):  # the latter of a name that no client could say
                return None
        return found.declaration_result.consumer_count
