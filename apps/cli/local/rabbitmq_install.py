"""Finds the RabbitMQ server on this machine, and installs it where that needs no question."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from apps.cli.local.errors import LocalServiceError, last_lines

MINIMUM_VERSION = (3, 10)  # at-least-once dead-lettering of quorum queues, which the retries stand on
INSTALL_HINT = (
    "RabbitMQ was not found: install it (`sudo apt-get install rabbitmq-server`, "
    "`brew install rabbitmq`), or name a running one in ORDERFLOW_RABBITMQ_URL"
)


def find_rabbitmq_server() -> Path | None:
    """The server's own script: ORDERFLOW_RABBITMQ_SERVER, or the one that is installed.

    The script that Debian puts on the path insists on being the user `rabbitmq`.
    """
    if named := os.environ.get("ORDERFLOW_RABBITMQ_SERVER"):
        return Path(named).absolute() if Path(named).is_file() else None
    for script in _candidates():
        if script.is_file():
            return script
    return None


def rabbitmq_version(server: Path) -> tuple[int, ...]:
    """As its installation directory says, so that Erlang need not start; empty if it does not say."""
    versions = re.findall(r"\d+\.\d+\.\d+", str(server.resolve()))
    return tuple(map(int, versions[-1].split("."))) if versions else ()


def ensure_rabbitmq_installed(say: Callable[[str], None]) -> Path:
    """The server's script, after installing it with apt-get if it was missing.

    Raises:
        LocalServiceError: if it cannot be installed from here, or is too old.
    """
    server = find_rabbitmq_server()
    if server is None and "ORDERFLOW_RABBITMQ_SERVER" in os.environ:
        raise LocalServiceError("ORDERFLOW_RABBITMQ_SERVER names no file")
    if server is None:
        prefix = apt_get()
        if prefix is None:
            raise LocalServiceError(INSTALL_HINT)
        say("installing RabbitMQ with apt-get; this takes about half a minute")
        _install(prefix)
        server = find_rabbitmq_server()
        if server is None:
            raise LocalServiceError(INSTALL_HINT)
    version = rabbitmq_version(server)
    if version and version < MINIMUM_VERSION:
        raise LocalServiceError(
            f"RabbitMQ {dotted(version)} is too old: {dotted(MINIMUM_VERSION)} or later is needed"
        )
    return server


def dotted(version: Iterable[int]) -> str:
    """A version as people write it."""
    return ".".join(map(str, version))


def apt_get() -> list[str] | None:
    """How to run apt-get without being asked for a password; none if there is no way."""
    if shutil.which("apt-get") is None:
        return None
    if os.geteuid() == 0:
        return ["apt-get"]
    if shutil.which("sudo") is None:
        return None
    allowed = subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode == 0
    # sudo clears the environment, so the variable is set behind it.
    return ["sudo", "-n", "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"] if allowed else None


def _candidates() -> Iterable[Path]:
    yield Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
    installed = Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server")
    yield from sorted(installed, key=rabbitmq_version, reverse=True)
    for brew in ("/opt/homebrew", "/usr/local", "/home/linuxbrew/.linuxbrew"):
        yield Path(brew) / "opt/rabbitmq/sbin/rabbitmq-server"


def _install(prefix: list[str]) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    descriptor, name = tempfile.mkstemp(prefix="orderflow-apt-get-", suffix=".log")
    log = Path(name)
    with os.fdopen(descriptor, "wb") as output:
        for arguments in (["update"], ["install", "-y", "--no-install-recommends", "rabbitmq-server"]):
            done = subprocess.run(
                [*prefix, *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
            # A stale foreign source fails the update, yet the install may well succeed: it decides.
            failed = done.returncode != 0
    if failed:
        raise LocalServiceError(f"apt-get could not install RabbitMQ; {last_lines(log)}\n{INSTALL_HINT}")
    log.unlink()
