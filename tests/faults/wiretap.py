"""A wiretap on an exchange: a queue of its own that keeps a copy of all that was ever published there."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import aio_pika
from pydantic import ValidationError

from apps.kit.topology import EVENTS as EXCHANGE
from contracts import EVENTS, Event

QUEUE = "wiretap"
_BY_TOPIC = {event.topic: event for event in EVENTS}
_QUORUM = {"x-queue-type": "quorum"}


@dataclass(frozen=True)
class Heard:
    """One message as it was published."""

    topic: str
    message_id: str | None
    body: bytes

    def event(self) -> Event | None:
        """The event that it is, unless it is poison."""
        try:
            return _BY_TOPIC[self.topic].model_validate_json(self.body)
        except (KeyError, ValidationError):
            return None


class Wiretap:
    """Listens from the moment its context opens; the queue survives whatever becomes of the broker."""

    def __init__(
        self,
        rabbitmq_url: str,
        routing_keys: Iterable[str] = ("#",),
        *,
        exchanges: Iterable[str] = (EXCHANGE.name,),
        queue: str = QUEUE,
    ) -> None:
        self._url = rabbitmq_url
        self._bindings = [(exchange, key) for exchange in exchanges for key in routing_keys]
        self._queue = queue
        self.kept: list[Heard] = []
        """What was read from the queue so far."""

    async def __aenter__(self) -> Self:
        async with await aio_pika.connect(self._url, timeout=10) as connection:
            channel = await connection.channel()
            queue = await channel.declare_queue(self._queue, durable=True, arguments=_QUORUM)
            for exchange, routing_key in self._bindings:
                await queue.bind(exchange, routing_key)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing: the queue goes with its virtual host."""

    async def heard(self) -> list[Heard]:
        """All that was published until now, in the order in which RabbitMQ took it."""
        async with await aio_pika.connect(self._url, timeout=10) as connection:
            channel = await connection.channel()
            queue = await channel.declare_queue(self._queue, durable=True, arguments=_QUORUM)
            waiting = queue.declaration_result.message_count or 0
            if not waiting:
                return self.kept
            await channel.set_qos(prefetch_count=500)
            async with queue.iterator(timeout=10) as messages:
                async for message in messages:
                    await message.ack()
                    self.kept.append(Heard(message.routing_key or "", message.message_id, message.body))
                    waiting -= 1
                    if not waiting:
                        break
        return self.kept
