"""The way of a message that cannot be handled: pauses, dead letters, replay; read from the topology."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from apps.site.system import System

_MILLISECONDS = 1000
_MINUTE = 60


@dataclass(frozen=True)
class Pause:
    """A queue in which a message waits before it returns to the queue that it came from."""

    queue: str
    seconds: float


def length(seconds: float) -> str:
    """A pause as people say it."""
    if seconds >= _MINUTE and seconds % _MINUTE == 0:
        return f"{seconds / _MINUTE:g} min"
    return f"{seconds:g} s"


@dataclass(frozen=True)
class Failures:
    """Names of everything on the way."""

    pauses: tuple[Pause, ...]
    events: str
    replay: str
    dead: str
    unrouted: str
    archive: str
    """The app that takes what is left."""


def failures(system: System) -> Failures:
    """Find the way in the topology of a document, whatever its parts are called there."""
    topology = system.document["x-topology"]
    inbox = next(queue for app in system.apps for queue in app.queues if queue.topics)
    events = inbox.bindings[0]["exchange"]
    exchanges = {exchange["name"]: exchange for exchange in topology["exchanges"]}
    dead = _queue_behind(topology, inbox.arguments["x-dead-letter-exchange"])
    owner = {queue.name: queue.app for app in system.apps for queue in app.queues}
    return Failures(
        tuple(
            Pause(queue["name"], queue["arguments"]["x-message-ttl"] / _MILLISECONDS)
            for queue in topology["queues"]
            if "x-message-ttl" in queue["arguments"]
        ),
        events,
        next(binding["exchange"] for binding in inbox.bindings if binding["exchange"] != events),
        dead,
        _queue_behind(topology, exchanges[events]["arguments"]["alternate-exchange"]),
        owner.get(dead, dead),
    )


def _queue_behind(topology: Mapping[str, Any], exchange: str) -> str:
    name: str = next(binding["queue"] for binding in topology["bindings"] if binding["exchange"] == exchange)
    return name
