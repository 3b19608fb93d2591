"""One worker process by itself, in a virtual host of its own: how it starts, shows its health, and stops."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

import aio_pika
import httpx
import pytest
from aio_pika.abc import AbstractChannel
from conftest import System, eventually, new_order

from apps.cli.local.ports import free_port
from apps.cli.system import apply_topology
from apps.kit.publishing import event_publisher

pytestmark = pytest.mark.connected


@dataclass
class Worker:
    """A running `faststream run`, and the broker that only it uses."""

    process: Process
    http: httpx.AsyncClient
    channel: AbstractChannel
    rabbitmq_url: str
    database_prefix: str

    async def readiness(self) -> httpx.Response | None:
        try:
            return await self.http.get("/health/ready")
        except httpx.TransportError:
            return None

    async def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), 40)


AT_ONCE = 100
"""Orders published together: each has to be confirmed in time, however busy the machine is."""


@asynccontextmanager
async def running(system: System, app: str, orders_waiting: int = 0) -> AsyncIterator[Worker]:
    """The worker, once it is ready."""
    name = f"alone-{uuid4().hex[:8]}"
    url = await asyncio.to_thread(system.stack.rabbitmq.create_vhost, name)
    await apply_topology(url)
    async with event_publisher("tests", url) as publish:
        for published in range(0, orders_waiting, AT_ONCE):
            some = range(published, min(published + AT_ONCE, orders_waiting))
            await asyncio.gather(*(publish(new_order(("nothing", 1))) for _ in some))
    port = free_port()
    prefix = name.replace("-", "_")
    listen = ("--host", "127.0.0.1", "--port", str(port))
    settings = {"ORDERFLOW_RABBITMQ_URL": url, "ORDERFLOW_DATABASE_PREFIX": prefix}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "faststream", "run", f"apps.{app}.app:app", *listen),
        env={**os.environ, **system.stack.addresses, **settings},
        stdout=DEVNULL,
        stderr=DEVNULL,
    )
    try:
        connection = await aio_pika.connect(url)
        async with connection, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            worker = Worker(process, http, await connection.channel(), url, prefix)

            async def is_ready() -> bool:
                answer = await worker.readiness()
                return answer is not None and answer.status_code == 200

            await eventually(is_ready, f"{app} ready")
            yield worker
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await asyncio.to_thread(system.stack.rabbitmq.delete_vhost, name)


async def test_sigterm_finishes_what_runs_and_puts_nothing_back_as_failed(system: System) -> None:
    """Told to stop amid a backlog, a worker ends cleanly: each message is handled and gone, or untouched."""
    async with running(system, "stock", orders_waiting=1500) as worker:
        decisions = system.mongo[f"{worker.database_prefix}_stock"]["reservations"]

        async def at_work() -> bool:
            return await decisions.count_documents({}) >= 50

        await eventually(at_work, "the worker is at work")
        assert await worker.stop() == 0
        decided = await decisions.count_documents({})
        inbox = await worker.channel.get_queue("stock.order-created")
        left = []
        while message := await inbox.get(no_ack=True, fail=False):
            left.append(message)

    assert 50 <= decided < 1500
    assert decided + len(left) == 1500
    # A few can be on their way to the consumer just when it is cancelled; without the drain it would be
    # as many as the prefetch.
    put_back = [message for message in left if message.redelivered or message.headers.get("x-delivery-count")]
    assert len(put_back) <= 5


async def test_sigterm_ends_a_worker_also_while_rabbitmq_is_away(system: System) -> None:
    """There is nothing to cancel and nobody to wait for: the process ends within its budget."""
    async with running(system, "billing") as worker:
        await asyncio.to_thread(system.stack.rabbitmq.ctl, "stop_app")
        try:
            assert await worker.stop() == 0
        finally:
            await asyncio.to_thread(system.stack.rabbitmq.ctl, "start_app")
        await system.stack.supervisor.wait_ready(60)

        async def our_own_channel_is_back() -> bool:
            return not system.channel.is_closed

        await eventually(our_own_channel_is_back, "the test's own connection")


async def test_readiness_names_the_queue_that_lost_its_consumer(system: System) -> None:
    """A queue deleted under its consumer turns readiness red with its name, while liveness stays green."""
    async with running(system, "billing") as worker:
        await worker.channel.queue_delete("billing.order-validated")

        async def is_red() -> bool:
            answer = await worker.readiness()
            return answer is not None and answer.status_code == 503

        await eventually(is_red, "readiness red")
        answer = await worker.readiness()
        assert answer is not None
        checks = answer.json()["checks"]
        assert "billing.order-validated" in checks["consumers"]
        assert (checks["rabbitmq"], checks["mongodb"]) == ("ok", "ok")
        assert (await worker.http.get("/health/live")).status_code == 200


async def test_worker_serves_metrics_and_no_way_to_inject_messages(system: System) -> None:
    """Prometheus finds the handlers' counters; FastStream's try-it-out, which stops a worker, is absent."""
    async with running(system, "stock", orders_waiting=3) as worker:

        async def counted() -> bool:
            text = (await worker.http.get("/metrics")).text
            return "faststream_received_processed_messages_total{" in text and 'status="acked"' in text

        await eventually(counted, "acked messages in the metrics")
        for path in ("/docs", "/docs/try", "/docs/asyncapi", "/docs/asyncapi/try", "/asyncapi/try"):
            assert (await worker.http.post(path)).status_code == 404


async def test_worker_without_the_right_to_configure_runs_on_a_declared_topology(system: System) -> None:
    """With ORDERFLOW_DECLARE_TOPOLOGY=false a user without rights suffices; the topology may come later."""
    node = system.stack.rabbitmq
    name = f"alone-{uuid4().hex[:8]}"
    url = await asyncio.to_thread(node.create_vhost, name)
    async with httpx.AsyncClient(base_url=node.management_url, auth=node.login) as management:
        await management.put(f"/api/users/{name}", json={"password": "narrow", "tags": ""})
        rights = {
            "configure": "^$",
            "write": r"^(events|dead|retry\..*|stock\..*)$",
            "read": r"^(events|replay|stock\..*)$",
        }
        answer = await management.put(f"/api/permissions/{name}/{name}", json=rights)
        assert answer.is_success
    address = url.split("@")[1]
    environment = {
        "ORDERFLOW_RABBITMQ_URL": f"amqp://{name}:narrow@{address}",
        "ORDERFLOW_DATABASE_PREFIX": name.replace("-", "_"),
        "ORDERFLOW_DECLARE_TOPOLOGY": "false",
    }
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "faststream", "run", "apps.stock.app:app", "--host", "127.0.0.1"),
        *("--port", str(port)),
        env={**os.environ, **system.stack.addresses, **environment},
        stdout=DEVNULL,
        stderr=DEVNULL,
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:

            async def is_ready() -> bool:
                try:
                    return (await http.get("/health/ready")).status_code == 200
                except httpx.TransportError:
                    return False

            async def is_live() -> bool:
                try:
                    return (await http.get("/health/live")).status_code == 200
                except httpx.TransportError:
                    return False

            await eventually(is_live, "stock started without a topology")
            assert not await is_ready()
            await apply_topology(url)
            await eventually(is_ready, "stock ready without rights")
        async with event_publisher("tests", url) as publish:
            await publish(new_order(("nothing", 1)))
        decisions = system.mongo[f"{name.replace('-', '_')}_stock"]["reservations"]

        async def decided() -> bool:
            return await decisions.count_documents({}) == 1

        await eventually(decided, "the order is decided")
    finally:
        process.kill()
        await process.wait()
        await asyncio.to_thread(node.delete_vhost, name)
