"""FastStream's own commands, `run`, `docs gen` and `docs serve`, work on every app."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from uuid import uuid4

import aio_pika
import httpx
import pytest
import yaml
from conftest import System, eventually

from apps.cli.local.ports import free_port
from apps.cli.local.stack import WORKERS
from apps.cli.system import apply_topology

pytestmark = pytest.mark.connected

ROOT = Path(__file__).parents[2]
TRY_IT_OUT = ("/try", "/docs/try", "/asyncapi/try", "/docs/asyncapi/try", "/docs/asyncapi")
"""Where FastStream puts it under the names that it and others give to the document."""

each_app = pytest.mark.parametrize("app", WORKERS)


@asynccontextmanager
async def faststream(*arguments: str, **settings: str) -> AsyncIterator[Process]:
    """A `faststream` command in the background, with all that it starts; ended with the context."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "faststream", *arguments),
        cwd=ROOT,
        env={**os.environ, **settings},
        stdout=DEVNULL,
        stderr=DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def answers(http: httpx.AsyncClient, path: str) -> None:
    """Wait until a path is served."""

    async def check() -> bool:
        try:
            return (await http.get(path)).status_code == 200
        except httpx.TransportError:
            return False

    await eventually(check, f"{http.base_url}{path}", 60)


@dataclass(frozen=True)
class Alone:
    """A virtual host with the topology and nobody in it."""

    settings: dict[str, str]
    channel: aio_pika.abc.AbstractChannel

    async def consumers(self, queue: str) -> int:
        declared = await self.channel.declare_queue(queue, passive=True)
        return declared.declaration_result.consumer_count or 0


@pytest.fixture(scope="module")
async def alone(system: System) -> AsyncIterator[Alone]:
    node, name = system.stack.rabbitmq, f"tools-{uuid4().hex[:8]}"
    assert node is not None
    url = await asyncio.to_thread(node.create_vhost, name)
    await apply_topology(url)
    settings = {
        **system.stack.addresses,
        "ORDERFLOW_RABBITMQ_URL": url,
        "ORDERFLOW_DATABASE_PREFIX": name.replace("-", "_"),
    }
    async with await aio_pika.connect(url) as connection:
        yield Alone(settings, await connection.channel())
    await asyncio.to_thread(node.delete_vhost, name)


@pytest.mark.parametrize(("app", "workers"), [*((app, 1) for app in WORKERS), ("stock", 2)])
async def test_faststream_run(alone: Alone, app: str, workers: int) -> None:
    """Each process consumes, one port says that they are ready, and SIGTERM ends all of them cleanly."""
    port = free_port()
    module = f"apps.{app}.app"
    queue = import_module(module).broker.consumers[0].queue.name
    options = ("--workers", str(workers)) if workers > 1 else ()
    listen = ("--host", "127.0.0.1", "--port", str(port))
    async with (
        faststream("run", f"{module}:app", *listen, *options, **alone.settings) as process,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http,
    ):

        async def all_consume() -> bool:
            return await alone.consumers(queue) == workers

        await eventually(all_consume, f"{workers} consumers of {queue}", 60)
        await answers(http, "/health/ready")
        tried = {path: (await http.post(path, json={})).status_code for path in TRY_IT_OUT}
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 40) == 0

    assert tried == dict.fromkeys(TRY_IT_OUT, 404)
    assert await alone.consumers(queue) == 0


async def test_ingress_has_no_way_to_inject_messages(system: System) -> None:
    """FastStream's try-it-out is absent there too, with an administrator's key."""
    tried = {path: (await system.api.post(path, json={})).status_code for path in TRY_IT_OUT}

    assert set(tried.values()) <= {404, 405}, tried


async def generated(app: str, file: Path, *options: str) -> str:
    """The document as `faststream docs gen` writes it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "faststream", "docs", "gen", f"apps.{app}.app:app", *options),
        *("--out", str(file)),
        cwd=ROOT,
        stdout=PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    return file.read_text()


@each_app
async def test_faststream_docs_gen(app: str, tmp_path: Path) -> None:
    """As YAML it writes the committed document, and as JSON the same content."""
    as_yaml = await generated(app, tmp_path / "document.yaml", "--yaml")
    as_json = await generated(app, tmp_path / "document.json")

    committed = yaml.safe_load((ROOT / "asyncapi" / f"{app}.yaml").read_text())
    assert yaml.safe_load(as_yaml) == committed
    assert json.loads(as_json) == committed


@pytest.mark.parametrize("what", [*(f"apps.{app}.app:app" for app in WORKERS), "asyncapi/system.yaml"])
async def test_faststream_docs_serve(what: str) -> None:
    """It serves the page of an app or of a committed document, and takes no messages."""
    port = free_port()
    async with (
        faststream("docs", "serve", what, "--host", "127.0.0.1", "--port", str(port)),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http,
    ):
        await answers(http, "/")
        page = (await http.get("/")).text
        refused = {(await http.post(path, json={})).status_code for path in TRY_IT_OUT}

    assert "<title>Orderflow" in page
    assert "TryItOut" not in page
    assert refused == {501}  # it knows GET only
