"""The metrics of orders: each is counted once for every status that it reaches, with the time it took."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from pymongo.errors import PyMongoError

from apps.kit.metrics import ORDERS, STAGE_LATENCY
from apps.orders.domain import Status, milestone
from contracts import Event, OrderCreated, OrderValidated

_KEPT = 10_000
"""Orders whose time this process remembers: their other events come within seconds, as a rule."""
_LONGEST_SECONDS = 86_400.0
"""Orders of an old file, or with a wrong clock, must not outweigh all others in the sum."""

ReadPlaced = Callable[[Sequence[UUID]], Awaitable[Mapping[UUID, datetime]]]
"""When orders were placed, as far as that is known."""


def begin_counting() -> None:
    """Show every status as 0: Prometheus sees no increase in what begins at 1."""
    for status in Status:
        if status != Status.RECEIVED:  # which the ingress counts
            ORDERS.labels(status)
            STAGE_LATENCY.labels(status)


class Progress:
    """Counts what the read model heard for the first time."""

    def __init__(self, read_placed: ReadPlaced) -> None:
        self._read_placed = read_placed
        self._placed: dict[UUID, datetime] = {}

    async def note(self, events: Sequence[Event], now: datetime) -> None:
        """Count the statuses that these events, never heard before, lead their orders to."""
        reached = [
            (UUID(event.correlation_id), status, event) for event in events if (status := milestone(event))
        ]
        for order_id, status, event in reached:
            ORDERS.labels(status).inc()
            if isinstance(event, (OrderCreated, OrderValidated)):
                self._remember(order_id, event.placed_at)
        await self._recall([order_id for order_id, _, _ in reached if order_id not in self._placed])
        for order_id, status, event in reached:
            if placed_at := self._placed.get(order_id):
                # An order is created when it is placed; what takes time is that it is heard of.
                reached_at = now if status == Status.CREATED else event.occurred_at
                seconds = (reached_at - placed_at).total_seconds()
                STAGE_LATENCY.labels(status).observe(min(max(seconds, 0.0), _LONGEST_SECONDS))

    async def _recall(self, order_ids: Sequence[UUID]) -> None:
        """Another process may have heard of these, or this one long ago."""
        if order_ids:
            try:
                for order_id, placed_at in (await self._read_placed(order_ids)).items():
                    self._remember(order_id, placed_at)
            except PyMongoError:
                return  # they are counted without their time

    def _remember(self, order_id: UUID, placed_at: datetime) -> None:
        self._placed[order_id] = placed_at
        if len(self._placed) > _KEPT:
            del self._placed[next(iter(self._placed))]
