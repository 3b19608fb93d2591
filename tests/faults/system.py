"""One scenario's own system: every app as a real process, a virtual host and databases of its own."""

import asyncio
import json
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from apps.cli.api_client import bearer
from apps.cli.books import Stores
from apps.cli.local.ports import free_port
from apps.cli.local.stack import LocalStack
from tests.connected.conftest import eventually
from tests.faults.load import Load
from tests.faults.mail_server import MailServer
from tests.faults.services import STATISTICS_SECONDS, Services
from tests.faults.wiretap import QUEUE as WIRETAP
from tests.faults.wiretap import Wiretap

DEAD_NOW = {"source": "dead", "state": {"$ne": "replayed"}}
"""Archived messages that their consumers gave up, but for those that an operator has sent again since."""
FAILPOINTS = Path(__file__).parent / "failpoints"
QUIET_SECONDS = 2.5 * STATISTICS_SECONDS
"""For so long nothing may be left anywhere: RabbitMQ's own figures lag behind by up to two counts."""
SETTINGS = {
    "ORDERFLOW_RETRY_DELAYS_SECONDS": "[0.3, 0.6, 1, 2]",
    "ORDERFLOW_RELAY_AFTER_SECONDS": "2",
    "ORDERFLOW_LOG_FORMAT": "json",
}


@dataclass
class System:
    """A running system, and what an auditor reads of it."""

    services: Services
    stack: LocalStack
    vhost: str
    rabbitmq_url: str
    """Without any proxy in between."""
    prefix: str
    mongo: AsyncMongoClient[dict[str, Any]]
    wiretap: Wiretap
    mail_server: MailServer | None
    seed: str

    def database(self, app: str) -> Any:
        """An app's own database."""
        return self.mongo[f"{self.prefix}_{app}"]

    def load(self, **options: Any) -> Load:
        """A load of this scenario's seed, not started: see `Load` for the options."""
        return Load(self.stack.api_urls, self.stack.api_key, self.rabbitmq_url, self.seed, **options)

    def log(self, process: str) -> str:
        """All that a process has written, over all of its runs."""
        return (self.stack.logs / f"{process}.log").read_text(errors="replace")

    def entries(self, process: str) -> list[dict[str, Any]]:
        """What a process has logged, without what others have written there."""
        return [json.loads(line) for line in self.log(process).splitlines() if line.startswith("{")]

    def kill(self, process: str) -> None:
        """End a process with SIGKILL; its supervisor starts it again."""
        os.kill(self.stack.supervisor.pid(process), signal.SIGKILL)

    def mails(self) -> Counter[str]:
        """How often each Message-ID was taken by the mail server."""
        if self.mail_server is not None:
            return self.mail_server.mails
        parser = BytesHeaderParser()
        files = self.stack.mails.glob("*.eml")
        return Counter(str(parser.parsebytes(file.read_bytes())["Message-ID"]) for file in files)

    @property
    def operator(self) -> httpx.AsyncClient:
        """The HTTP API, as an operator uses it."""
        return httpx.AsyncClient(
            base_url=self.stack.api_url, headers=bearer(self.stack.api_key), timeout=15, trust_env=False
        )

    async def management(self, path: str) -> Any:
        """What RabbitMQ's management API says of a part of this virtual host."""
        node = self.services.rabbitmq
        async with httpx.AsyncClient(auth=node.login, timeout=10, trust_env=False) as http:
            resource, _, rest = path.partition("/")
            url = f"{node.management_url}/api/{resource}/{quote(self.vhost, safe='')}"
            answer = await http.get(f"{url}/{rest}" if rest else url)
        answer.raise_for_status()
        return answer.json()

    async def checks(self, process: str) -> dict[str, str]:
        """What a process says of its readiness: `ok` or what is wrong, by check; empty without an answer."""
        try:
            async with httpx.AsyncClient(timeout=10, trust_env=False) as http:
                answer = await http.get(self.stack.supervisor.ready_url(process))
        except httpx.TransportError:
            return {}
        if answer.is_server_error and answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
            return {"answer": str(answer.status_code)}
        return dict(answer.json()["checks"])

    async def queue_sizes(self) -> dict[str, int]:
        """Messages in each queue, waiting or with a consumer; one whose size is not known counts as 1."""
        return {queue["name"]: queue.get("messages", 1) for queue in await self.management("queues")}

    async def counted(self, load: Load) -> None:
        """Wait until stock knows of every article: until then it refuses whoever wants one."""
        levels = self.database("stock")["levels"]

        async def check() -> bool:
            return await levels.count_documents({}) >= len(load.initial)

        await eventually(check, "every article counted")

    async def wait_for(self, sign: str, process: str, deadline_seconds: float = 120) -> None:
        """Wait until a process has written this to its log."""

        async def check() -> bool:
            return sign in self.log(process)

        await eventually(check, f"{process} writes {sign!r}", deadline_seconds)

    async def ready(self, deadline_seconds: float = 180) -> None:
        """Wait until every process of the apps says that it is ready, however often it was killed."""

        async def check() -> bool:
            states = await asyncio.gather(*map(self.is_ready, self.stack.processes))
            return all(states)

        await eventually(check, "all processes are ready", deadline_seconds)

    async def is_ready(self, process: str) -> bool:
        try:
            async with httpx.AsyncClient(timeout=10, trust_env=False) as http:
                answer = await http.get(self.stack.supervisor.ready_url(process))
        except httpx.TransportError:
            return False
        return answer.is_success

    async def restarted(self, process: str, times: int, deadline_seconds: float = 120) -> None:
        """Wait until the process has been started again so often."""

        async def check() -> bool:
            return self.stack.supervisor.restarts(process) >= times

        await eventually(check, f"{process} is started again", deadline_seconds)

    async def turns_red(self, process: str, deadline_seconds: float = 30) -> None:
        """Wait until a process answers that it is not ready."""

        async def is_red() -> bool:
            return any(state != "ok" for state in (await self.checks(process)).values())

        await eventually(is_red, f"{process} not ready", deadline_seconds)

    async def fired(self, process: str, deadline_seconds: float = 120) -> None:
        """Wait until the process has died at its failpoint, and is started again."""

        async def check() -> bool:
            return fired_file(self.stack.home, process).exists()

        await eventually(check, f"{process} dies at its failpoint", deadline_seconds)
        await self.restarted(process, 1, deadline_seconds)

    async def recovered(self, load: Load, deadline_seconds: float = 180) -> float:
        """Seconds from now until every app is ready, and every order accepted until now is settled."""
        began, goal = time.monotonic(), len(load.placed)

        async def check() -> bool:
            return await asyncio.to_thread(self._stores.settled) >= goal

        await self.ready(deadline_seconds)
        await eventually(check, f"{goal} orders settled", deadline_seconds)
        return time.monotonic() - began

    async def settled(
        self, load: Load, deadline_seconds: float = 180, *, keeps: frozenset[str] = frozenset()
    ) -> None:
        """Wait until all is done: every accepted order, every queue, every dead letter.

        Args:
            load: what was accepted, and what must die.
            deadline_seconds: from now on; the failure says what is left.
            keeps: more queues that may hold something in the end.
        """
        deadline = time.monotonic() + deadline_seconds
        quiet_since: float | None = None
        while True:
            left = await self._left(load, keeps)
            now = time.monotonic()
            if left is None:
                quiet_since = quiet_since or now
                if now - quiet_since >= QUIET_SECONDS:
                    return
            else:
                quiet_since = None
                assert now < deadline, f"not settled within {deadline_seconds:g} s: {left}"
            await asyncio.sleep(0.25)

    async def _left(self, load: Load, keeps: frozenset[str]) -> str | None:
        """What is not done yet, the first such thing."""
        try:
            settled = await asyncio.to_thread(self._stores.settled)
            sizes = await self.queue_sizes()
            archived = await self.database("recovery")["dead_letters"].count_documents(DEAD_NOW)
        except (PyMongoError, httpx.HTTPError) as error:
            return f"no answer: {error!r}"
        if settled < len(load.placed):
            return f"{settled} of {len(load.placed)} orders"
        dead = sizes.get("dead", 0) + archived
        if dead < (expected := sum(len(poison.queues) for poison in load.poison.values())):
            return f"{dead} of {expected} dead letters"
        left = {name: size for name, size in sizes.items() if size and name not in {"dead", WIRETAP, *keeps}}
        return f"messages in {left}" if left else None

    @cached_property
    def _stores(self) -> Stores:
        return Stores(self.stack.mongodb_url, self.prefix)


def fired_file(home: Path, process: str) -> Path:
    return home / f"{process}.fired"


@asynccontextmanager
async def running_system(  # noqa: PLR0913, RUF100
    services: Services,
    home: Path,
    seed: str,
    *,
    settings: Mapping[str, str] = {},
    settings_of: Mapping[str, Mapping[str, str]] = {},
    failpoints: Mapping[str, str] = {},
    replicas: int = 1,
    rabbitmq_port: int | None = None,
    mongodb_url: str | None = None,
    mail_server: MailServer | None = None,
    tap: Iterable[str] = ("#",),
) -> AsyncIterator[System]:
    """Start a system, and take all of it away in the end.

    Args:
        services: what it shares with other scenarios.
        home: an empty directory.
        seed: of its loads.
        settings: for all processes.
        settings_of: for one process by name, such as `stock` or `stock-2`.
        failpoints: what breaks in one process: see `failpoints/sitecustomize.py`.
        replicas: processes per app.
        rabbitmq_port: where the apps find RabbitMQ, such as a proxy; the load and the ledger go direct.
        mongodb_url: where apps and ledger find MongoDB, instead of the session's.
        mail_server: instead of the mail sink.
        tap: routing keys of the events that the wiretap keeps; what it keeps is never unrouted.
    """
    name = f"faults_{uuid4().hex[:12]}"
    node = services.rabbitmq
    rabbitmq_url = await asyncio.to_thread(node.create_vhost, name)
    direct_port = rabbitmq_url.rpartition(":")[2].partition("/")[0]
    apps_url = rabbitmq_url.replace(f":{direct_port}/", f":{rabbitmq_port or direct_port}/")
    mongodb_url = mongodb_url or services.mongodb.url
    broken = {
        process: {
            "PYTHONPATH": str(FAILPOINTS),
            "ORDERFLOW_FAILPOINT": points,
            "ORDERFLOW_FAILPOINT_FIRED": str(fired_file(home, process)),
        }
        for process, points in failpoints.items()
    }
    stack = LocalStack(
        home,
        api_port=free_port(),
        environment=SETTINGS
        | {"ORDERFLOW_DATABASE_PREFIX": name}
        | (mail_server.settings if mail_server else {})
        | dict(settings),
        environment_of={
            process: dict(settings_of.get(process, {})) | broken.get(process, {})
            for process in {*settings_of, *broken}
        },
        rabbitmq_url=apps_url,
        mongodb_url=mongodb_url,
        replicas=replicas,
    )
    mongo: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
        mongodb_url, tz_aware=True, uuidRepresentation="standard", serverSelectionTimeoutMS=3000
    )
    try:
        async with stack, Wiretap(rabbitmq_url, tap) as wiretap:
            if unknown := ({*settings_of, *failpoints} - set(stack.processes)):
                raise ValueError(f"there is no process {min(unknown)}")
            yield System(
                services, stack, name, rabbitmq_url, name, mongo, wiretap, mail_server, f"{seed}/{home.name}"
            )
    finally:
        await services.restore()
        for database in await mongo.list_database_names():
            if database.startswith(f"{name}_"):
                await mongo.drop_database(database)
        await mongo.close()
        await asyncio.to_thread(node.delete_vhost, name)
