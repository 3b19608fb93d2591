"""The programs on the documentation site do what the site says, exactly as they stand there."""

import asyncio
import html
import os
import re
import shutil
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote
from uuid import UUID, uuid4

import aio_pika
import httpx
import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from conftest import System, eventually

from apps.kit.topology import EVENTS as EVENTS_EXCHANGE
from apps.kit.topology import UNROUTED
from apps.site.pages import build
from apps.site.snippets import TOOLS, Tool
from contracts import EVENTS, Event, InvoiceIssued, OrderCreated

pytestmark = pytest.mark.connected

NODE_PROJECT = Path(__file__).with_name("snippets")
RUN_SECONDS = 90
each_tool = pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.key)

# Many programs in one process: each is run as it stands, but the libraries are loaded once.
_RUNNERS = {
    "python": [sys.executable, "-c", "import runpy, sys\nfor file in sys.argv[1:]: runpy.run_path(file)"],
    "node": [
        "node",
        "--input-type=module",
        "-e",
        "for (const file of process.argv.slice(1)) await import(`file://${file}`);",
    ],
    "sh": ["sh", "-c", 'for file in "$@"; do sh "$file" || exit; done', "sh"],
}

Program = Callable[[str, type[Event]], Path]
Start = Callable[..., Awaitable[Process]]


@pytest.fixture(scope="module")
def site() -> dict[str, str]:
    """The pages, as a reader gets them."""
    return {path: content.decode() for path, content in build().items() if path.endswith(".html")}


@pytest.fixture
async def channel(system: System) -> AsyncIterator[tuple[AbstractChannel, str]]:
    """A channel to a virtual host of the test's own, with the exchange of all events; and the host's name."""
    name = f"snippets-{uuid4().hex[:8]}"
    node = system.stack.rabbitmq
    assert node is not None
    url = node.create_vhost(name)
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        for exchange in (UNROUTED, EVENTS_EXCHANGE):
            await channel.declare_exchange(
                exchange.name, exchange.type.value, durable=True, arguments=exchange.arguments
            )
        yield channel, name
    node.delete_vhost(name)


@pytest.fixture(scope="module")
async def desk(system: System, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader's directory, with what the programs need installed as the pages say."""
    desk = tmp_path_factory.mktemp("desk")
    node = system.stack.rabbitmq
    assert node is not None
    assert shutil.which("npm"), "npm is missing: apt-get install npm"
    npm = await asyncio.create_subprocess_exec("npm", "install", "--silent", "--prefix", NODE_PROJECT)
    assert await npm.wait() == 0, "npm could not install amqplib"
    (desk / "node_modules").symlink_to(NODE_PROJECT / "node_modules")
    async with httpx.AsyncClient(base_url=node.management_url, auth=node.login) as http:
        answer = await http.get("/cli/rabbitmqadmin")
    (desk / "rabbitmqadmin").write_bytes(answer.raise_for_status().content)
    return desk


@pytest.fixture
def program(site: dict[str, str], desk: Path, tool: Tool) -> Program:
    """Saves a program of the test's tool, copied from the page of an event."""

    def save(action: str, event: type[Event]) -> Path:
        return _save(site, desk, tool, action, event)

    return save


def _save(site: dict[str, str], desk: Path, tool: Tool, action: str, event: type[Event]) -> Path:
    page = site[f"events/{event.topic}.html"]
    found = re.search(rf'id="{action}-{tool.key}".*?<pre[^>]*><code>(.*?)</code>', page, re.DOTALL)
    assert found
    text = html.unescape(re.sub("<[^>]+>", "", found[1]))
    file = desk / f"{action}-{event.topic}-{uuid4().hex[:4]}.{tool.suffix}"
    file.write_text(text)
    return file


@asynccontextmanager
async def running(system: System, tool: Tool, vhost: str, *files: Path) -> AsyncIterator[Process]:
    """The programs, one after the other in one process, with nothing but the variables of the pages."""
    node = system.stack.rabbitmq
    assert node is not None
    user, password = node.login
    process = await asyncio.create_subprocess_exec(
        *_RUNNERS[tool.run.partition(" ")[0]],
        *files,
        cwd=files[0].parent,
        env=os.environ
        | {
            "ORDERFLOW_RABBITMQ_URL": node.url + ("" if vhost == "/" else vhost),
            "ORDERFLOW_RABBITMQ_MANAGEMENT_URL": node.management_url.replace("//", f"//{user}:{password}@"),
            "ORDERFLOW_RABBITMQ_VHOST": vhost,
        },
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def run(system: System, tool: Tool, vhost: str, *files: Path) -> str:
    """What the programs print; fails if one of them does."""
    async with running(system, tool, vhost, *files) as process:
        out, err = await asyncio.wait_for(process.communicate(), RUN_SECONDS)
    assert process.returncode == 0, (out + err).decode()
    return out.decode()


async def line(process: Process) -> str:
    """What the program prints next."""
    assert process.stdout is not None
    assert process.stderr is not None
    said = await asyncio.wait_for(process.stdout.readline(), RUN_SECONDS)
    assert said, (await process.stderr.read()).decode()
    return said.decode()


async def consumed(system: System, vhost: str, queue: str) -> None:
    """Wait until the queue is there and somebody consumes it."""
    node = system.stack.rabbitmq
    assert node is not None
    async with httpx.AsyncClient(base_url=node.management_url, auth=node.login) as http:

        async def check() -> bool:
            answer = await http.get(f"/api/consumers/{quote(vhost, safe='')}")
            return queue in [consumer["queue"]["name"] for consumer in answer.json()]

        await eventually(check, f"a consumer of {queue}", RUN_SECONDS)


async def acknowledged(system: System, vhost: str, queue: str) -> None:
    """Wait until RabbitMQ has counted an acknowledgement."""
    node = system.stack.rabbitmq
    assert node is not None
    async with httpx.AsyncClient(base_url=node.management_url, auth=node.login) as http:

        async def check() -> bool:
            answer = await http.get(f"/api/queues/{quote(vhost, safe='')}/{queue}")
            return bool(answer.json().get("message_stats", {}).get("ack"))

        await eventually(check, f"an acknowledgement in {queue}", RUN_SECONDS)


def check(message: AbstractIncomingMessage, event: type[Event]) -> None:
    """The message is a valid event, new, with every property and header that our own apps set."""
    sent = event.model_validate_json(message.body)
    assert UUID(message.message_id or "") != sent.event_id
    assert message.correlation_id == sent.correlation_id
    assert (message.type, message.routing_key) == (event.topic, event.topic)
    assert (message.content_type, message.content_encoding) == ("application/json", "utf-8")
    assert message.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
    assert message.app_id == "your-app"
    assert message.timestamp is not None
    assert abs(datetime.now(UTC) - message.timestamp) < timedelta(minutes=5)
    assert abs(sent.occurred_at - message.timestamp) < timedelta(seconds=2)
    time = message.headers.pop("cloudEvents:time")
    assert abs(datetime.fromisoformat(str(time)) - message.timestamp) < timedelta(seconds=2)
    assert {name: value for name, value in message.headers.items() if name.startswith("cloudEvents:")} == {
        "cloudEvents:specversion": "1.0",
        "cloudEvents:id": message.message_id,
        "cloudEvents:type": event.topic,
        "cloudEvents:source": "/your-app",
        "cloudEvents:subject": message.correlation_id,
    }


@each_tool
async def test_programs_publish_every_event(
    system: System, channel: tuple[AbstractChannel, str], tool: Tool, program: Program
) -> None:
    """Each program of each page sends a complete, valid, persistent event, and says that it is confirmed."""
    its, vhost = channel
    queue = await its.declare_queue(exclusive=True)
    await queue.bind(EVENTS_EXCHANGE.name, "#")

    out = await run(system, tool, vhost, *[program("publish", event) for event in EVENTS])

    assert len(re.findall(r"^(confirmed|Message published)", out, re.MULTILINE)) == len(EVENTS), out
    for event in EVENTS:
        message = await queue.get(no_ack=True, timeout=10)
        assert message is not None
        check(message, event)


@each_tool
async def test_program_subscribes(
    system: System, channel: tuple[AbstractChannel, str], tool: Tool, program: Program
) -> None:
    """A program gets a queue of its own, receives what is published, and acknowledges it."""
    its, vhost = channel
    name = "your-app.order-created"
    subscribe, publish = program("subscribe", OrderCreated), program("publish", OrderCreated)

    if tool.key == "rabbitmqadmin":  # it asks once and ends
        await run(system, tool, vhost, subscribe)
        await run(system, tool, vhost, publish)
        said = await run(system, tool, vhost, subscribe)
    else:
        async with running(system, tool, vhost, subscribe) as process:
            await consumed(system, vhost, name)
            await run(system, tool, vhost, publish)
            said = ""
            while OrderCreated.topic not in said:
                said = await line(process)
            await acknowledged(system, vhost, name)

    assert OrderCreated.topic in said
    declared = await its.declare_queue(name, passive=True)
    assert declared.declaration_result.message_count == 0


async def test_orders_published_from_the_pages_are_invoiced(
    system: System, site: dict[str, str], desk: Path
) -> None:
    """With nothing but the pages an order goes in by Python, Node and rabbitmqadmin, and is invoiced."""
    aio_pika_, _, node, admin = TOOLS
    await system.stock_up(None, [line["sku"] for line in OrderCreated.example["lines"]])
    async with running(system, node, "/", _save(site, desk, node, "subscribe", InvoiceIssued)) as subscriber:
        await consumed(system, "/", "your-app.invoice-issued")
        invoiced: set[str] = set()
        for count, tool in enumerate((aio_pika_, node, admin), start=1):
            await run(system, tool, "/", _save(site, desk, tool, "publish", OrderCreated))
            while len(invoiced) < count:
                topic, order_id = (await line(subscriber)).split()
                assert topic == InvoiceIssued.topic
                order = await system.settled(order_id)
                if order["reference"] == OrderCreated.example["reference"]:
                    invoiced.add(order_id)
    await (await system.channel.get_queue("your-app.invoice-issued", ensure=False)).delete(
        if_unused=False, if_empty=False
    )
