"""The rules of stock: an order gets all it wants or nothing, and no level goes below zero."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from contracts import RejectionCode, RejectionReason, StockAdjusted

UNLIMITED = None
"""The availability of what is not a good, such as postage."""

Wanted = Mapping[str, int]
"""Units by sku."""
Levels = Mapping[str, int | None]
"""Available units by sku, `UNLIMITED` for those never used up; an unknown sku is absent."""


class StockBelowZeroError(Exception):
    """More was written off than there is; a count that is still on its way may mend it."""

    def __init__(self, sku: str, available: int, quantity: int) -> None:
        self.sku, self.available, self.quantity = sku, available, quantity
        super().__init__(f"quantity: {quantity} would take {sku} below zero, {available} are available")


CANCELLED = RejectionReason(code=RejectionCode.CANCELLED)
"""Why an order is refused whose cancellation came first."""


@dataclass(frozen=True)
class Allocation:
    """What a group of orders takes, and why some of them take nothing."""

    reasons: tuple[tuple[RejectionReason, ...], ...]
    """For each order, in turn, all that stood in its way; empty if it is served."""
    taken: Mapping[str, int]
    """Units reserved over all orders, by sku."""


def shortages(wanted: Wanted, levels: Levels) -> tuple[RejectionReason, ...]:
    """Every article that stands in the way of one order."""
    reasons = []
    for sku, requested in wanted.items():
        if sku not in levels:
            reasons.append(
                RejectionReason(code=RejectionCode.UNKNOWN_SKU, sku=sku, requested=requested, available=0)
            )
            continue
        available = levels[sku]
        if available is not UNLIMITED and available < requested:
            reasons.append(
                RejectionReason(
                    code=RejectionCode.OUT_OF_STOCK, sku=sku, requested=requested, available=available
                )
            )
    return tuple(reasons)


def allocate(orders: Iterable[Wanted], levels: Levels) -> Allocation:
    """Serve orders first come, first served: each takes all its lines, or is refused and takes none."""
    left = dict(levels)
    taken: dict[str, int] = {}
    decisions = []
    for wanted in orders:
        reasons = shortages(wanted, left)
        decisions.append(reasons)
        if reasons:
            continue
        for sku, quantity in wanted.items():
            taken[sku] = taken.get(sku, 0) + quantity
            available = left[sku]
            if available is not UNLIMITED:
                left[sku] = available - quantity
    return Allocation(tuple(decisions), taken)


@dataclass(frozen=True)
class Level:
    """What is known of one article."""

    available: int | None = 0
    counted_at: datetime | None = None
    """Time of the last count that is in `available`."""
    owed: int = 0
    """Units promised beyond what a late count found: what comes in or back is theirs first."""


def _level(units: int, counted_at: datetime | None) -> Level:
    """The level with so many units over what is promised; negative if they do not suffice for that."""
    return Level(max(units, 0), counted_at, max(-units, 0))


def released(level: Level, units: int) -> Level:
    """The level once a cancelled order has given back units of it."""
    if level.available is UNLIMITED:
        return level
    return _level(level.available - level.owed + units, level.counted_at)


def adjusted(level: Level, adjustment: StockAdjusted, added_since: int, reserved_since: int = 0) -> Level:
    """The level after an adjustment, whatever the order in which they arrive.

    Args:
        level: before it; the default `Level()` for an article not seen yet.
        adjustment: not applied before.
        added_since: units added later than the adjustment's time, by adjustments that arrived earlier.
        reserved_since: units that orders have reserved later than the adjustment's time, less those that
            were released later than it; negative if more were released.

    Raises:
        StockBelowZeroError: more is written off than there is, now or since the count.
    """
    if level.counted_at is not None and adjustment.adjusted_at <= level.counted_at:
        return level  # the later count has it included
    if adjustment.mode == "set":
        if adjustment.quantity is None:
            return Level(UNLIMITED, adjustment.adjusted_at)
        # Zero instead would forget the rest of the write-off, and a delivery on its way would oversell it.
        if adjustment.quantity + added_since < 0:
            raise StockBelowZeroError(adjustment.sku, adjustment.quantity, added_since)
        # What was promised in the meantime stays promised, even where the count finds less than that.
        return _level(adjustment.quantity + added_since - reserved_since, adjustment.adjusted_at)
    if level.available is UNLIMITED:
        return level
    quantity = adjustment.quantity or 0
    if level.available + quantity < 0:
        raise StockBelowZeroError(adjustment.sku, level.available, quantity)
    return _level(level.available - level.owed + quantity, level.counted_at)
