"""Clocks that disagree: which process is how late or early makes no difference to any order."""

import pytest
from yarl import URL

from tests.faults.conftest import Scenario
from tests.faults.proxy import Proxy

AN_HOUR = 3600


@pytest.mark.faults(22, "the clock of one process of each app an hour off", "{}")
@pytest.mark.parametrize("seconds", [pytest.param(AN_HOUR, id="ahead"), pytest.param(-AN_HOUR, id="behind")])
async def test_clock_an_hour_off(scenario: Scenario, seconds: int) -> None:
    """Of two processes that share the work, one may live in another hour: leases, counts and logs hold.

    RabbitMQ is cut off for a moment, so that both relays have orders to publish, each by its own clock.
    """
    port = URL(scenario.services.rabbitmq.url).port
    assert port is not None
    shifted = {
        f"{app}-2": f"clock:{seconds}" for app in ("api", "orders", "stock", "billing", "notifications")
    }
    async with (
        Proxy(port) as proxy,
        scenario.system(replicas=2, failpoints=shifted, rabbitmq_port=proxy.port) as system,
    ):
        async with system.load(rate=15, orders=120) as load:
            await load.accepted(30)
            await proxy.cut()
            await system.wait_for("event waits for RabbitMQ", "api")
            await system.wait_for("event waits for RabbitMQ", "api-2")
            await proxy.heal()
            await scenario.recovered(system, load)
        await scenario.passes(system, load)
