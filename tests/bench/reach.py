"""What was aimed at, and whether the records show it: a measure that is missing is never reached."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, Self

from tests.bench.calm import MOST_STOLEN

Record = Mapping[str, Any]

OURS = "orderflow"
HAND_WRITTEN = "hand-written"
SERVICES = frozenset({"rabbitmq", "mongodb", "driver"})
"""Processes that are no part of a contender."""
NEAR = 0.25  # a rate further than this from half of the peak says nothing about half of the peak
SAME_RATE = 0.95  # ours may be asked for more than theirs, and for less only by this
WARM, HANDLED = 10_000, 100_000  # orders


@dataclass(frozen=True)
class Spread:
    """A median with the lowest and the highest round beside it."""

    median: float
    lowest: float
    highest: float
    rounds: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Self | None:
        """None without values: nothing was measured."""
        rounds = list(values)
        return cls(median(rounds), min(rounds), max(rounds), len(rounds)) if rounds else None


def contender(record: Record) -> str:
    """The contender's name with dashes, whichever way its author wrote it."""
    return str(record["contender"]).replace("_", "-")


def by_round(records: Iterable[Record], field: str) -> dict[int, float]:
    """A field's value in each round; the median where a round measured it several times."""
    values: dict[int, list[float]] = defaultdict(list)
    for record in records:
        values[record["round"]].append(record[field])
    return {number: median(several) for number, several in values.items()}


def ratio(above: Mapping[int, float], below: Mapping[int, float]) -> Spread | None:
    """Of the ratios within each round that measured both: what else the machine does changes with time."""
    return Spread.of(above[number] / below[number] for number in above if below.get(number))


def speeds(
    records: Iterable[Record], name: str, workload: str = "three-lines", measure: str = "saturation"
) -> dict[int, float]:
    """Orders per second of a contender in each round."""
    chosen = (
        record
        for record in records
        if record["measure"] == measure and record["workload"] == workload and contender(record) == name
    )
    return by_round(chosen, "orders_per_second")


def speed_against(name: str, records: Sequence[Record]) -> Spread | None:
    return ratio(speeds(records, OURS), speeds(records, name))


def lead(records: Sequence[Record], name: str, other: str) -> tuple[str, float]:
    """How far one contender is ahead of another: in orders/s, or per CPU second if the machine was away.

    A round from which the hypervisor took a part has lost orders, but the CPU time of each is what it was.

    Raises:
        LookupError: no round measured both.
    """
    is_calm = all(record.get("stolen", 0.0) <= MOST_STOLEN for record in records)
    field = "orders_per_second" if is_calm else "orders_per_cpu_second"
    known = [{**one, "orders_per_cpu_second": 1000 / sum(one["cpu_ms"].values())} for one in records]
    halves = (by_round((one for one in known if contender(one) == wanted), field) for wanted in (name, other))
    found = ratio(*halves)
    if found is None:
        raise LookupError(f"no round measured {name} and {other}")
    return field.replace("_", " "), found.median


def p99_at_half_the_peak(records: Sequence[Record]) -> Spread | None:
    """Of ours to that of the hand-written, both at the rate next to half of what the hand-written can do."""
    peak = Spread.of(speeds(records, HAND_WRITTEN).values())
    if peak is None:
        return None
    half = peak.median / 2
    next_to_half: dict[str, dict[int, Record]] = {OURS: {}, HAND_WRITTEN: {}}
    for record in records:
        if record["measure"] != "latency" or contender(record) not in next_to_half:
            continue
        rounds, distance = next_to_half[contender(record)], abs(record["rate"] - half)
        known = rounds.get(record["round"])
        if distance <= half * NEAR and (known is None or distance < abs(known["rate"] - half)):
            rounds[record["round"]] = record
    theirs = next_to_half[HAND_WRITTEN]
    ours = {
        number: record
        for number, record in next_to_half[OURS].items()
        if number in theirs and record["rate"] >= theirs[number]["rate"] * SAME_RATE
    }
    return ratio(by_round(ours.values(), "p99_ms"), by_round(theirs.values(), "p99_ms"))


def requests_against_plain(records: Sequence[Record]) -> Spread | None:
    """Of the rounds without an error."""
    ours, plain = (
        by_round(
            (
                record
                for record in records
                if record["measure"] == "ingress" and contender(record) == name and not record["errors"]
            ),
            "requests_per_second",
        )
        for name in (OURS, "plain")
    )
    return ratio(ours, plain)


def speed_with(measure: str, field: str, many: int, records: Sequence[Record]) -> Spread | None:
    """Of orders per second with so many of something to those with none of it."""
    full, empty = (
        by_round(
            (record for record in records if record["measure"] == measure and record[field] == count),
            "orders_per_second",
        )
        for count in (many, 0)
    )
    return ratio(full, empty)


def memory(records: Sequence[Record]) -> dict[str, tuple[float, float]]:
    """Of each app the MiB after warm-up and at the end, each the median over 10,000 orders."""
    samples = [record for record in records if record["measure"] == "memory"]
    end = max((sample["orders"] for sample in samples), default=0)
    warm = [sample["mib"] for sample in samples if WARM <= sample["orders"] <= 2 * WARM]
    last = [sample["mib"] for sample in samples if sample["orders"] >= end - WARM]
    if not warm or end <= 2 * WARM:
        return {}
    return {
        app: (median(mib[app] for mib in warm if app in mib), median(mib[app] for mib in last if app in mib))
        for app in warm[0]
        if app not in SERVICES and any(app in mib for mib in last)
    }


def memory_growth(records: Sequence[Record]) -> Spread | None:
    """Of the app that grew most: one that leaks does not hide behind the others."""
    handled = max((record["orders"] for record in records if record["measure"] == "memory"), default=0)
    if handled < HANDLED:
        return None
    growths = [last / warm - 1 for warm, last in memory(records).values()]
    return Spread.of([max(growths)]) if growths else None


def times(value: float) -> str:
    return f"{value:.3g}x"


def percent(value: float) -> str:
    return f"{value:.0%}".replace("%", " %")


def change(value: float) -> str:
    return f"{round(value * 100, 1):+g} %"


@dataclass(frozen=True)
class Target:
    """A figure that was promised, and how it is found in the records."""

    measure: str
    measured: Callable[[Sequence[Record]], Spread | None]
    shown: Callable[[float], str]
    at_least: float | None = None
    aim: float | None = None
    less_is_better: bool = False

    def verdict(self, spread: Spread | None) -> str:
        """Which of both was reached, by the median."""
        if spread is None:
            return "not measured"
        if self.at_least is None or self.aim is None:
            return "no target"
        sign = -1 if self.less_is_better else 1
        if sign * spread.median >= sign * self.aim:
            return "yes: aim"
        return "yes: at least" if sign * spread.median >= sign * self.at_least else "**no**"


TARGETS = (
    Target("orders/s against hand-written", partial(speed_against, HAND_WRITTEN), times, 2, 3),
    Target("orders/s against Celery", partial(speed_against, "celery"), times, 3, 5),
    Target("orders/s against taskiq", partial(speed_against, "taskiq"), times),
    Target("orders/s against plain FastStream", partial(speed_against, "faststream-plain"), times, 2.5, 4),
    Target("orders/s as a share of bare", partial(speed_against, "bare"), percent, 0.6, 0.8),
    Target(
        "p99 against hand-written, at half of its peak (less is better)",
        p99_at_half_the_peak,
        times,
        1,
        0.5,
        less_is_better=True,
    ),
    Target("POST requests/s against plain FastAPI", requests_against_plain, times, 1.5, 3),
    Target(
        "orders/s at 1,000,000 stored orders, of those when empty",
        partial(speed_with, "growth", "stored", 1_000_000),
        percent,
        0.95,
        0.99,
    ),
    Target(
        "orders/s with 200 pages of the console open, of those with none",
        partial(speed_with, "viewers", "viewers", 200),
        percent,
        0.9,
        0.95,
    ),
    Target(
        "memory after 100,000 orders, of the app that grew most",
        memory_growth,
        change,
        0.1,
        0.01,
        less_is_better=True,
    ),
)
