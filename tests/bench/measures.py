"""What is measured, beside saturation: latency at a rate, growth, memory, replicas, a long backlog."""

import asyncio
import statistics
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

from pymongo import MongoClient

from tests.bench.calm import calm
from tests.bench.contenders.orderflow import Orderflow
from tests.bench.orders import ARTICLES, article, made, orders
from tests.bench.reach import Record
from tests.bench.rounds import WARM_UP, Session, contender, session, timing
from tests.bench.services import Services

PLENTY = {article(number): 10**9 for number in range(ARTICLES)}
SHARES = (0.25, 0.5, 0.8)
"""Of the slowest contender's peak: the rates at which latency is measured."""
CHUNK = 5_000
_SAMPLE_SECONDS = 5.0
_FILL_AT_ONCE = 5_000


async def latency(
    services: Services, name: str, number: int, peak: float, seconds: float, logs: Path
) -> list[Record]:
    """How long an order takes while so many come in, at several shares of a peak in orders per second."""
    rates = [round(share * peak, 2) for share in SHARES]
    counts = [max(50, int(rate * seconds)) for rate in rates]
    many = orders("three-lines", sum(counts), f"latency-{number}")
    source = iter(many)
    found: list[Record] = []
    async with session(services, contender(name), many, logs, warm_up=_warm_up(number)) as one:
        for share, rate, count in zip(SHARES, rates, counts, strict=True):
            run = await one.at_rate(list(islice(source, count)), rate)
            times = timing(count, run)
            found.append(
                {
                    "measure": "latency",
                    "contender": name,
                    "round": number,
                    "share": share,
                    "rate": rate,
                    "achieved": times["orders_per_second"],
                    "p50_ms": times["p50_ms"],
                    "p99_ms": times["p99_ms"],
                }
            )
    return found


async def replicas(services: Services, count: int, number: int, many: int, logs: Path) -> list[Record]:
    """Orders per second with so many processes of each worker."""
    load = orders("three-lines", many, f"replicas-{number}")
    async with session(services, Orderflow(replicas=count), load, logs, warm_up=_warm_up(number)) as one:
        with one.measured(many) as record:
            run = await one.flood(load)
    return [{"measure": "replicas", "replicas": count, "round": number, **timing(many, run), **record}]


async def growth(
    services: Services, sizes: Sequence[int], rounds: int, many: int, logs: Path, say: Callable[[str], None]
) -> list[Record]:
    """Orders per second with so many orders stored before; the sizes take turns, all of them running."""
    found: list[Record] = []
    async with AsyncExitStack() as running:
        sessions: dict[int, Session] = {}
        for size in sizes:
            started = session(
                services, Orderflow(), [], logs / f"{size}", warm_up=_warm_up(size), stock=PLENTY
            )
            sessions[size] = await running.enter_async_context(started)
            await sessions[size].audit()
            say(f"storing {size:,} orders")
            await asyncio.to_thread(_store, services, sessions[size], size)
        for number in range(1, rounds + 1):
            for size, one in sessions.items():
                found += await calm(partial(_grown, one, size, number, many), say)
                say(f"{size:,} stored: {found[-1]['orders_per_second']:.0f} orders/s")
    return found


async def _grown(one: Session, size: int, number: int, many: int) -> list[Record]:
    load = orders("three-lines", many, f"growth-{size}-{uuid4()}")
    with one.measured(many) as record:
        run = await one.flood(load)
    return [{"measure": "growth", "stored": size, "round": number, **timing(many, run), **record}]


async def endurance(
    services: Services, handled: int, backlog: int, logs: Path, say: Callable[[str], None]
) -> list[Record]:
    """Memory over many orders, the last of which come as one backlog that has to be drained."""
    source = made(handled + backlog, "endurance")
    samples: list[Record] = []
    async with (
        session(services, Orderflow(), [], logs, warm_up=_warm_up(0), stock=PLENTY) as one,
        _sampled(one, samples),
    ):
        while (done := one.handled - WARM_UP) < handled:
            await one.flood(list(islice(source, min(CHUNK, handled - done))))
            say(f"{one.handled:,} orders")
        run = await one.flood(list(source), deadline_seconds=1800)
    record: Record = {"measure": "backlog", "orders": backlog, **timing(backlog, run), "curve": run.curve}
    return [*samples, record]


@asynccontextmanager
async def _sampled(one: Session, samples: list[Record]) -> AsyncIterator[None]:
    async def sample() -> None:
        while True:
            mib = {name: round(now, 1) for name, now in one.processes.mib().items() if name in one.names}
            samples.append({"measure": "memory", "orders": one.driver.told, "mib": mib})
            await asyncio.sleep(_SAMPLE_SECONDS)

    task = asyncio.create_task(sample())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def slowest_peak(records: Sequence[Record]) -> float:
    """Of all contenders' median orders per second, the lowest."""
    found: dict[str, list[float]] = {}
    for record in records:
        if record["measure"] == "saturation" and record["workload"] == "three-lines":
            found.setdefault(record["contender"], []).append(record["orders_per_second"])
    if not found:
        raise LookupError("latency is measured at shares of a peak: measure saturation first")
    return min(map(statistics.median, found.values()))


def _warm_up(number: int) -> list[Any]:
    return orders("three-lines", WARM_UP, f"warm-{number}")


def _store(services: Services, one: Session, count: int) -> None:
    """Put so many more orders into the databases, each a copy of one that went the whole way."""
    if not count:
        return
    with MongoClient[dict[str, Any]](services.mongodb.url, uuidRepresentation="standard", w=1) as client:
        for app, name, change in (
            ("stock", "reservations", _aged("decided_at")),
            ("billing", "invoices", _numbered(one.handled)),
            ("notifications", "notifications", _aged("at")),
            ("orders", "orders", _aged("recorded_at", "changed_at")),
        ):
            collection = client[f"{one.place.database}_{app}"][name]
            model = collection.find_one({})
            assert model is not None
            copies = (model | {"_id": uuid4()} | change(model, number) for number in range(count))
            while group := list(islice(copies, _FILL_AT_ONCE)):
                collection.insert_many(group, ordered=False)
        client[f"{one.place.database}_billing"].series.update_many({}, {"$inc": {"last_number": count}})
    one.stored += count


Change = Callable[[dict[str, Any], int], dict[str, Any]]


def _aged(*fields: str) -> Change:
    """Times that lie back, one second an order, and customers, references and orders of their own."""
    now = datetime.now(UTC)

    def change(model: dict[str, Any], number: int) -> dict[str, Any]:
        changed: dict[str, Any] = dict.fromkeys(fields, now - timedelta(seconds=number))
        if "customer_id" in model:
            changed |= {"customer_id": f"customer-{number % 10_000}", "reference": f"stored-{number}"}
        if "order_id" in model:
            changed["order_id"] = uuid4()
        return changed

    return change


def _numbered(first: int) -> Change:
    """The next numbers of the series."""

    def change(model: dict[str, Any], number: int) -> dict[str, Any]:
        prefix, _, digits = model["number"].rpartition("-")
        return {
            "number": f"{prefix}-{first + 1 + number:0{len(digits)}}",
            "customer_id": f"c-{number % 10_000}",
        }

    return change
