"""Sends orders to a contender and hears which customers were told; the same code for all contenders."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Self

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractExchange, AbstractIncomingMessage
from aio_pika.exceptions import ChannelNotFoundEntity

from tests.bench.contender import EVENTS, TOLD, Entry

AT_ONCE = 200
"""Publishes whose confirms are awaited at the same time."""
_START_SECONDS = 90.0
_LOOK_SECONDS = 0.02


@dataclass(frozen=True)
class Run:
    """What became of some orders that were sent together."""

    seconds: float
    """From the first publish until all customers were told and all queues were empty."""
    latencies: Sequence[float]
    """Seconds from each order's publish until its customer was told, sorted."""
    curve: Sequence[tuple[float, int]]
    """Seconds since the start, and how many customers were told by then, every second."""

    def percentile_ms(self, share: float) -> float:
        """Milliseconds within which this share of the customers was told."""
        return self.latencies[min(len(self.latencies) - 1, int(share * len(self.latencies)))] * 1000


class Driver:
    """Connected while its context is open."""

    def __init__(self, rabbitmq_url: str, queues: Sequence[str]) -> None:
        self._url = rabbitmq_url
        self._queues = queues
        self._sent: dict[str, float] = {}
        self._told: dict[str, float] = {}
        self._exchanges: dict[str, AbstractExchange] = {}
        self._finished = 0
        self._undo = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Wait until every queue has a consumer, and listen."""
        async with AsyncExitStack() as undo:
            self._connection = await undo.enter_async_context(await aio_pika.connect(self._url))
            self._looking = await self._connection.channel()
            await self._until_consumed()
            self._sending = await self._connection.channel(on_return_raises=True)
            listening = await self._connection.channel()
            queue = await listening.declare_queue(exclusive=True)
            await queue.bind(EVENTS, TOLD)
            await queue.consume(self._hear, no_ack=True)
            self._undo = undo.pop_all()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._undo.aclose()

    @property
    def told(self) -> int:
        """How many customers were told since it listens."""
        return self._finished + len(self._told)

    async def flood(self, entries: Sequence[tuple[str, Entry]], *, deadline_seconds: float = 300) -> Run:
        """Send all orders as fast as RabbitMQ takes them."""
        places = asyncio.Semaphore(AT_ONCE)

        async def send(order_id: str, entry: Entry) -> None:
            try:
                await self._send(order_id, entry)
            finally:
                places.release()

        began = time.monotonic()
        async with asyncio.TaskGroup() as sends:
            for order_id, entry in entries:
                await places.acquire()
                sends.create_task(send(order_id, entry))
        return await self._finish(began, [order_id for order_id, _ in entries], deadline_seconds)

    async def at_rate(
        self, entries: Sequence[tuple[str, Entry]], rate: float, *, deadline_seconds: float = 120
    ) -> Run:
        """Send so many orders per second at equal distances, however late the answers are."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as sends:
            for number, (order_id, entry) in enumerate(entries):
                await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
                sends.create_task(self._send(order_id, entry))
        return await self._finish(began, [order_id for order_id, _ in entries], deadline_seconds)

    async def _send(self, order_id: str, entry: Entry) -> None:
        if (exchange := self._exchanges.get(entry.exchange)) is None:
            exchange = await self._sending.get_exchange(entry.exchange, ensure=False)
            self._exchanges[entry.exchange] = exchange
        self._sent.setdefault(order_id, time.monotonic())
        await exchange.publish(entry.message, entry.routing_key)

    def _hear(self, message: AbstractIncomingMessage) -> None:
        self._told.setdefault(str(message.correlation_id), time.monotonic())

    async def _finish(self, began: float, order_ids: Iterable[str], deadline_seconds: float) -> Run:
        wanted = dict.fromkeys(order_ids)
        deadline = time.monotonic() + deadline_seconds
        while not (wanted.keys() <= self._told.keys() and await self._is_empty()):
            if time.monotonic() > deadline:
                missing = len(wanted.keys() - self._told.keys())
                raise TimeoutError(f"{missing} of {len(wanted)} customers not told in {deadline_seconds:g} s")
            await asyncio.sleep(_LOOK_SECONDS)
        ended = time.monotonic()
        times = sorted(self._told[order_id] - began for order_id in wanted)
        latencies = sorted(self._told[order_id] - self._sent[order_id] for order_id in wanted)
        for order_id in wanted:
            del self._told[order_id], self._sent[order_id]
        self._finished += len(wanted)
        return Run(ended - began, latencies, _curve(times))

    async def _is_empty(self) -> bool:
        for name in self._queues:
            if (await self._looking.declare_queue(name, passive=True)).declaration_result.message_count:
                return False
        return True

    async def _until_consumed(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        for name in self._queues:
            while not await self._has_consumer(name):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"nobody consumes {name}")
                await asyncio.sleep(_LOOK_SECONDS)

    async def _has_consumer(self, name: str) -> bool:
        try:
            queue = await self._looking.declare_queue(name, passive=True)
        except ChannelNotFoundEntity:
            self._looking: AbstractChannel = await self._connection.channel()
            return False
        return bool(queue.declaration_result.consumer_count)


def _curve(times: Sequence[float]) -> list[tuple[float, int]]:
    """How many of the sorted times have passed after each whole second."""
    points: list[tuple[float, int]] = []
    done = 0
    for second in range(int(times[-1]) + 2):
        while done < len(times) and times[done] <= second:
            done += 1
        points.append((float(second), done))
    return points
