"""Far more orders than workers can take at once wait in RabbitMQ, not in the workers' memory."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from apps.kit.clock import utc_now
from contracts import OrderCreated
from tests.faults.conftest import Scenario
from tests.faults.eventually import eventually
from tests.faults.load import Load
from tests.faults.system import System

BACKLOG = 10_000
QUEUE = "stock.order-created"
HANDLER = "stock.order-created"
"""What FastStream's metrics call its consumer."""
SLOW = ("stock", "stock-2")
AT_ONCE = 200
"""Publishes that await their confirm."""
WARM = 1_000
"""Orders after which a worker has imported, allocated and cached what it needs for any further one."""
GROWTH_MIB = 20
FAIR_SHARE = 0.4
"""Of the backlog, for each of the two at least."""


@pytest.mark.faults(
    19, "a backlog of 10,000 orders on a slow consumer", "two workers of stock, 0.1 s per order"
)
async def test_backlog_on_a_slow_consumer(scenario: Scenario) -> None:
    """A worker holds its prefetch and no more, and two share the backlog.

    The orders want what nobody sells and name no contact: that is the shortest way to an end.
    """
    async with scenario.system(
        failpoints=dict.fromkeys(SLOW, "sleep:0.1"),
        replicas=2,
        settings={"ORDERFLOW_LOG_LEVEL": "warning"},  # some 50,000 lines less to write
        tap=(OrderCreated.topic,),
    ) as system:
        async with system.load(orders=0) as load:
            with frozen(system, SLOW):
                await publish_many(load, BACKLOG)
                await eventually(lambda: is_waiting(system), "the whole backlog in the queue")
            async with memory(system, SLOW) as samples:
                await eventually(lambda: is_decided(system), "the backlog decided", 300)
        await scenario.passes(system, load, 180)
        handled = {process: await orders_taken(system, process) for process in SLOW}
    for process, sizes in samples.items():
        warm = [size for decided, size in sizes if decided >= WARM]
        growth = max(warm) - warm[0]
        assert growth < GROWTH_MIB, f"{process} has grown by {growth:.0f} MiB: {warm}"
    assert sum(handled.values()) >= BACKLOG
    assert min(handled.values()) >= FAIR_SHARE * BACKLOG, handled


@contextmanager
def frozen(system: System, processes: tuple[str, ...]) -> Iterator[None]:
    """Keep processes from taking anything."""
    pids = [system.stack.supervisor.pid(process) for process in processes]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def publish_many(load: Load, number: int) -> None:
    """Publish orders as fast as RabbitMQ confirms them."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def publish() -> None:
        async with slots:
            await load.publish(hopeless_order())

    await asyncio.gather(*(publish() for _ in range(number)))


def hopeless_order() -> OrderCreated:
    return OrderCreated.model_validate(
        {
            "order_id": uuid4(),
            "customer": {"id": "backlog"},
            "currency": "GBP",
            "lines": [{"sku": "sold-by-nobody", "quantity": 1, "unit_price": "1.00"}],
            "total": "1.00",
            "placed_at": utc_now(),
        }
    )


async def is_waiting(system: System) -> bool:
    return (await system.queue_sizes())[QUEUE] >= BACKLOG


async def decided(system: System) -> int:
    """How many orders stock has decided about."""
    reservations = system.database("stock")["reservations"]
    return int(await reservations.estimated_document_count())


async def is_decided(system: System) -> bool:
    return await decided(system) >= BACKLOG


@asynccontextmanager
async def memory(
    system: System, processes: tuple[str, ...]
) -> AsyncIterator[dict[str, list[tuple[int, float]]]]:
    """Samples of orders decided and MiB resident, by process, taken until the context closes."""
    samples: dict[str, list[tuple[int, float]]] = {process: [] for process in processes}

    async def sample() -> None:
        while True:
            number = await decided(system)
            for process in processes:
                samples[process].append((number, resident_mib(system.stack.supervisor.pid(process))))
            await asyncio.sleep(0.5)

    sampling = asyncio.create_task(sample())
    try:
        yield samples
    finally:
        sampling.cancel()
        await asyncio.gather(sampling, return_exceptions=True)


def resident_mib(pid: int) -> float:
    """Memory of a process that is in RAM."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024**2


async def orders_taken(system: System, process: str) -> float:
    """How many messages a process has taken out of the queue, by its own metrics."""
    url = system.stack.supervisor.ready_url(process).replace("/health/ready", "/metrics")
    async with httpx.AsyncClient(timeout=10, trust_env=False) as http:
        text = (await http.get(url, follow_redirects=True)).text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "faststream_received_messages_total" and sample.labels["handler"] == HANDLER
    )
