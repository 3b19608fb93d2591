"""One round: a contender gets its own place, warms up, does the work, and has its books audited."""

import asyncio
import importlib
import os
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts import OrderCreated
from tests.bench.contender import Contender, Place
from tests.bench.driver import Driver, Run
from tests.bench.orders import orders, units
from tests.bench.processes import Processes, started
from tests.bench.services import Services

CONTENDERS = {
    "orderflow": "orderflow",
    "hand-written": "hand_written",
    "celery": "celery_tasks",
    "taskiq": "taskiq_tasks",
    "faststream-plain": "faststream_plain",
    "bare": "bare",
    "wire": "wire",
}
"""The module of each, by its name in the tables."""
WARM_UP = 200
_AUDIT_SECONDS = 60.0


def contender(name: str) -> Contender:
    """The contender of that name."""
    found: Contender = importlib.import_module(f"tests.bench.contenders.{CONTENDERS[name]}").CONTENDER
    return found


@dataclass
class Session:
    """A contender whose processes run."""

    contender: Contender
    place: Place
    driver: Driver
    processes: Processes
    stored: int = 0
    """Orders that were in its books before, their invoices numbered from 1."""
    handled: int = 0
    """Orders since then."""
    units: int = 0

    @property
    def names(self) -> Sequence[str]:
        """Of the contender's own processes."""
        return list(self.contender.commands(self.place))

    async def flood(
        self, many: Sequence[OrderCreated], *, repeats: int = 1, deadline_seconds: float = 300
    ) -> Run:
        """Send the orders at once; with repeats, each of them so often."""
        entries = [(str(order.order_id), self.contender.entry(order)) for order in many]
        run = await self.driver.flood(entries * repeats, deadline_seconds=deadline_seconds)
        self._note(many)
        return run

    async def at_rate(self, many: Sequence[OrderCreated], rate: float) -> Run:
        """Send so many orders per second."""
        entries = [(str(order.order_id), self.contender.entry(order)) for order in many]
        run = await self.driver.at_rate(entries, rate)
        self._note(many)
        return run

    def _note(self, many: Sequence[OrderCreated]) -> None:
        self.handled += len(many)
        self.units += sum(units(many).values())

    @contextmanager
    def measured(self, count: int) -> Iterator[dict[str, Any]]:
        """Note the CPU time per order, by process, that is spent while the context is open."""
        record: dict[str, Any] = {}
        before = self.processes.cpu_seconds()
        yield record
        after = self.processes.cpu_seconds()
        record["cpu_ms"] = {name: round((after[name] - before[name]) * 1000 / count, 3) for name in after}
        record["peak_mib"] = {name: round(mib, 1) for name, mib in self.processes.peak_mib.items()}

    async def audit(self) -> None:
        """Wait until everything is in the books, once.

        Raises:
            AssertionError: they do not balance in time.
        """
        if not self.contender.keeps_books:
            return
        deadline = time.monotonic() + _AUDIT_SECONDS
        while (wrong := await self._wrong()) and time.monotonic() < deadline:  # noqa: ASYNC110  # of a database
            await asyncio.sleep(0.2)
        if wrong:
            raise AssertionError(f"the books of {self.contender.name} do not balance: {wrong}")

    async def _wrong(self) -> str:
        books = await self.contender.books(self.place)
        count = self.stored + self.handled
        if sorted(books.invoice_numbers) != list(range(1, count + 1)):
            return f"{len(books.invoice_numbers)} invoices to {count} orders, or not from 1 without a gap"
        if books.units_reserved != self.units:
            return f"{books.units_reserved} units reserved, {self.units} ordered"
        if (books.notifications, books.notified) != (count, count):
            return f"{books.notifications} notifications, {books.notified} shown, of {count}"
        return ""


@asynccontextmanager
async def session(
    services: Services,
    who: Contender,
    many: Sequence[OrderCreated],
    logs: Path,
    *,
    warm_up: Sequence[OrderCreated],
    stock: Mapping[str, int] | None = None,
    settings: Mapping[str, str] = {},
) -> AsyncIterator[Session]:
    """A running, warm contender whose shelves hold what these orders want; its books balance at the end.

    Each order of the warm-up is sent twice: the repeats must leave no trace. `stock` says what is on the
    shelves where more orders will come.
    """
    with services.place(settings) as place:
        await who.prepare(place, stock or units([*warm_up, *many]))
        with started(who.commands(place), place.environment, logs / who.name) as pids:
            async with Driver(place.rabbitmq_url, who.queues(place)) as driver:
                processes = Processes({**pids, **services.pids, "driver": os.getpid()})
                one = Session(who, place, driver, processes)
                await one.flood(warm_up, repeats=2 if who.keeps_books else 1)
                async with processes.watching():
                    yield one
                await one.audit()


async def saturation(
    services: Services, who: Contender, workload: str, number: int, count: int, logs: Path
) -> list[dict[str, Any]]:
    """All orders at once: how many a second, at what cost; one record."""
    seed = f"{workload}-{number}"
    many, warm_up = orders(workload, count, seed), orders("three-lines", WARM_UP, f"warm-{seed}")
    async with session(services, who, many, logs, warm_up=warm_up) as one:
        with one.measured(count) as record:
            run = await one.flood(many)
    head = {"measure": "saturation", "workload": workload, "round": number, "orders": count}
    return [head | timing(count, run) | record]


def timing(count: int, run: Run) -> dict[str, float]:
    """What a run took, for a record."""
    return {
        "seconds": round(run.seconds, 3),
        "orders_per_second": round(count / run.seconds, 2),
        "p50_ms": round(run.percentile_ms(0.5), 1),
        "p99_ms": round(run.percentile_ms(0.99), 1),
    }
