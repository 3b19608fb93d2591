"""The report of the benchmark claims what its records show, and no more."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.bench.reach import (
    TARGETS,
    Record,
    Spread,
    lead,
    memory_growth,
    p99_at_half_the_peak,
    speed_against,
)
from tests.bench.report import BEGIN, END, before_and_after, replaced, results

MACHINE = {
    "measure": "machine",
    "cores": 2,
    "memory_gib": 24,
    "python": "3.11.7",
    "rabbitmq": "3.10.8",
    "mongodb": "6.0.5",
    "commit": "0123456789abcdef",
    "date": "2026-11-22",
    "packages": {"faststream": "0.7.8"},
}
BY_MEASURE = {target.measure: target for target in TARGETS}


def saturation(contender: str, speeds: Mapping[int, float], **others: Any) -> list[Record]:
    return [
        {
            "measure": "saturation",
            "workload": "three-lines",
            "contender": contender,
            "round": number,
            "orders_per_second": speed,
            "cpu_ms": {"stock": 2.0, "billing": 1.0, "rabbitmq": 3.0, "mongodb": 4.0, "driver": 9.0},
            "peak_mib": {"stock": 80.0, "billing": 70.0, "rabbitmq": 300.0, "mongodb": 500.0, "driver": 60.0},
        }
        | others
        for number, speed in speeds.items()
    ]


def latency(contender: str, rate: float, p99_ms: float, number: int = 1) -> Record:
    return {
        "measure": "latency",
        "contender": contender,
        "round": number,
        "share": 0.5,
        "rate": rate,
        "achieved": rate,
        "p50_ms": 1.0,
        "p99_ms": p99_ms,
    }


def memory(apps: Mapping[str, float], until: int = 100_000) -> list[Record]:
    """Samples of apps that grow by so many MiB for every 1,000 orders."""
    return [
        {
            "measure": "memory",
            "orders": 1000 * step,
            "mib": {app: 100 + step * mib for app, mib in apps.items()},
        }
        for step in range(until // 1000 + 1)
    ]


def row(text: str, beginning: str) -> list[str]:
    """The cells of the only line of a table that begins so."""
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {beginning}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_ratio_is_the_median_of_the_ratios_within_each_round() -> None:
    """What slows the machine slows both of a round; the ratio of their medians would be another."""
    records = saturation("orderflow", {1: 100, 2: 200, 3: 90}) + saturation("celery", {1: 20, 2: 100, 3: 30})

    assert speed_against("celery", records) == Spread(median=3, lowest=2, highest=5, rounds=3)


def test_round_that_only_one_of_them_has_done_does_not_count() -> None:
    """Nor one in which the other did nothing at all: something was broken."""
    records = saturation("orderflow", {1: 100, 2: 900, 4: 9}) + saturation("celery", {1: 50, 3: 1, 4: 0})

    assert speed_against("celery", records) == Spread(median=2, lowest=2, highest=2, rounds=1)


def test_what_an_earlier_commit_did_is_compared_within_its_own_run() -> None:
    """Another run may have had another machine: the other measures play no part."""
    records = [
        *saturation("before", {1: 50, 2: 40}, measure="before"),
        *saturation("after", {1: 100, 2: 120}, measure="before"),
        *saturation("orderflow", {1: 900, 2: 900}),
    ]

    assert row(before_and_after(records), "after")[2] == "2.5x (2x to 3x)"


def test_real_orders_do_not_mix_with_those_of_three_lines() -> None:
    records = [
        *saturation("orderflow", {1: 100}),
        *saturation("celery", {1: 50}),
        *saturation("celery", {1: 10}, workload="real"),
        *saturation("celery", {1: 10}, measure="before"),
    ]

    assert speed_against("celery", records) == Spread(median=2, lowest=2, highest=2, rounds=1)


@pytest.mark.parametrize("records", [[], [MACHINE], saturation("orderflow", {1: 1000})])
def test_what_is_missing_is_never_reached(records: Sequence[Record]) -> None:
    """Without records, or with ours alone, every measure says so."""
    for target in TARGETS:
        found = target.measured(records)

        assert found is None
        assert row(results(records), target.measure)[-2:] == ["not measured", "not measured"]


@pytest.mark.parametrize(
    ("measure", "value", "verdict"),
    [
        ("orders/s against hand-written", 3.0, "yes: aim"),
        ("orders/s against hand-written", 2.99, "yes: at least"),
        ("orders/s against hand-written", 1.99, "**no**"),
        ("orders/s against taskiq", 9.0, "no target"),
        ("p99 against hand-written, at half of its peak (less is better)", 0.5, "yes: aim"),
        ("p99 against hand-written, at half of its peak (less is better)", 1.0, "yes: at least"),
        ("p99 against hand-written, at half of its peak (less is better)", 1.01, "**no**"),
        ("memory after 100,000 orders, of the app that grew most", -0.02, "yes: aim"),
        ("memory after 100,000 orders, of the app that grew most", 0.11, "**no**"),
    ],
)
def test_verdict_is_by_the_median(measure: str, value: float, verdict: str) -> None:
    """The best round reaches nothing by itself."""
    assert BY_MEASURE[measure].verdict(Spread(median=value, lowest=-9, highest=9, rounds=3)) == verdict


def test_latency_is_compared_at_half_of_what_the_hand_written_can_do() -> None:
    """Of the rates that were offered, the next to that half; other rates do not enter."""
    records = [
        *saturation("hand-written", {1: 58, 2: 60, 3: 62}),
        *(latency("hand-written", rate, p99) for rate, p99 in ((15, 10), (31, 100), (48, 900))),
        *(latency("orderflow", rate, p99) for rate, p99 in ((15, 1), (31, 40), (48, 50))),
    ]

    assert p99_at_half_the_peak(records) == Spread(median=0.4, lowest=0.4, highest=0.4, rounds=1)


@pytest.mark.parametrize(("ours", "theirs"), [(15, 30), (30, 15), (50, 50), (26, 34)])
def test_latency_at_an_easier_or_another_rate_says_nothing(ours: float, theirs: float) -> None:
    records = [
        *saturation("hand-written", {1: 60}),
        latency("hand-written", theirs, 100),
        latency("orderflow", ours, 10),
    ]

    assert p99_at_half_the_peak(records) is None


def test_http_rounds_with_errors_do_not_count() -> None:
    """Requests that failed fast are no throughput."""
    records = [
        {"measure": "ingress", "contender": name, "round": 1, "requests_per_second": speed, "errors": errors}
        for name, speed, errors in (("orderflow", 900, 3), ("plain", 300, 0))
    ]

    assert BY_MEASURE["POST requests/s against plain FastAPI"].measured(records) is None


def test_one_app_that_leaks_is_not_hidden_by_the_others() -> None:
    grown = memory_growth(memory({"stock": 0, "billing": 1}))

    assert grown is not None
    assert grown.median == pytest.approx((195 - 115) / 115)
    assert BY_MEASURE["memory after 100,000 orders, of the app that grew most"].verdict(grown) == "**no**"


def test_memory_of_a_shorter_run_is_no_proof() -> None:
    assert memory_growth(memory({"stock": 0}, until=60_000)) is None


def test_table_tells_the_rounds_and_leaves_the_driver_out() -> None:
    """The CPU and memory of the apps are theirs alone: not of RabbitMQ, MongoDB or what measures them."""
    records = [
        MACHINE,
        *saturation("orderflow", {1: 100, 2: 120, 3: 200}),
        *saturation("celery", {1: 40, 3: 50}),
    ]

    text = results(records)

    assert row(text, "orderflow |")[1:] == ["120 (100 to 200)", "1x", "3", "3", "4", "150"]
    assert row(text, "celery |")[1:3] == ["45 (40 to 50)", "0.325x (0.25x to 0.4x)"]
    assert row(text, "orders/s against Celery") == [
        *("orders/s against Celery", "3x", "5x", "3.25x (2.5x to 4x), 2 rounds", "yes: at least"),
    ]
    assert "2 cores, 24 GiB" in text


def test_only_pictures_that_were_drawn_are_shown() -> None:
    records = [MACHINE, *saturation("orderflow", {1: 100})]

    text = results(records, ["throughput"])

    assert "(performance/throughput.png)" in text
    assert "cpu.png" not in text


def test_results_replace_results_and_nothing_else() -> None:
    """The prose around them stays, and so do the markers, for the next run."""
    page = f"before\n\n{BEGIN}\nold\n{END}\n\nafter\n"

    once = replaced(page, "new")

    assert once == f"before\n\n{BEGIN}\nnew\n{END}\n\nafter\n"
    assert replaced(once, "old") == page


@pytest.mark.parametrize("page", ["", f"{BEGIN}\n", f"{END}\n"])
def test_page_without_both_markers_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="markers are missing"):
        replaced(page, "new")


def test_report_tells_which_code_each_measure_is_of() -> None:
    """Measured in part anew, the rest is still of the older commit."""
    records = [
        *saturation("orderflow", {1: 100}, commit="aaa"),
        latency("orderflow", 20, 50) | {"commit": "bbb"},
    ]
    shown = results(records)
    assert "at commit `aaa`: saturation; at `bbb`: latency." in shown


def test_report_tells_how_much_of_the_machine_others_had() -> None:
    shown = results(saturation("orderflow", {1: 100, 2: 90}, stolen=0.04))
    assert "others had 4 % in the median round and 4 % in the worst" in shown


@pytest.mark.parametrize(("stolen", "found"), [(0.05, 2.0), (0.06, 4.0)])
def test_lead_is_told_per_cpu_second_where_the_machine_was_away(stolen: float, found: float) -> None:
    ours = saturation("orderflow", {1: 100}, cpu_ms={"stock": 5.0})
    theirs = saturation("hand-written", {1: 50}, cpu_ms={"stock": 20.0}, stolen=stolen)
    assert lead([*ours, *theirs], "orderflow", "hand-written")[1] == found
