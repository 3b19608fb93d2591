"""An app is killed in the middle of its work: each half of what it does is done in the end, and once."""

from uuid import UUID

import pytest

from apps.cli.local import supervisor
from apps.cli.local.stack import WORKERS
from tests.faults.conftest import Scenario

IN_HANDLER = dict.fromkeys(WORKERS, "in-handler:40") | {"recovery": "in-handler:4"}
MOST_CRASHES = 20
PUBLISHERS = ("stock", "billing", "notifications")


@pytest.mark.faults(1, "kill -9 while a message is being handled", "every worker")
@pytest.mark.representative
async def test_workers_killed_while_they_handle(scenario: Scenario) -> None:
    """A message whose handler was cut off is handled by the next run, whatever the cut one had done."""
    async with scenario.system(failpoints=IN_HANDLER) as system:
        async with system.load(orders=150, poison_share=0.1) as load:
            for app in IN_HANDLER:
                await system.fired(app)
            await scenario.recovered(system, load)
        await scenario.passes(system, load)


@pytest.mark.faults(1, "kill -9 while orders are being accepted", "api, three times")
async def test_ingress_killed_while_it_accepts(scenario: Scenario) -> None:
    """A client that repeats what was not answered gets each order once, whichever run answers."""
    async with scenario.system() as system:
        async with system.load(rate=15, http_share=1) as load:
            for kills in range(1, 4):
                await load.accepted(len(load.placed) + 20)
                system.kill("api")
                await system.restarted("api", kills)
                await system.ready()
            await scenario.recovered(system, load)
        await scenario.passes(system, load)
    assert set(load.answers) - {"202", "409"}, "no request was cut off"


@pytest.mark.faults(2, "kill -9 after the database write, before the publish", ", ".join(PUBLISHERS))
@pytest.mark.representative
async def test_killed_between_database_and_publish(scenario: Scenario) -> None:
    """What a worker had stored and not announced is announced by its next run, and stored only once."""
    await _crash_once(scenario, "before-publish:15")


@pytest.mark.faults(2, "kill -9 between publish and acknowledgement", ", ".join(PUBLISHERS))
async def test_killed_between_publish_and_acknowledgement(scenario: Scenario) -> None:
    """What a worker had announced and not acknowledged comes again, and changes nothing."""
    await _crash_once(scenario, "after-publish:15")


async def _crash_once(scenario: Scenario, failpoint: str) -> None:
    async with scenario.system(failpoints=dict.fromkeys(PUBLISHERS, failpoint)) as system:
        async with system.load(orders=120) as load:
            for app in PUBLISHERS:
                await system.fired(app)
            await scenario.recovered(system, load)
        await scenario.passes(system, load)


@pytest.mark.faults(3, "kill -9 of the relay between confirm and mark", "api")
async def test_relay_killed_between_confirm_and_mark(scenario: Scenario) -> None:
    """An order that RabbitMQ has, and the ingress does not know it, is at most published again."""
    async with scenario.system(failpoints={"api": "before-mark:15"}) as system:
        async with system.load(orders=80, http_share=1) as load:
            await system.fired("api")
            await scenario.recovered(system, load)
        await scenario.passes(system, load)


@pytest.mark.faults(13, "a message that kills its worker, each time", "stock")
async def test_message_that_kills_its_worker(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    """RabbitMQ gives it up after at most 20 crashes; every order around it goes through."""
    # What is counted is crashes; the supervisor's growing pauses between them would take minutes.
    monkeypatch.setattr(supervisor, "LONGEST_PAUSE_SECONDS", supervisor.FIRST_PAUSE_SECONDS)
    killer = UUID("dead0000-0000-4000-8000-000000000013")
    async with scenario.system(failpoints={"stock": f"kill-for:{killer}"}) as system:
        async with system.load(rate=10, orders=150) as load:
            await load.accepted(20)
            order = load.order().model_copy(update={"order_id": killer})
            await load.publish_poison(
                "killer",
                order.topic,
                order.model_dump_json().encode(),
                queues=frozenset({"stock.order-created"}),
                order_id=killer,
            )
        await scenario.passes(system, load, 240)
        crashes = system.stack.supervisor.restarts("stock")
    assert 1 < crashes <= MOST_CRASHES
