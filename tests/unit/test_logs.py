"""The log: JSON for machines, lines for people, as much of it as the settings say."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Mapping

PROGRAM = """
import logging
from structlog.stdlib import get_logger
from apps.kit.logs import configure_logging

configure_logging("stock")
get_logger("apps.stock.app").debug("ours in detail", order_id="o-1")
get_logger("apps.billing.app").debug("another's detail")
get_logger("apps.stock.app").info("ours")
for name in ("pymongo.command", "httpcore.http11", "aio_pika.exchange"):
    logging.getLogger(name).debug("a driver quotes what it sends")
    logging.getLogger(name).warning("a driver warns")
try:
    secret = "ana@example.com"
    raise KeyError("field")
except KeyError:
    get_logger("apps.stock.app").exception("failed")
"""


def log_of(settings: Mapping[str, str], *, on_terminal: bool = False) -> str:
    """What a process with these settings writes."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ORDERFLOW_")}
    environment |= {f"ORDERFLOW_{name}": value for name, value in settings.items()}
    command = [sys.executable, "-c", PROGRAM]
    if not on_terminal:
        return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603
    shown, terminal = pty.openpty()
    with os.fdopen(shown, "rb", buffering=0) as reader:
        subprocess.run(command, env=environment, check=True, stdout=terminal)  # noqa: S603
        os.close(terminal)
        return reader.read(65_536).decode()


def entries(log: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.splitlines()]


def events(log: str) -> list[object]:
    return [entry["event"] for entry in entries(log)]


def test_machines_read_json() -> None:
    """Whoever reads the output of a process gets a JSON object per line, tracebacks within it."""
    log = log_of({})
    assert events(log) == ["ours", *["a driver warns"] * 3, "failed"]
    assert all({"app", "level", "timestamp"} <= entry.keys() for entry in entries(log))
    assert "KeyError: 'field'" in str(entries(log)[-1]["exception"])


def test_people_read_lines() -> None:
    """On a terminal the same is plain lines, without the values of local variables in tracebacks."""
    log = log_of({}, on_terminal=True)
    assert "ours" in log
    assert "KeyError: 'field'" in log
    assert "{" not in log
    assert "ana@example.com" not in log.replace('secret = "ana@example.com"', "")


def test_format_may_be_chosen() -> None:
    """A process whose terminal is read by a machine writes JSON, and the other way round."""
    assert events(log_of({"LOG_FORMAT": "json"}, on_terminal=True))
    assert "{" not in log_of({"LOG_FORMAT": "console"})


def test_debug_is_of_our_own_loggers() -> None:
    """At the level debug drivers stay quiet: they would quote documents and messages."""
    log = log_of({"LOG_LEVEL": "debug"})
    assert events(log)[:3] == ["ours in detail", "another's detail", "ours"]
    assert "a driver quotes" not in log


def test_level_of_one_logger() -> None:
    """One part of the system tells its details, and everything else as much as before."""
    log = log_of({"LOG_LEVELS": '{"apps.stock": "debug", "aio_pika": "error"}'})
    assert events(log) == ["ours in detail", "ours", *["a driver warns"] * 2, "failed"]


def test_level_of_all() -> None:
    """A level applies to ours and to libraries alike."""
    assert events(log_of({"LOG_LEVEL": "error"})) == ["failed"]
