"""What the first page tells of the whole system; each reading is made every few seconds, for all who look."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Generic, TypeVar

from pymongo.errors import PyMongoError
from starlette.datastructures import State

from apps.console.queues import QueueState, read_queues
from apps.kit.errors import DependencyUnavailable
from apps.kit.health import run_checks
from apps.kit.mongo import Database
from apps.orders.backlog import oldest_unpublished_seconds, stuck_orders
from apps.orders.domain import Status
from apps.orders.figures import count_by_status, seconds_until_told
from apps.webhooks.endpoints import STATES, MongoEndpoints

_HOUR = timedelta(hours=1)
_DEADLINE_SECONDS = 4.0
"""More than anything that is read gives itself: only what does not keep to that meets it."""
_SHARE = 50
"""A reading that takes long is made less often: at most a fiftieth of the time goes into it."""
_LONGEST_KEPT_SECONDS = 60.0
_FAILURE_KEPT_SECONDS = 5.0
_COMPARED_SECONDS = 60.0
_SHORTEST_COMPARED_SECONDS = 10.0

Value = TypeVar("Value")


class Reading(Generic[Value]):
    """A value that is read anew once it is old, by the first who asks; all others wait for the same."""

    def __init__(self, read: Callable[[], Awaitable[Value]], kept_seconds: float) -> None:
        self._read = read
        self._kept_seconds = kept_seconds
        self._reading: asyncio.Task[Value | None] | None = None
        self._until = 0.0

    async def value(self) -> Value | None:
        """The value; None if it could not be read in time."""
        if self._reading is None or (self._reading.done() and time.monotonic() >= self._until):
            self._reading = asyncio.create_task(self._value())
        # One who goes away does not take it from the others.
        return await asyncio.shield(self._reading)

    async def _value(self) -> Value | None:
        began = time.monotonic()
        kept_seconds = _FAILURE_KEPT_SECONDS
        try:
            async with asyncio.timeout(_DEADLINE_SECONDS):
                value = await self._read()
            took_seconds = time.monotonic() - began
            kept_seconds = max(self._kept_seconds, min(_LONGEST_KEPT_SECONDS, _SHARE * took_seconds))
        except (PyMongoError, DependencyUnavailable, TimeoutError):
            return None
        else:
            return value
        finally:
            self._until = time.monotonic() + kept_seconds


@dataclass(frozen=True)
class Latency:
    """How long customers waited until they were told."""

    p50_seconds: float
    p95_seconds: float
    orders: int
    """Over so many."""


@dataclass(frozen=True)
class Seen:
    """One look at everything; what could not be read is None."""

    states: Mapping[str, str]
    """`ok`, or what is wrong, of MongoDB and RabbitMQ."""
    counts: Mapping[Status, int] | None
    queues: Mapping[str, QueueState] | None
    growing: frozenset[str]
    """Queues in which more comes than is taken."""
    unpublished_seconds: float | None
    stuck: int | None
    dead_letters: int | None
    endpoints: Mapping[str, int] | None
    """Those of webhooks, by state."""
    latency: Latency | None
    """None also if nobody was told in the last hour."""


class Figures:
    """All readings of one process."""

    def __init__(self, state: State) -> None:
        database: Database = state.live.database
        checks = {name: state.checks[name] for name in ("mongodb", "rabbitmq")}
        self._states = Reading(partial(run_checks, checks), 2)
        self._counts = Reading(partial(count_by_status, database), 1)
        self._queues = Reading(partial(read_queues, state.broker), 5)
        self._unpublished = Reading(partial(oldest_unpublished_seconds, state.orders), 1)
        self._stuck = Reading(partial(stuck_orders, state.orders), 15)
        self.dead_letters = Reading(state.letters.count_open, 2)
        self._endpoints = Reading(partial(_endpoints, state.webhook_endpoints), 15)
        self._latency = Reading(partial(_latency, database), 15)
        self._before: deque[tuple[float, Mapping[str, QueueState]]] = deque()

    async def look(self) -> Seen:
        """All of it, in the time of the slowest."""
        first = asyncio.gather(
            self._states.value(), self._counts.value(), self._queues.value(), self._unpublished.value()
        )
        second = asyncio.gather(
            self._stuck.value(), self.dead_letters.value(), self._endpoints.value(), self._latency.value()
        )
        states, counts, queues, unpublished = await first
        stuck, dead_letters, endpoints, latency = await second
        return Seen(
            states=states or {},
            counts=counts,
            queues=queues,
            growing=self._growing(queues) if queues else frozenset(),
            unpublished_seconds=unpublished,
            stuck=stuck,
            dead_letters=dead_letters,
            endpoints=endpoints,
            latency=latency,
        )

    def _growing(self, queues: Mapping[str, QueueState]) -> frozenset[str]:
        """Queues that hold more than a minute ago, as far back as somebody looked."""
        now = time.monotonic()
        if not self._before or self._before[-1][1] is not queues:
            self._before.append((now, queues))
        while len(self._before) > 1 and self._before[1][0] <= now - _COMPARED_SECONDS:
            self._before.popleft()
        then, before = self._before[0]
        if now - then < _SHORTEST_COMPARED_SECONDS:
            return frozenset()
        return frozenset(
            name
            for name, state in queues.items()
            if (state.messages or 0) > (before.get(name, state).messages or 0)
        )


def figures_of(state: State) -> Figures:
    """Those of this process, which all its pages share."""
    if not hasattr(state, "figures"):
        state.figures = Figures(state)
    figures: Figures = state.figures
    return figures


async def _endpoints(endpoints: MongoEndpoints) -> Mapping[str, int]:
    return {state: await endpoints.count(state) for state in STATES}


async def _latency(database: Database) -> Latency | None:
    seconds = await seconds_until_told(database, _HOUR)
    if not seconds:
        return None
    last = len(seconds) - 1
    return Latency(seconds[round(last * 0.5)], seconds[round(last * 0.95)], len(seconds))
