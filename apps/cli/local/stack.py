"""The whole system on one machine: services, mail sink, topology, every app; all of it stopped at the end."""

import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console

from apps.cli.local.api_key import key_kept_in, make_valid
from apps.cli.local.merged_log import MergedLog
from apps.cli.local.mongodb import MongoReplicaSet
from apps.cli.local.ports import LOOPBACK, free_port, require_free
from apps.cli.local.rabbitmq import RabbitNode
from apps.cli.local.rabbitmq_install import ensure_rabbitmq_installed
from apps.cli.local.running import announced, exclusive
from apps.cli.local.supervisor import Supervisor
from apps.kit.errors import DependencyUnavailable

API = "api"
WORKERS = ("orders", "stock", "billing", "notifications", "recovery", "webhooks", "documents")
API_PORT = 8000
READY_TIMEOUT_SECONDS = 180.0
TOPOLOGY_TIMEOUT_SECONDS = 30.0

Service = RabbitNode | MongoReplicaSet


class LocalStack:
    """Up while the context is open; what it stores stays in `<home>/data` for the next time."""

    def __init__(
        self,
        home: Path,
        *,
        environment: Mapping[str, str] = {},
        echo: bool = False,
        api_port: int | None = None,
        say: Callable[[str], None] = lambda _message: None,
        console: Console | None = None,
        rabbitmq_url: str | None = None,
        mongodb_url: str | None = None,
        replicas: int = 1,
        environment_of: Mapping[str, Mapping[str, str]] = {},
    ) -> None:
        """Prepare without starting anything.

        Args:
            home: holds data, logs, mails and the `env` file.
            environment: settings for the apps, before all others.
            echo: print the apps' logs, merged.
            api_port: where the API must listen; the first free port from 8000 if not given.
            say: told each step of the start and the stop.
            console: where the merged log goes, standard output if not given.
            rabbitmq_url: a running RabbitMQ; that of the environment, else a private node, if not given.
            mongodb_url: a running replica set, in the same way.
            replicas: processes per app, named `stock`, `stock-2` and so on; `api_url` is the first one's.
            environment_of: settings for single processes by name, before `environment`.
        """
        self.home = home.resolve()
        self.logs = self.home / "logs"
        self.mails = self.home / "data" / "mails"
        self.documents = self.home / "data" / "documents"
        self.rabbitmq_url = rabbitmq_url or os.environ.get("ORDERFLOW_RABBITMQ_URL", "")
        self.mongodb_url = mongodb_url or os.environ.get("ORDERFLOW_MONGODB_URL", "")
        self.api_urls: list[str] = []
        self.api_key = ""
        """Has every scope; empty before the start."""
        self.rabbitmq = None if self.rabbitmq_url else RabbitNode(self.home / "data" / "rabbitmq")
        self.mongodb = None if self.mongodb_url else MongoReplicaSet(self.home / "data" / "mongodb")
        self._environment = dict(environment)
        self._environment_of = environment_of
        self._replicas = replicas
        self._api_port = api_port
        self._say = say
        if echo:
            console = console or Console()
            self.supervisor = Supervisor(self.logs, sink=MergedLog(console))
            if console.is_terminal and "ORDERFLOW_LOG_FORMAT" not in os.environ:
                self._environment.setdefault("ORDERFLOW_LOG_FORMAT", "console")
        else:
            self.supervisor = Supervisor(self.logs)
        self._undo = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Start everything; when it returns, every app is ready."""
        async with AsyncExitStack() as undo:
            # The home holds mails and a password: nobody else's business.
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            undo.enter_context(exclusive(self.home))
            port = free_port(API_PORT) if self._api_port is None else require_free(self._api_port)
            self.api_urls = [f"http://{LOOPBACK}:{port}"]
            await self._start_services(undo)
            self._say("declaring the topology")
            await _declare_topology(self.rabbitmq_url)
            await self._make_key()
            self._add_processes(port)
            self._say("starting the apps")
            undo.push_async_callback(self.supervisor.stop)
            await self.supervisor.start()
            await self.supervisor.wait_ready(READY_TIMEOUT_SECONDS)
            undo.enter_context(announced(self.home, self.addresses))
            undo.callback(self._say, "stopping the apps")
            self._undo = undo.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the apps, which finish what they have begun, and then the services."""
        await self._undo.aclose()

    @property
    def api_url(self) -> str:
        """Of the first ingress; empty before the start."""
        return self.api_urls[0] if self.api_urls else ""

    @property
    def processes(self) -> list[str]:
        """The names of all processes of the apps."""
        return [_replica(app, number) for number in range(1, self._replicas + 1) for app in (API, *WORKERS)]

    @property
    def addresses(self) -> dict[str, str]:
        """The settings by which other processes reach this system."""
        addresses = {
            "ORDERFLOW_RABBITMQ_URL": self.rabbitmq_url,
            "ORDERFLOW_MONGODB_URL": self.mongodb_url,
            "ORDERFLOW_API_URL": self.api_url,
            "ORDERFLOW_API_KEY": self.api_key,
        }
        if self.rabbitmq is not None:
            addresses["ORDERFLOW_RABBITMQ_MANAGEMENT_URL"] = self.rabbitmq.management_url
        return addresses

    @property
    def urls(self) -> dict[str, str]:
        """Where people look, in the order in which they are likely to."""
        urls = {
            "Console": f"{self.api_url}/console/",
            "API": self.api_url,
            "API key": self.api_key,
            "API documentation": f"{self.api_url}/docs",
            "Event documentation": f"{self.api_url}/asyncapi",
            "Health": f"{self.api_url}/health/ready",
        }
        if self.rabbitmq is not None:
            user, password = self.rabbitmq.login
            urls["RabbitMQ"] = f"{self.rabbitmq.management_url} (user {user}, password {password})"
        if self.mongodb is not None:
            urls["MongoDB"] = self.mongodb.url
        return urls | {"Mails": str(self.mails), "PDFs": str(self.documents), "Logs": str(self.logs)}

    async def _start_services(self, undo: AsyncExitStack) -> None:
        if self.rabbitmq is not None:
            await asyncio.to_thread(ensure_rabbitmq_installed, self._say)
        own = [service for service in (self.rabbitmq, self.mongodb) if service is not None]
        if own:
            undo.push_async_callback(_stop_services, own)
            undo.callback(self._say, "stopping the services")
            self._say("starting the services")
            await _start_services(own)
        if self.rabbitmq is not None:
            self.rabbitmq_url = self.rabbitmq.url
        if self.mongodb is not None:
            self.mongodb_url = self.mongodb.url

    async def _make_key(self) -> None:
        self.api_key = key_kept_in(self.home)
        environment = {**os.environ, **self._environment}
        await make_valid(self.api_key, self.mongodb_url, environment.get("ORDERFLOW_DATABASE_PREFIX"))

    def _add_processes(self, api_port: int) -> None:
        smtp_port = free_port(1025)
        environment = {
            # A receiver that is tried out runs here too.
            "ORDERFLOW_WEBHOOK_ALLOW_LOOPBACK": "true",
            # Nobody needs to be held back on a machine of one's own.
            "ORDERFLOW_REQUESTS_PER_MINUTE": "0",
            "ORDERFLOW_DOCUMENTS_URL": str(self.documents),
            # Here people watch orders go by; where there are many, a line for each message costs too much.
            "ORDERFLOW_LOG_LEVELS": '{"apps.kit.subscriber": "debug"}',
            **os.environ,
            **self.addresses,
            "PYTHONUNBUFFERED": "1",
            "ORDERFLOW_PUBLIC_URL": self.api_url,
            # Mails and SMS stay on this machine, whatever the shell is configured for.
            "ORDERFLOW_SMTP_HOST": LOOPBACK,
            "ORDERFLOW_SMTP_PORT": str(smtp_port),
            "ORDERFLOW_SMTP_SECURITY": "none",
            **self._environment,
        }
        for name in (
            "ORDERFLOW_SMTP_USERNAME",
            "ORDERFLOW_SMTP_PASSWORD",
            "ORDERFLOW_TWILIO_ACCOUNT_SID",
            "ORDERFLOW_API_KEY",  # for clients; no app has use for it
        ):
            environment.pop(name, None)
        sink = ("apps.cli.local.mail_sink", "--port", str(smtp_port), "--directory", str(self.mails))
        self.supervisor.add("mail", [sys.executable, "-m", *sink], environment)
        ports = _ports_from(api_port)
        for number in range(1, self._replicas + 1):
            for app in (API, *WORKERS):
                name, url = _replica(app, number), f"http://{LOOPBACK}:{(port := next(ports))}"
                if app == API and number > 1:
                    self.api_urls.append(url)
                self.supervisor.add(
                    name,
                    _command(app, port),
                    {**environment, **self._environment_of.get(name, {})},
                    f"{url}/health/ready",
                )


def _replica(app: str, number: int) -> str:
    return app if number == 1 else f"{app}-{number}"


def _command(app: str, port: int) -> list[str]:
    """What runs one process of an app."""
    listen = ("--host", LOOPBACK, "--port", str(port))
    if app == API:
        # Longer than clients and load balancers keep an idle connection: else one is closed as it is used.
        keep_alive = ("--timeout-keep-alive", "75")
        return [sys.executable, "-m", "uvicorn", "apps.ingress.api:api", *listen, *keep_alive]
    return [sys.executable, "-m", "faststream", "run", f"apps.{app}.app:app", *listen]


def _ports_from(first: int) -> Iterator[int]:
    """The first port, then the next ones that are free, none of them twice."""
    given = {first}
    yield first
    for preferred in count(first + 1):
        while (port := free_port(preferred)) in given:
            pass
        given.add(port)
        yield port


async def _declare_topology(rabbitmq_url: str) -> None:
    # FastStream takes a second to import: only those who start something wait for it.
    from apps.cli.system import apply_topology  # noqa: PLC0415

    deadline = time.monotonic() + TOPOLOGY_TIMEOUT_SECONDS
    while True:
        try:
            return await apply_topology(rabbitmq_url)
        except DependencyUnavailable:
            # A node on a slow machine may not make a quorum queue in the five seconds that it gives itself.
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(1)


async def _start_services(services: Sequence[Service]) -> None:
    """Start all at once; a failure of one, or a cancellation, does not wait for the others' success."""
    starts = {asyncio.create_task(asyncio.to_thread(service.start)) for service in services}
    try:
        first, _ = await asyncio.wait(starts, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        if not all(start.done() for start in starts):
            await _stop_services(services)
            # These failures only follow from the stop: the first one, below, is the cause.
            await asyncio.gather(*starts, return_exceptions=True)
    for start in first:
        start.result()


async def _stop_services(services: Sequence[Service]) -> None:
    await asyncio.gather(*(asyncio.to_thread(service.stop) for service in services))
