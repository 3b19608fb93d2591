"""A process is told to stop: what it has begun ends within the budget or comes again, and nothing dies."""

import os
import re
import signal
from collections import Counter

import pytest

from apps.cli.local.stack import API, WORKERS
from tests.faults.conftest import Scenario
from tests.faults.eventually import eventually
from tests.faults.failpoints.sitecustomize import BEGINS
from tests.faults.load import INBOXES
from tests.faults.system import System


@pytest.mark.faults(4, "SIGTERM while handlers run that end in time", "every process, at once")
@pytest.mark.representative
async def test_stop_lets_handlers_end(scenario: Scenario) -> None:
    """What runs when SIGTERM comes is finished and acknowledged: no handler ends early or begins again."""
    slow = dict.fromkeys(WORKERS, "sleep:0.5")
    async with scenario.system(failpoints=slow) as system:
        async with system.load(rate=30) as load:
            await load.accepted(30)
            for process in (API, *WORKERS):
                stop(system, process)
            endings = {process: await ending(system, process) for process in (API, *WORKERS)}
            await scenario.recovered(system, load)
        await scenario.passes(system, load)
        published = Counter(heard.message_id for heard in await system.wiretap.heard())
        for process in WORKERS:
            begun, ended = runs(system, process, BEGINS), runs(system, process, "handled")
            assert begun == ended, f"{process}: {begun - ended} did not end"
            assert begun <= published, f"{process}: {begun - published} began again"
    assert set(endings.values()) == {"exit code 0"}, endings


@pytest.mark.faults(4, "SIGTERM while handlers run longer than the budget", "stock")
async def test_stop_gives_back_what_takes_too_long(scenario: Scenario) -> None:
    """What has not ended within the budget is delivered again, and is no dead letter."""
    budget = {"stock": {"ORDERFLOW_DRAIN_TIMEOUT_SECONDS": "1"}}
    async with scenario.system(settings_of=budget, failpoints={"stock": "sleep:5"}) as system:
        async with system.load(rate=30, orders=60) as load:
            await load.accepted(30)
            stop(system, "stock")
            assert await ending(system, "stock") == "exit code 0"
            await eventually(lambda: redelivered(system), "given back to RabbitMQ, and delivered again")
            await scenario.recovered(system, load)
        await scenario.passes(system, load)


def stop(system: System, process: str) -> None:
    """Ask a process to end; its supervisor starts it again."""
    os.kill(system.stack.supervisor.pid(process), signal.SIGTERM)


async def ending(system: System, process: str) -> str:
    """How the process has ended, once it has: `exit code 0`."""
    await system.wait_for("ended by itself", process)
    found = re.search(r"ended by itself \((.*?)\)", system.log(process))
    assert found is not None
    return found[1]


def runs(system: System, process: str, sign: str) -> Counter[str]:
    """How often a process has logged this of each event."""
    return Counter(
        entry["event_id"]
        for entry in system.entries(process)
        if entry["event"] == sign and "event_id" in entry
    )


async def redelivered(system: System) -> int:
    """How many messages of the apps' queues RabbitMQ has delivered more than once."""
    inboxes = {queue for queue, _ in INBOXES}
    return sum(
        queue.get("message_stats", {}).get("redeliver", 0)
        for queue in await system.management("queues")
        if queue["name"] in inboxes
    )
