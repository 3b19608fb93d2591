"""Several processes of every app, any of which may be gone at any moment."""

import asyncio
import time

import pytest

from apps.cli.local.errors import LocalServiceError
from tests.faults.conftest import Scenario
from tests.faults.load import Load
from tests.faults.system import System

SECONDS = 300
REPLICAS = 4


@pytest.mark.faults(23, "kill -9 of any process, again and again for 5 minutes", "4 replicas of every app")
@pytest.mark.timeout(720)
async def test_replicas_killed_at_random(scenario: Scenario) -> None:
    """Whatever dies whenever, others take over, and the books balance."""
    async with scenario.system(replicas=REPLICAS) as system:
        async with system.load(rate=5, units=600) as load:
            kills = await _kill_at_random(system, load)
            await scenario.recovered(system, load)
        await scenario.passes(system, load, 180)
    assert kills > SECONDS / 10


async def _kill_at_random(system: System, load: Load) -> int:
    random = load.draw()
    kills = 0
    give_up_at = time.monotonic() + SECONDS
    while time.monotonic() < give_up_at:
        # The pause is the scenario itself: it spreads the kills over the load.
        await asyncio.sleep(random.uniform(1, 5))
        try:
            system.kill(random.choice(system.stack.processes))
        except LocalServiceError:
            continue  # it is down already, and on its way back
        kills += 1
    return kills
