"""The ingress under load: Orderflow's as shipped and a plain one, in turn, with every answer audited."""

import asyncio
import json
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aio_pika
import httpx
from aio_pika.exceptions import ChannelNotFoundEntity
from pymongo import MongoClient

from apps.access.domain import new_key
from apps.cli.local.api_key import make_valid
from apps.cli.local.ports import LOOPBACK, free_port
from apps.kit.settings import database_name
from contracts import OrderCreated
from contracts.orders import EXAMPLE_CONTENT
from tests.bench.calm import calm
from tests.bench.contender import EVENTS, Place
from tests.bench.contenders import plain_api
from tests.bench.processes import Processes, started
from tests.bench.services import Services

CONNECTIONS = 32
WARM_UP_SECONDS = 5
SECONDS = 15
_START_SECONDS = 60.0
_AUDIT_SECONDS = 30.0
_INBOX = "orders-inbox"

# A counter makes each reference and Idempotency-Key another; `prefix` tells the warm-up from the round.
_SCRIPT = """\
local prefix, count = "%(prefix)s", 0
local head = {["Content-Type"] = "application/json", Authorization = "Bearer %(key)s"}
function request()
  count = count + 1
  head["Idempotency-Key"] = prefix .. count
  return wrk.format("POST", "/v1/orders", head, (%(body)s):format(prefix .. count))
end
function done(summary, latency)
  local e = summary.errors
  print(string.format(
    'RESULT {"requests": %%d, "seconds": %%.6f, "p50_ms": %%.3f, "p99_ms": %%.3f, "errors": %%d}',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


class Orderflow:
    """Orderflow's ingress, run as `orderflow up` runs it."""

    name = "orderflow"

    def database(self, place: Place) -> str:
        return database_name(place.database, "orders")

    def environment(self, place: Place) -> Mapping[str, str]:
        return {
            "ORDERFLOW_RABBITMQ_URL": place.rabbitmq_url,
            "ORDERFLOW_MONGODB_URL": place.mongodb_url,
            "ORDERFLOW_DATABASE_PREFIX": place.database,
            "ORDERFLOW_REQUESTS_PER_MINUTE": "0",
        }

    def command(self, port: int) -> Sequence[str]:
        listen = ("--host", LOOPBACK, "--port", str(port), "--timeout-keep-alive", "75")
        return [sys.executable, "-m", "uvicorn", "apps.ingress.api:api", *listen]

    async def prepare(self, place: Place, key: str) -> None:
        await make_valid(key, place.mongodb_url, place.database)


class Plain:
    """What a good engineer writes in a day."""

    name = "plain"
    command = staticmethod(plain_api.command)
    prepare = staticmethod(plain_api.prepare)

    def database(self, place: Place) -> str:
        return place.database

    def environment(self, place: Place) -> Mapping[str, str]:
        return place.environment


INGRESSES: Sequence[Orderflow | Plain] = (Orderflow(), Plain())


async def measure(
    services: Services, rounds: int, logs: Path, say: Callable[[str], None], *, seconds: int = SECONDS
) -> list[dict[str, Any]]:
    """Load each ingress in turn, in every round from an empty database.

    Raises:
        AssertionError: an order was answered that is not stored or not published.
        RuntimeError: wrk is not installed, or an ingress did not start.
    """
    if shutil.which("wrk") is None:
        raise RuntimeError("wrk is not installed: apt-get install wrk")
    records = []
    for number in range(1, rounds + 1):
        # Who comes first changes, since the second finds warmer services.
        for one in INGRESSES if number % 2 else reversed(INGRESSES):
            records += await calm(partial(_round, one, services, logs, number, seconds), say)
    return records


async def _round(
    one: Orderflow | Plain, services: Services, logs: Path, number: int, seconds: int
) -> list[dict[str, Any]]:
    with services.place() as place:
        return [{**await _loaded(one, place, services, logs, seconds), "round": number}]


async def _loaded(
    one: Orderflow | Plain, place: Place, services: Services, logs: Path, seconds: int
) -> dict[str, Any]:
    key, port = new_key(), free_port()
    await one.prepare(place, key)
    with started({"api": one.command(port)}, one.environment(place), logs / f"ingress-{one.name}") as pids:
        url = f"http://{LOOPBACK}:{port}"
        await ready(f"{url}/health/ready")
        async with _inbox(place) as inbox:
            warm_up = await _load(url, key, "warm-", WARM_UP_SECONDS)
            processes = Processes({**pids, **services.pids})
            before = processes.cpu_seconds()
            load = await _load(url, key, "", seconds)
            unpublished = await _unpublished(one, place, inbox)
            await _all_published(one, place, inbox)
            # Only now, since what was put off until after the answer is a cost of the request too.
            after = processes.cpu_seconds()
            answered = sum(each["requests"] - each["errors"] for each in (warm_up, load))
            # The orders that wrk was still waiting for at the end of each load are stored, but not counted.
            uncounted = 2 * CONNECTIONS + warm_up["errors"] + load["errors"]
            repeats = await _audit(one, place, inbox, answered, uncounted)
    return {
        "measure": "ingress",
        "contender": one.name,
        "requests_per_second": round(load["requests"] / load["seconds"], 2),
        "p50_ms": load["p50_ms"],
        "p99_ms": load["p99_ms"],
        "errors": load["errors"],
        "unpublished_at_the_end": unpublished,
        "published_again": repeats,
        "cpu_ms": {name: round((after[name] - before[name]) * 1000 / load["requests"], 3) for name in after},
    }


async def ready(url: str) -> None:
    """Wait until it answers well."""
    deadline = time.monotonic() + _START_SECONDS
    async with httpx.AsyncClient(trust_env=False) as client:
        while time.monotonic() < deadline:
            try:
                if (await client.get(url)).is_success:
                    return
            except httpx.TransportError:
                pass  # it does not listen yet
            await asyncio.sleep(0.1)
    raise RuntimeError(f"{url} did not answer in {_START_SECONDS:g} s")


@asynccontextmanager
async def _inbox(place: Place) -> AsyncIterator[aio_pika.abc.AbstractQueue]:
    """A queue that takes every order: for both the same, and nobody takes from it before the audit."""
    deadline = time.monotonic() + _START_SECONDS
    async with await aio_pika.connect(place.rabbitmq_url) as connection:
        while True:
            channel = await connection.channel()
            try:
                events = await channel.get_exchange(EVENTS)  # the ingress declares it when it has connected
                break
            except ChannelNotFoundEntity:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.1)
        queue = await channel.declare_queue(_INBOX, durable=True, arguments={"x-queue-type": "quorum"})
        await queue.bind(events, OrderCreated.topic)
        yield queue


async def _load(url: str, key: str, prefix: str, seconds: int) -> dict[str, Any]:
    """Post orders over many connections; gives what wrk counted."""
    body = json.dumps(EXAMPLE_CONTENT | {"reference": "%s"})
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_SCRIPT % {"prefix": prefix, "key": key, "body": f"[[{body}]]"})
        script.flush()
        options = (f"-c{CONNECTIONS}", "-t1", f"-d{seconds}s", "--latency", "-s", script.name)
        process = await asyncio.create_subprocess_exec("wrk", *options, url, stdout=asyncio.subprocess.PIPE)
        output, _ = await process.communicate()
    line = next(line for line in output.decode().splitlines() if line.startswith("RESULT "))
    counted: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
    return counted


async def _unpublished(one: Orderflow | Plain, place: Place, inbox: aio_pika.abc.AbstractQueue) -> int:
    """Orders that are stored and not in the queue yet."""
    with MongoClient[dict[str, Any]](place.mongodb_url) as client:
        stored = client[one.database(place)].orders.count_documents({})
    return max(0, stored - ((await inbox.declare()).message_count or 0))


async def _all_published(one: Orderflow | Plain, place: Place, inbox: aio_pika.abc.AbstractQueue) -> None:
    """Wait for it; the audit tells if it never comes."""
    deadline = time.monotonic() + _AUDIT_SECONDS
    while time.monotonic() < deadline:
        if not await _unpublished(one, place, inbox):
            return
        await asyncio.sleep(0.1)


async def _audit(
    one: Orderflow | Plain, place: Place, inbox: aio_pika.abc.AbstractQueue, answered: int, uncounted: int
) -> int:
    """Whatever was answered with 202 is stored and published, and nothing is published that is not stored.

    Returns:
        How many messages were published more than once.

    Raises:
        AssertionError: naming what does not agree.
    """
    published: list[str] = []
    tag = await inbox.consume(lambda message: _note(message, published), no_ack=True)
    deadline = time.monotonic() + _AUDIT_SECONDS
    with MongoClient[dict[str, Any]](place.mongodb_url, uuidRepresentation="standard") as client:
        orders = client[one.database(place)].orders
        while True:
            stored = {str(order["_id"]) for order in orders.find({}, {"_id": 1})}
            if set(published) == stored and answered <= len(stored) <= answered + uncounted:
                await inbox.cancel(tag)
                return len(published) - len(stored)
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"{one.name}: {answered} orders answered with 202, {len(stored)} stored, "
                    f"{len(set(published))} published"
                )
            await asyncio.sleep(0.5)


async def _note(message: aio_pika.abc.AbstractIncomingMessage, published: list[str]) -> None:
    published.append(message.correlation_id or "")
