"""The ceiling of typed messages on aio-pika: the same messages as hand-written has, with empty handlers.

Each worker process reads an event by its contract, writes an outcome of three lines by its own, publishes it,
waits for the confirm and acknowledges. Nothing is decided, and nothing stored. The queues are those of
hand-written. `wire` does the same without reading or writing events: it answers with bytes made at its start.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import aio_pika
import uvloop
from aio_pika.abc import AbstractExchange, AbstractIncomingMessage

from contracts import Event, InvoiceIssued, NotificationSent, OrderCreated, OrderValidated
from contracts.envelope import envelope
from tests.bench.contender import EVENTS, Books, Entry, Place
from tests.bench.contenders.hand_written import CONTENDER as HAND_WRITTEN
from tests.bench.contenders.hand_written import STAGES, declare_topology, queue_name

Consumer = Callable[[AbstractIncomingMessage], Awaitable[None]]
PREFETCH = 100
"""Unless the variable `BENCH_PREFETCH` has another one tried."""
OUTCOMES: Mapping[str, type[Event]] = {
    "stock": OrderValidated,
    "billing": InvoiceIssued,
    "notifications": NotificationSent,
}


def example(kind: type[Event]) -> Event:
    """One about an order of three lines."""
    content: dict[str, Any] = dict(kind.example)
    if lines := content.get("lines"):
        free = {**lines[0], "sku": "85123B", "unit_price": "0.00"}
        content["lines"] = [*lines, free | ({"tax": "0.00"} if "tax" in free else {})]
    return kind.model_validate(content)


def answer(heard: type[Event], outcome: type[Event], exchange: AbstractExchange, *, typed: bool) -> Consumer:
    """A consumer that announces the outcome and then acknowledges."""
    event = example(outcome)
    prepared = envelope(event)

    async def on_message(message: AbstractIncomingMessage) -> None:
        if typed:
            heard.model_validate_json(message.body)
        content = envelope(event) if typed else prepared
        identity = {"message_id": message.message_id, "correlation_id": message.correlation_id}
        await exchange.publish(aio_pika.Message(**{**content, **identity}), outcome.topic)
        await message.ack()

    return on_message


def acknowledge(heard: type[Event], *, typed: bool) -> Consumer:
    """A consumer with nothing to announce."""

    async def on_message(message: AbstractIncomingMessage) -> None:
        if typed:
            heard.model_validate_json(message.body)
        await message.ack()

    return on_message


async def work(stage: str, *, typed: bool) -> None:
    """Be the worker process of one stage until SIGTERM."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    async with await aio_pika.connect_robust(os.environ["BENCH_RABBITMQ_URL"]) as connection:
        publishing = await connection.channel(on_return_raises=True)
        exchange = await publishing.get_exchange(EVENTS)
        consuming = await connection.channel()
        await consuming.set_qos(prefetch_count=int(os.environ.get("BENCH_PREFETCH", PREFETCH)))
        for event in STAGES[stage].events:
            if stage in OUTCOMES:
                consumer = answer(event, OUTCOMES[stage], exchange, typed=typed)
            else:
                consumer = acknowledge(event, typed=typed)
            await (await consuming.get_queue(queue_name(stage, event))).consume(consumer)
        await stopping.wait()


class Bare:
    """The contender, `bare` or `wire`."""

    keeps_books = False

    def __init__(self, name: str) -> None:
        self.name = name

    def commands(self, _place: Place) -> Mapping[str, Sequence[str]]:
        return {stage: [sys.executable, "-m", __name__, stage, self.name] for stage in STAGES}

    def queues(self, place: Place) -> Sequence[str]:
        return HAND_WRITTEN.queues(place)

    async def prepare(self, place: Place, _stock: Mapping[str, int]) -> None:
        await declare_topology(place)

    def entry(self, order: OrderCreated) -> Entry:
        return HAND_WRITTEN.entry(order)

    async def books(self, _place: Place) -> Books:
        raise NotImplementedError("it stores nothing")


CONTENDER = Bare("bare")

if __name__ == "__main__":
    uvloop.run(work(sys.argv[1], typed=sys.argv[2] == "bare"))
