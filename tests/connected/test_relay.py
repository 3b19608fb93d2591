"""Several ingresses over one database: what they accept while RabbitMQ is away is published once each."""

import os
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import aio_pika
import httpx
import pytest
from conftest import System, body_of, eventually, new_order
from yarl import URL

from apps.cli.api_client import bearer
from apps.cli.local.api_key import make_valid
from apps.cli.local.ports import LOOPBACK, free_port
from apps.cli.local.supervisor import Supervisor
from apps.cli.system import apply_topology
from contracts import OrderCreated
from tests.faults.proxy import Proxy

pytestmark = pytest.mark.connected

ORDERS = 120


@pytest.fixture
async def vhost(system: System) -> AsyncIterator[URL]:
    """A virtual host of the test's own, with everything declared."""
    name = f"relay-{uuid4().hex[:8]}"
    node = system.stack.rabbitmq
    url = node.create_vhost(name)
    await apply_topology(url)
    yield URL(url)
    node.delete_vhost(name)


async def _oldest_unpublished_seconds(ingress: httpx.AsyncClient) -> float:
    metrics = (await ingress.get("/metrics")).text
    (seconds,) = re.findall(r"^orderflow_oldest_unpublished_seconds (\S+)$", metrics, re.MULTILINE)
    return float(seconds)


async def test_two_ingresses_publish_each_order_once(system: System, vhost: URL, tmp_path: Path) -> None:
    """Both take orders while RabbitMQ is away; when it is back, their relays share them without overlap."""
    assert vhost.port is not None
    async with Proxy(vhost.port) as proxy:
        prefix = f"relay_{uuid4().hex[:8]}"
        await make_valid(system.stack.api_key, system.stack.mongodb_url, prefix)
        environment = {
            **os.environ,
            **system.stack.addresses,
            "ORDERFLOW_RABBITMQ_URL": str(vhost.with_port(proxy.port)),
            "ORDERFLOW_DATABASE_PREFIX": prefix,
            # Later than the ingress's own first publish may take: its outcome is known by then.
            "ORDERFLOW_PUBLISH_TIMEOUT_SECONDS": "4",
            "ORDERFLOW_RELAY_AFTER_SECONDS": "5",
        }
        supervisor = Supervisor(tmp_path)
        urls = []
        for number in range(2):
            port = free_port()
            urls.append(f"http://{LOOPBACK}:{port}")
            argv = ["-m", "uvicorn", "apps.ingress.api:api", "--host", LOOPBACK, "--port", str(port)]
            ready = f"{urls[-1]}/health/ready"
            supervisor.add(f"api-{number}", [sys.executable, *argv], environment, ready)
        try:
            await supervisor.start()
            await supervisor.wait_ready(60)
            await _lose_and_regain_rabbitmq(proxy, vhost, urls, bearer(system.stack.api_key))
        finally:
            await supervisor.stop()


async def _lose_and_regain_rabbitmq(proxy: Proxy, vhost: URL, urls: list[str], key: dict[str, str]) -> None:
    async with (
        await aio_pika.connect(str(vhost)) as connection,
        httpx.AsyncClient(base_url=urls[0], headers=key, timeout=15) as one,
        httpx.AsyncClient(base_url=urls[1], headers=key, timeout=15) as other,
    ):
        queue = await (await connection.channel()).declare_queue(exclusive=True)
        await queue.bind("events", OrderCreated.topic)
        ingresses = (one, other)

        async def connected(*, expected: bool) -> bool:
            answers = [(await ingress.get("/health/ready")).json() for ingress in ingresses]
            return all((answer["checks"]["rabbitmq"] == "ok") is expected for answer in answers)

        await eventually(lambda: connected(expected=True), "both connected")
        await proxy.cut()
        await eventually(lambda: connected(expected=False), "both cut off")
        accepted = []
        for number in range(ORDERS):
            answer = await ingresses[number % 2].post("/v1/orders", json=body_of(new_order(("any", 1))))
            assert answer.status_code == 202
            accepted.append(answer.json()["order_id"])
        for ingress in ingresses:
            assert (await ingress.get("/health/ready")).status_code == 200
            assert await _oldest_unpublished_seconds(ingress) > 0

        await proxy.heal()

        async def all_published() -> bool:
            return [await _oldest_unpublished_seconds(ingress) for ingress in ingresses] == [0, 0]

        await eventually(all_published, "nothing left to publish", 60)
        deliveries: Counter[str | None] = Counter()
        while message := await queue.get(no_ack=True, fail=False):
            deliveries[message.correlation_id] += 1
        assert deliveries == dict.fromkeys(accepted, 1)
