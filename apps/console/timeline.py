"""What happened to an order, one event after the other, with the time between them as a length."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from apps.orders.views import OrderView

_LONG_AGO = timedelta(minutes=1)
_WHOLE = 100.0
_SHORTEST = 0.6
"""Of what took no time to speak of, there still is something to see."""


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One event, and how long after the one before it happened."""

    event: str
    event_id: UUID
    at: datetime
    detail: str | None
    after_seconds: float | None
    """None for the first."""
    begin: float
    """Where its bar begins, of 100 that all of them are long."""
    length: float
    payload: Mapping[str, Any] | None
    """None if it is not kept any more."""


def moments_of(order: OrderView, payloads: Mapping[UUID, Mapping[str, Any]]) -> Sequence[Moment]:
    """The timeline of an order; time that passed before Orderflow knew of it does not count."""
    if not order.timeline:
        return []
    begun = _begin(order)
    times = [max(entry.at, begun) for entry in order.timeline]
    whole = (times[-1] - times[0]).total_seconds() or 1.0
    moments: list[Moment] = []
    for entry, before, at in zip(order.timeline, [times[0], *times], times, strict=False):
        seconds = (at - before).total_seconds()
        length = max(_WHOLE * seconds / whole, _SHORTEST)
        moments.append(
            Moment(
                event=entry.event,
                event_id=entry.event_id,
                at=entry.at,
                detail=entry.detail,
                after_seconds=seconds if moments else None,
                begin=min(_WHOLE * (before - times[0]).total_seconds() / whole, _WHOLE - length),
                length=length if moments else 0.0,
                payload=payloads.get(entry.event_id),
            )
        )
    return moments


def _begin(order: OrderView) -> datetime:
    """When it was placed, unless that was long before anybody told us, as with imported orders."""
    first = order.timeline[0].at
    return order.recorded_at if order.recorded_at - first > _LONG_AGO else first
