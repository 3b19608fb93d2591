"""`orderflow doctor`: what this machine has, what is missing, and how to get it."""

import asyncio
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import aio_pika
import typer
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from rich.console import Console
from rich.table import Table

from apps.cli.local.mongodb import find_mongod
from apps.cli.local.rabbitmq_install import (
    INSTALL_HINT,
    MINIMUM_VERSION,
    apt_get,
    dotted,
    find_rabbitmq_server,
    rabbitmq_version,
)
from apps.cli.local.running import running_in
from apps.cli.up import HOME

NEEDED_DISK_BYTES = 500_000_000  # RabbitMQ blocks publishers below 200 MB
CONNECT_TIMEOUT_SECONDS = 3.0


class State(StrEnum):
    """What a check found."""

    OK = "ok"
    INSTALLABLE = "installable"
    """Missing, but `orderflow up` brings it."""
    OPTIONAL = "optional"
    """Missing, and not needed to run."""
    MISSING = "missing"


@dataclass(frozen=True)
class Finding:
    """The outcome of one check; the remedy is empty if there is nothing to do."""

    name: str
    state: State
    detail: str
    remedy: str = ""


Check = Callable[[], Finding]
_COLOURS = {State.OK: "green", State.INSTALLABLE: "yellow", State.OPTIONAL: "dim", State.MISSING: "red"}


def checks(home: Path) -> Sequence[Check]:
    """All checks, those first that everything else needs."""
    return (
        check_python,
        check_rabbitmq,
        check_mongodb,
        check_mail_sink,
        partial(check_disk, home),
        partial(check_running, home),
        partial(check_tool, "node", "checks the AsyncAPI documents"),
    )


def doctor(
    home: Annotated[Path, typer.Option(help="Directory that `orderflow up` uses.")] = HOME,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Say what is present, what is missing and how to get it; exit code 1 if `orderflow up` could not run.

    Example: orderflow doctor --json
    """
    findings = [check() for check in checks(home)]
    able = all(finding.state is not State.MISSING for finding in findings)
    if as_json:
        typer.echo(json.dumps({"able": able, "checks": [asdict(finding) for finding in findings]}, indent=2))
    else:
        table = Table("", "", "Found", "What to do", box=None)
        for finding in findings:
            colour = _COLOURS[finding.state]
            table.add_row(
                finding.name, f"[{colour}]{finding.state}[/{colour}]", finding.detail, finding.remedy
            )
        Console().print(table)
    raise typer.Exit(0 if able else 1)


def check_python() -> Finding:
    """The version that runs this command: uv has made sure that it is new enough."""
    return Finding("Python", State.OK, dotted(sys.version_info[:3]))


def check_rabbitmq() -> Finding:
    """The configured broker if there is one, else a server to start here."""
    if url := os.environ.get("ORDERFLOW_RABBITMQ_URL"):
        problem = asyncio.run(_rabbitmq_problem(url))
        return _configured("RabbitMQ", "ORDERFLOW_RABBITMQ_URL", problem)
    server = find_rabbitmq_server()
    if server is None:
        if apt_get() is not None:
            return Finding("RabbitMQ", State.INSTALLABLE, "not found", "`orderflow up` installs it")
        return Finding("RabbitMQ", State.MISSING, "not found", INSTALL_HINT)
    version = rabbitmq_version(server)
    if version and version < MINIMUM_VERSION:
        remedy = f"install {dotted(MINIMUM_VERSION)} or later"
        return Finding("RabbitMQ", State.MISSING, f"{dotted(version)} is too old", remedy)
    return Finding("RabbitMQ", State.OK, dotted(version) or str(server))


def check_mongodb() -> Finding:
    """The configured database if there is one, else a mongod to start here."""
    if url := os.environ.get("ORDERFLOW_MONGODB_URL"):
        return _configured("MongoDB", "ORDERFLOW_MONGODB_URL", _mongodb_problem(url))
    binary = find_mongod()
    if binary is None:
        remedy = "install MongoDB 6 or later, and name its mongod in ORDERFLOW_MONGOD"
        return Finding("MongoDB", State.MISSING, "no mongod was found", remedy)
    version = _version_of(str(binary))
    if version is None:
        remedy = "name another one in ORDERFLOW_MONGOD"
        return Finding("MongoDB", State.MISSING, f"{binary} does not run here", remedy)
    return Finding("MongoDB", State.OK, version)


def check_mail_sink() -> Finding:
    """The mail server that keeps all mails on this machine comes with the development dependencies."""
    if importlib.util.find_spec("aiosmtpd") is None:
        remedy = "start by `uv run orderflow`, which brings it"
        return Finding("Mail sink", State.MISSING, "aiosmtpd is not installed", remedy)
    return Finding("Mail sink", State.OK, "aiosmtpd is installed")


def check_disk(home: Path) -> Finding:
    """Room for the data, at the nearest directory that exists already."""
    place = next(path for path in (home.resolve(), *home.resolve().parents) if path.exists())
    free = shutil.disk_usage(place).free
    detail = f"{free / 1e9:.1f} GB free"
    if free < NEEDED_DISK_BYTES:
        return Finding("Disk", State.MISSING, detail, f"free {NEEDED_DISK_BYTES / 1e9:.1f} GB, or use --home")
    return Finding("Disk", State.OK, detail)


def check_running(home: Path) -> Finding:
    """Whether a system is up in this home directory; both answers are fine."""
    url = running_in(home).get("ORDERFLOW_API_URL")
    return Finding("orderflow up", State.OK, f"is running: {url}" if url else "is not running")


def check_tool(command: str, purpose: str) -> Finding:
    """A program that some tasks use and running does not need."""
    version = _version_of(command)
    if version is None:
        return Finding(command, State.OPTIONAL, "not found", f"only {purpose}")
    return Finding(command, State.OK, version)


def _configured(name: str, variable: str, problem: str) -> Finding:
    if problem:
        remedy = f"check {variable}, or unset it and `orderflow up` starts its own"
        return Finding(name, State.MISSING, f"{variable} is set, but {problem}", remedy)
    return Finding(name, State.OK, f"{variable} is set and answers")


async def _rabbitmq_problem(url: str) -> str:
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
            connection = await aio_pika.connect(url)
        await connection.close()
    except (OSError, TimeoutError, ValueError, aio_pika.exceptions.AMQPException) as error:
        return f"connecting fails: {type(error).__name__}"  # its text may repeat the password
    return ""


def _mongodb_problem(url: str) -> str:
    try:
        with MongoClient[dict[str, object]](
            url, serverSelectionTimeoutMS=int(CONNECT_TIMEOUT_SECONDS * 1000)
        ) as client:
            hello = client.admin.command("hello")
    except (PyMongoError, ValueError) as error:
        return f"connecting fails: {type(error).__name__}"
    return "" if "setName" in hello or hello.get("msg") == "isdbgrid" else "it is not a replica set"


def _version_of(command: str) -> str | None:
    try:
        done = subprocess.run(
            [command, "--version"],
            capture_output=True,
            text=True,
            check=True,
            timeout=CONNECT_TIMEOUT_SECONDS,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"\d+(\.\d+)+", done.stdout)
    return found.group() if found else "present"
