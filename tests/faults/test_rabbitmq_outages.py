"""RabbitMQ stops, crashes, blocks its publishers, freezes or falls silent: orders are accepted throughout."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Literal
from uuid import uuid4

import pytest
from yarl import URL

from apps.cli.local.rabbitmq import RabbitNode
from apps.kit.clock import utc_now
from contracts import StockAdjusted
from tests.faults.conftest import Scenario
from tests.faults.eventually import eventually
from tests.faults.load import Load, Publisher
from tests.faults.proxy import Proxy
from tests.faults.retries import KEEPS, retry_tap
from tests.faults.system import System

RATE = 5
"""Orders per second: an outage of a minute makes 300."""
PROMPT_SECONDS = 10
"""The ingress's publish timeout: an answer that waits for RabbitMQ takes longer."""
PATIENT_INGRESS = {"api": {"ORDERFLOW_PUBLISH_TIMEOUT_SECONDS": str(PROMPT_SECONDS)}}
Outage = Callable[[RabbitNode], AbstractAsyncContextManager[None]]


@pytest.fixture
def is_whole_suite(request: pytest.FixtureRequest) -> bool:
    """Whether outages last as long as the issue says, or only as long as it takes to see their effect."""
    return bool(request.config.getoption("faults"))


@asynccontextmanager
async def app_stopped(node: RabbitNode) -> AsyncIterator[None]:
    """Every connection is closed, and nothing listens."""
    await asyncio.to_thread(node.ctl, "stop_app")
    try:
        yield
    finally:
        await asyncio.to_thread(node.ctl, "start_app")


@asynccontextmanager
async def killed(node: RabbitNode) -> AsyncIterator[None]:
    """What was not on disk is gone."""
    await asyncio.to_thread(node.kill)
    try:
        yield
    finally:
        await asyncio.to_thread(node.start)


@asynccontextmanager
async def memory_alarm(node: RabbitNode) -> AsyncIterator[None]:
    """Whoever publishes is blocked; who consumes is not."""
    await asyncio.to_thread(node.ctl, "set_vm_memory_high_watermark", "0")
    try:
        yield
    finally:
        await asyncio.to_thread(node.ctl, "set_vm_memory_high_watermark", "0.4")


@asynccontextmanager
async def disk_alarm(node: RabbitNode) -> AsyncIterator[None]:
    """The same: no disk has that much space."""
    await asyncio.to_thread(node.ctl, "set_disk_free_limit", str(10**18))
    try:
        yield
    finally:
        await asyncio.to_thread(node.ctl, "set_disk_free_limit", "200MB")


@asynccontextmanager
async def frozen(node: RabbitNode) -> AsyncIterator[None]:
    """Its sockets take what fits into their buffers, and nothing ever comes back."""
    pid = node.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def outlives(
    scenario: Scenario, outage: Outage, lasts_seconds: float, *, is_cut_off: bool = True, **options: Any
) -> None:
    """Whatever is the matter with RabbitMQ: POST answers 202, all drains afterwards, no attempt is spent.

    Args:
        scenario: starts the system, closes the books.
        outage: breaks RabbitMQ while its context is open.
        lasts_seconds: how long it is open, or longer if its effect takes longer to show.
        is_cut_off: workers have to notice; an alarm concerns only those that have something to publish.
        options: of the system.
    """
    async with (
        scenario.system(settings_of=PATIENT_INGRESS, **options) as system,
        await retry_tap(system) as retries,
    ):
        async with system.load(rate=RATE) as load:
            await load.accepted(30)
            async with outage(system.services.rabbitmq):
                posted_before = load.answers["202"]
                over = asyncio.create_task(asyncio.sleep(lasts_seconds))
                await system.wait_for("event waits for RabbitMQ", "api")
                if is_cut_off:
                    await system.turns_red("stock")
                await over
                posted = load.answers["202"] - posted_before
            await scenario.recovered(system, load)
        await scenario.passes(system, load, keeps=KEEPS)
        spent = await retries.heard()
    accepts_throughout(load)
    assert posted > load.http_share * RATE * lasts_seconds / 2, "hardly anything was asked during the outage"
    assert not spent, f"{len(spent)} attempts were spent on the outage: {spent[:3]}"


def accepts_throughout(load: Load) -> None:
    """Every request was answered, none had to wait for RabbitMQ; 409 is to cancel what is rejected."""
    assert set(load.answers) <= {"202", "409"}, load.answers
    assert load.slowest_seconds < PROMPT_SECONDS


@pytest.mark.faults(5, "RabbitMQ stopped: `stop_app`", "RabbitMQ")
@pytest.mark.representative
async def test_rabbitmq_stopped(scenario: Scenario, is_whole_suite: bool) -> None:  # noqa: FBT001
    """While RabbitMQ is down orders are accepted, and they flow when it is back."""
    await outlives(scenario, app_stopped, 30 if is_whole_suite else 8)


@pytest.mark.faults(6, "kill -9 of the broker", "RabbitMQ, with messages in a retry level")
async def test_broker_killed_with_messages_in_a_retry_level(scenario: Scenario) -> None:
    """A broker that loses all but its disk still has every message, those between two attempts too."""
    delays, write_offs, sku = "[10, 4, 4, 4]", 20, f"late-{uuid4()}"
    async with (
        scenario.system(
            settings={"ORDERFLOW_RETRY_DELAYS_SECONDS": delays}, settings_of=PATIENT_INGRESS
        ) as system,
        await retry_tap(system) as retries,
    ):
        publisher = Publisher(system.rabbitmq_url)
        async with system.load(rate=10) as load:
            await load.accepted(30)
            for _ in range(
                write_offs
            ):  # before the count that they are to be taken from: each fails at first
                await adjust(publisher, sku, "add", -1)
            await until_waiting(system, "retry.10000ms", write_offs)
            async with killed(system.services.rabbitmq):
                await system.wait_for("event waits for RabbitMQ", "api")
            await adjust(publisher, sku, "add", write_offs)
            await publisher.close()
            await scenario.recovered(system, load)
        await scenario.passes(system, load, keeps=KEEPS)
        level = await system.database("stock")["levels"].find_one({"_id": sku})
        set_aside = {message.message_id for message in await retries.heard()}
    assert level is not None
    assert level["available"] == 0, "not every write-off came back"
    assert len(set_aside) == write_offs, "an attempt was spent on the outage"
    accepts_throughout(load)


async def adjust(publisher: Publisher, sku: str, mode: Literal["set", "add"], quantity: int) -> None:
    """Publish a change of stock, as a warehouse does."""
    event = StockAdjusted.model_validate(
        {"adjustment_id": uuid4(), "sku": sku, "mode": mode, "quantity": quantity, "adjusted_at": utc_now()}
    )
    await publisher.confirmed(event.topic, event.model_dump_json().encode(), message_id=str(event.event_id))


async def until_waiting(system: System, queue: str, messages: int) -> None:
    """Wait until so many messages are in a queue."""

    async def wait() -> bool:
        return (await system.queue_sizes())[queue] >= messages

    await eventually(wait, f"{messages} messages in {queue}")


@pytest.mark.faults(7, "memory alarm", "RabbitMQ blocks all who publish")
@pytest.mark.representative
async def test_memory_alarm(scenario: Scenario) -> None:
    """A blocked publisher neither blocks who places an order nor spends an attempt."""
    await outlives(scenario, memory_alarm, 20, is_cut_off=False)


@pytest.mark.faults(8, "disk alarm", "RabbitMQ blocks all who publish")
async def test_disk_alarm(scenario: Scenario) -> None:
    """The same when RabbitMQ has no space left."""
    await outlives(scenario, disk_alarm, 20, is_cut_off=False)


@pytest.mark.faults(18, "broker frozen for 60 s: SIGSTOP", "RabbitMQ")
async def test_broker_frozen(scenario: Scenario) -> None:
    """A broker that takes connections and says nothing is an outage like any other."""
    await outlives(scenario, frozen, 60)


@pytest.mark.faults(18, "a network that swallows packets", "every app's way to RabbitMQ, 30 s")
async def test_network_to_rabbitmq_swallows_packets(scenario: Scenario) -> None:
    """Connections that stay open and carry nothing are an outage like any other."""
    port = URL(scenario.services.rabbitmq.url).port
    assert port is not None
    async with Proxy(port) as proxy:

        @asynccontextmanager
        async def swallowing(_node: RabbitNode) -> AsyncIterator[None]:
            proxy.swallow()
            try:
                yield
            finally:
                await proxy.heal()

        await outlives(scenario, swallowing, 30, rabbitmq_port=proxy.port)
