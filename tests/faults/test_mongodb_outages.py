"""MongoDB changes or loses its primary, freezes, or does not say what became of a commit: nothing is lost."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from apps.cli.local.stack import WORKERS
from tests.faults.conftest import Scenario
from tests.faults.eventually import eventually
from tests.faults.load import Load
from tests.faults.retries import KEEPS, retry_tap
from tests.faults.services import ThreeMembers
from tests.faults.system import System

FROZEN_SECONDS = 60
WRITE_CONFLICT, WRITE_CONCERN_FAILED = 112, 64
ENOUGH = 20
"""Commands that a failpoint must have met, or its scenario has shown nothing."""


@pytest.fixture
async def three_members(tmp_path: Path) -> AsyncIterator[ThreeMembers]:
    members = ThreeMembers(tmp_path / "members")
    try:
        await asyncio.to_thread(members.start)
        yield members
    finally:
        await asyncio.to_thread(members.stop)


@pytest.mark.faults(16, "step-down, then kill -9 of the primary", "MongoDB, one of three members")
async def test_primary_steps_down_and_is_killed(scenario: Scenario, three_members: ThreeMembers) -> None:
    """What a majority has stays; what was under way is done again under the next primary, at no attempt."""
    async with scenario.system(mongodb_url=three_members.url) as system, await retry_tap(system) as retries:
        async with system.load(rate=10) as load:
            await load.accepted(30)
            await asyncio.to_thread(three_members.step_down)
            await load.accepted(len(load.placed) + 30)
            killed = await asyncio.to_thread(three_members.primary)
            await asyncio.to_thread(three_members.kill_member, killed)
            await load.accepted(len(load.placed) + 30)
            await scenario.recovered(system, load)
            await asyncio.to_thread(three_members.start_member, killed)
        await scenario.passes(system, load, keeps=KEEPS)
        spent = await retries.heard()
    assert not spent, f"{len(spent)} attempts were spent on elections: {spent[:3]}"
    refuses_honestly(load)


@pytest.mark.faults(17, "commits of which nobody knows whether they passed", "every other commit: {}")
@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(
            {
                "writeConcernError": {
                    "code": WRITE_CONCERN_FAILED,
                    "errmsg": "waiting for replication timed out",
                }
            },
            id="passed",
        ),
        pytest.param({"closeConnection": True}, id="cut off"),
    ],
)
async def test_commit_result_unknown(scenario: Scenario, failure: dict[str, Any]) -> None:
    """A commit that may have passed is looked up and not done twice: no unit, no number is taken again."""
    async with scenario.system() as system, await retry_tap(system) as retries:
        async with system.load(rate=10) as load:
            await load.accepted(20)
            async with failing(system, 0.5, failCommands=["commitTransaction"], **failure) as met:
                await eventually(lambda: enough(met), "commits that failed")
            await scenario.recovered(system, load)
        await scenario.passes(system, load, keeps=KEEPS)
        spent = await retries.heard()
    assert not spent, f"{len(spent)} attempts were spent on commits: {spent[:3]}"


@pytest.mark.faults(17, "a storm of write conflicts", "stock, then billing: four of five writes")
@pytest.mark.representative
async def test_write_conflict_storm(scenario: Scenario) -> None:
    """Whoever loses a race decides anew until it wins; that costs no attempt, and sells no unit twice."""
    conflict = {"errorCode": WRITE_CONFLICT, "errorLabels": ["TransientTransactionError"]}
    # Only what runs in a transaction: outside of one the server itself repeats what met a conflict.
    writes: dict[str, dict[str, Any]] = {
        "stock": {"failCommands": ["update", "insert"], "appName": "orderflow-stock"},
        "billing": {"failCommands": ["findAndModify", "insert"], "appName": "orderflow-billing"},
    }
    async with scenario.system() as system, await retry_tap(system) as retries:
        async with system.load(rate=10) as load:
            await load.accepted(20)
            for commands in writes.values():
                async with failing(system, 0.8, **commands, **conflict) as met:
                    await eventually(lambda met=met: enough(met), "conflicts")
            await scenario.recovered(system, load)
        await scenario.passes(system, load, keeps=KEEPS)
        spent = await retries.heard()
    assert not spent, f"{len(spent)} attempts were spent on conflicts: {spent[:3]}"


@pytest.mark.faults(18, "MongoDB frozen for 60 s: SIGSTOP", "MongoDB")
async def test_mongodb_frozen(scenario: Scenario) -> None:
    """A MongoDB that takes connections and says nothing is waited for, in red, and no attempt is spent."""
    async with scenario.system() as system, await retry_tap(system) as retries:
        async with system.load(rate=3) as load:
            await load.accepted(20)
            pid = system.services.mongodb.pid
            os.kill(pid, signal.SIGSTOP)
            try:
                thawed = asyncio.create_task(asyncio.sleep(FROZEN_SECONDS))
                for process in ("api", *WORKERS):
                    await turns_red(system, process)
                await thawed
            finally:
                os.kill(pid, signal.SIGCONT)
            await scenario.recovered(system, load)
        await scenario.passes(system, load, keeps=KEEPS)
        spent = await retries.heard()
    assert not spent, f"{len(spent)} attempts were spent on the outage: {spent[:3]}"
    refuses_honestly(load)


@asynccontextmanager
async def failing(system: System, probability: float, **data: Any) -> AsyncIterator["Met"]:
    """Make mongod fail commands of the given kinds with a probability while the context is open."""
    met = Met(system)
    await met.configure(mode={"activationProbability": probability}, data=data)
    try:
        yield met
    finally:
        await met.configure(mode="off")


class Met:
    """The failpoint `failCommand` of a mongod."""

    def __init__(self, system: System) -> None:
        self._admin = system.mongo.admin

    async def configure(self, **options: Any) -> None:
        await self._admin.command("configureFailPoint", "failCommand", **options)

    async def count(self) -> int:
        """How many commands it has failed since it was configured."""
        state = await self._admin.command({"getParameter": 1, "failpoint.failCommand": 1})
        return int(state["failpoint.failCommand"]["timesEntered"])


async def enough(met: Met) -> bool:
    return await met.count() >= ENOUGH


async def turns_red(system: System, process: str) -> None:
    """A process that cannot reach MongoDB says so in its readiness."""

    async def is_red() -> bool:
        return (await system.checks(process)).get("mongodb", "ok") != "ok"

    await eventually(is_red, f"{process} is not ready")


def refuses_honestly(load: Load) -> None:
    """Where an order could not be stored the answer was 503, to be asked again, or none: no error of ours."""
    assert not {status for status in load.answers if status.isdigit()} - {"202", "409", "503"}, load.answers
