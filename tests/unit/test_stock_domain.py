"""The rules of stock, for any orders, any levels and any order of arrival."""

from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from apps.stock.domain import UNLIMITED, Level, StockBelowZeroError, adjusted, allocate, released, shortages
from contracts import RejectionCode, RejectionReason, StockAdjusted

# Few articles, low levels and small orders, so that many of them meet at a shelf that runs empty.
SKUS = st.sampled_from(["lantern", "heart", "postage", "lantern", "heart", "not sold here"])
UNITS = st.integers(0, 12)
LEVELS = st.fixed_dictionaries(
    {"lantern": UNITS, "heart": st.just(UNLIMITED) | UNITS}, optional={"postage": st.just(UNLIMITED)}
)
WANTED = st.dictionaries(SKUS, st.integers(1, 8), min_size=1, max_size=2)
ORDERS = st.lists(WANTED, min_size=2, max_size=12)
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@given(orders=ORDERS, levels=LEVELS)
def test_allocation_never_oversells(orders: list[dict[str, int]], levels: dict[str, int | None]) -> None:
    """Whatever is ordered, no more is taken of any article than there is."""
    for sku, quantity in allocate(orders, levels).taken.items():
        available = levels[sku]
        assert available is UNLIMITED or quantity <= available


@given(orders=ORDERS, levels=LEVELS)
def test_each_order_gets_all_or_nothing(orders: list[dict[str, int]], levels: dict[str, int | None]) -> None:
    """What is taken is the sum of the orders without a reason against them, and of no other."""
    allocation = allocate(orders, levels)
    served: Counter[str] = Counter()
    for wanted, reasons in zip(orders, allocation.reasons, strict=True):
        if not reasons:
            served.update(wanted)
    assert allocation.taken == served


@given(orders=ORDERS, levels=LEVELS)
def test_first_come_first_served(orders: list[dict[str, int]], levels: dict[str, int | None]) -> None:
    """An order is refused for exactly what the orders before it have left, and only then."""
    left = dict(levels)
    for wanted, reasons in zip(orders, allocate(orders, levels).reasons, strict=True):
        assert reasons == shortages(wanted, left)
        if not reasons:
            left = {
                sku: UNLIMITED if units is UNLIMITED else units - wanted.get(sku, 0)
                for sku, units in left.items()
            }


@given(orders=ORDERS, levels=LEVELS)
def test_one_group_decides_as_single_orders_would(
    orders: list[dict[str, int]], levels: dict[str, int | None]
) -> None:
    """Committing in groups saves commits and changes no decision."""
    left = dict(levels)
    one_by_one: list[tuple[RejectionReason, ...]] = []
    for wanted in orders:
        alone = allocate([wanted], left)
        one_by_one += alone.reasons
        for sku, taken in alone.taken.items():
            units = left[sku]
            left[sku] = UNLIMITED if units is UNLIMITED else units - taken
    assert list(allocate(orders, levels).reasons) == one_by_one


@given(wanted=WANTED, levels=LEVELS)
def test_every_shortage_is_named(wanted: dict[str, int], levels: dict[str, int | None]) -> None:
    """The customer learns of all that is short at once, with what was wanted and what there was."""
    for reason in shortages(wanted, levels):
        assert reason.sku is not None
        assert reason.requested == wanted[reason.sku]
        assert reason.available == levels.get(reason.sku, 0)
        unknown = reason.sku not in levels
        assert reason.code is (RejectionCode.UNKNOWN_SKU if unknown else RejectionCode.OUT_OF_STOCK)
    short = {sku for sku, units in wanted.items() if (levels.get(sku, 0) or 0) < units}
    short -= {sku for sku, units in levels.items() if units is UNLIMITED}
    assert {reason.sku for reason in shortages(wanted, levels)} == short


def test_unknown_article_is_a_shortage() -> None:
    """What the warehouse has never heard of is refused, not passed."""
    [reason] = shortages({"not sold here": 1}, {})
    assert (reason.code, reason.available) == (RejectionCode.UNKNOWN_SKU, 0)


def test_unlimited_article_is_never_used_up() -> None:
    """Postage is there for every order."""
    allocation = allocate([{"postage": 1_000_000}] * 3, {"postage": UNLIMITED})
    assert allocation.reasons == ((), (), ())
    assert allocation.taken == {"postage": 3_000_000}


def test_refused_order_leaves_its_articles_to_the_next() -> None:
    """An order that fails at its last line has taken nothing of its first."""
    allocation = allocate([{"heart": 5, "mug": 1}, {"heart": 5}], {"heart": 5, "mug": 0})
    assert [bool(reasons) for reasons in allocation.reasons] == [True, False]


class Shelf:
    """One article as the store keeps it: its level, and the adjustments that were applied."""

    def __init__(self) -> None:
        self.level = Level()
        self.applied: dict[UUID, StockAdjusted] = {}

    def receive(self, adjustment: StockAdjusted) -> None:
        if adjustment.adjustment_id in self.applied:
            return
        added_since = sum(
            one.quantity or 0
            for one in self.applied.values()
            if one.mode == "add" and one.adjusted_at > adjustment.adjusted_at
        )
        self.level = adjusted(self.level, adjustment, added_since)
        self.applied[adjustment.adjustment_id] = adjustment

    def receive_all(self, arrivals: list[StockAdjusted]) -> None:
        """Deliver in turn; what fails comes again later, as the recovery policy has it."""
        while arrivals:
            failed = []
            for adjustment in arrivals:
                try:
                    self.receive(adjustment)
                except StockBelowZeroError:
                    failed.append(adjustment)
            if len(failed) == len(arrivals):
                raise StockBelowZeroError("lantern", self.level.available or 0, len(failed))
            arrivals = failed


def adjustment_at(position: int, mode: str, quantity: int | None) -> StockAdjusted:
    return StockAdjusted.model_validate(
        {
            "adjustment_id": UUID(int=position),
            "sku": "lantern",
            "mode": mode,
            "quantity": quantity,
            "unlimited": quantity is None,
            "adjusted_at": NOON + timedelta(seconds=position),
        }
    )


CHANGES = st.tuples(st.just("set"), st.none() | st.integers(0, 9)) | st.tuples(
    st.just("add"), st.integers(-9, 9)
)
DAY = st.lists(CHANGES, min_size=1, max_size=6).map(
    lambda changes: [adjustment_at(position, *change) for position, change in enumerate(changes)]
)


@settings(max_examples=300)
@given(day=DAY, data=st.data())
def test_adjustments_end_the_same_in_any_order(day: list[StockAdjusted], data: st.DataObject) -> None:
    """Counts, deliveries and write-offs may arrive late, twice and in any order.

    A day in which more was written off than there was has no right end, so those are left out.
    """
    in_time, shuffled = Shelf(), Shelf()
    try:
        for adjustment in day:
            in_time.receive(adjustment)
    except StockBelowZeroError:
        assume(False)  # noqa: FBT003
    repeats = data.draw(st.lists(st.sampled_from(day), max_size=3))
    shuffled.receive_all(data.draw(st.permutations([*day, *repeats])))
    assert shuffled.level == in_time.level


@given(day=DAY, data=st.data())
def test_level_never_goes_below_zero(day: list[StockAdjusted], data: st.DataObject) -> None:
    """Whatever a warehouse sends, in whatever order, what is available is never negative."""
    shelf = Shelf()
    for adjustment in data.draw(st.permutations(day)):
        with suppress(StockBelowZeroError):
            shelf.receive(adjustment)
        assert shelf.level.available is UNLIMITED or shelf.level.available >= 0


def test_late_count_does_not_forget_a_write_off() -> None:
    """A count waits while what is written off since exceeds it, for the delivery in between to arrive."""
    before, count, delivery, write_off = (
        adjustment_at(position, mode, quantity)
        for position, (mode, quantity) in enumerate([("add", 5), ("set", 1), ("add", 5), ("add", -5)])
    )
    shelf = Shelf()
    shelf.receive(before)
    shelf.receive(write_off)
    with pytest.raises(StockBelowZeroError):
        shelf.receive(count)
    shelf.receive(delivery)
    shelf.receive(count)
    assert shelf.level.available == 1


def test_write_off_beyond_the_level_is_refused() -> None:
    """The error says which article, how much was written off, and how much there is."""
    with pytest.raises(StockBelowZeroError, match="-3 would take lantern below zero, 2 are available"):
        adjusted(Level(available=2), adjustment_at(1, "add", -3), 0)


def test_late_count_has_what_was_released_since_on_top() -> None:
    """What was reserved before a count and given back after it was not free to sell then, and is now."""
    counted = adjusted(Level(available=9), adjustment_at(1, "set", 5), 0, reserved_since=-3)
    assert counted.available == 8


def test_release_serves_what_is_promised_first() -> None:
    """Where a late count found less than was promised, what comes back is not sold to someone else."""
    short = adjusted(Level(available=2), adjustment_at(1, "set", 3), 0, reserved_since=10)
    assert (short.available, short.owed) == (0, 7)
    assert released(short, 4).available == 0
    assert released(released(short, 4), 6).available == 3
    assert adjusted(short, adjustment_at(2, "add", 9), 0).available == 2
