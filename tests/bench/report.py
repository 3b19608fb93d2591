"""From the raw records to the tables and plots of docs/PERFORMANCE.md: `write` needs nothing else.

Run by itself, it writes them anew from `docs/performance/results.json`.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.reach import (
    OURS,
    SERVICES,
    TARGETS,
    Record,
    Spread,
    change,
    contender,
    memory,
    percent,
    ratio,
    speeds,
    times,
)

BEGIN = "<!-- results -->"
END = "<!-- /results -->"
CONTENDERS = (OURS, "faststream-plain", "hand-written", "taskiq", "celery", "bare")
"""In the order of tables and plots; others follow."""
WORKLOADS = {"three-lines": "orders of three lines", "real": "real orders"}


def write(records: Sequence[Record], directory: Path) -> None:
    """Put tables and plots into `directory`, which is docs: PERFORMANCE.md and performance/*.png.

    Raises:
        ValueError: PERFORMANCE.md lacks the markers; then nothing is written.
    """
    from tests.bench import plots  # noqa: PLC0415  # the tests of the tables do without matplotlib

    page, pictures = directory / "PERFORMANCE.md", directory / "performance"
    replaced(page.read_text(), "")
    drawn = plots.draw(records, pictures)
    page.write_text(replaced(page.read_text(), results(records, drawn)))


def replaced(text: str, tables: str) -> str:
    """The text with other tables between its markers."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError("there is no place for the results: the markers are missing")
    return f"{before}{BEGIN}\n{tables}\n{END}{after}"


def results(records: Sequence[Record], pictures: Iterable[str] = ()) -> str:
    """All sections of which something was measured, and what was promised in any case."""
    drawn = set(pictures)
    sections = (
        ("Targets", targets, ()),
        ("Throughput and CPU", throughput, ("throughput", "cpu")),
        ("Latency", latency, ("latency",)),
        ("HTTP", ingress, ()),
        ("Stored orders", growth, ("growth",)),
        ("Replicas", replicas, ()),
        ("Open pages", open_pages, ()),
        ("Backlog", backlog, ("backlog",)),
        ("Memory", memory_table, ("memory",)),
        ("Before and after", before_and_after, ()),
    )
    parts = [machine(records)]
    for heading, section, names in sections:
        if body := section(records):
            shown = [f"![{CAPTIONS[name]}](performance/{name}.png)" for name in names if name in drawn]
            parts.append("\n\n".join([f"### {heading}", body, *shown]))
    return "\n\n".join(part for part in parts if part)


CAPTIONS = {
    "throughput": "Orders per second of each contender, with the lowest and the highest round",
    "cpu": "CPU milliseconds per order of each contender, by process",
    "latency": "Latency of each contender by the rate of orders: p50 and p99",
    "growth": "Orders per second by the number of stored orders",
    "backlog": "Orders done over time, from a full queue",
    "memory": "Memory of each app over the number of orders handled",
}


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown, numbers to the right; empty without rows."""
    body = list(rows)
    if not body:
        return ""
    rules = ["---", *("--:" for _ in headings[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, rules, *body))


def number(value: float) -> str:
    """Three digits, or more before the decimal point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def shown(values: Iterable[float], form: Callable[[float], str] = number) -> str:
    return spread(Spread.of(values), form)


def spread(found: Spread | None, form: Callable[[float], str] = number) -> str:
    if found is None:
        return "not measured"
    lowest, highest = form(found.lowest), form(found.highest)
    return form(found.median) + (f" ({lowest} to {highest})" if lowest != highest else "")


def of(records: Iterable[Record], measure: str) -> list[Record]:
    return [record for record in records if record["measure"] == measure]


def grouped(records: Iterable[Any], key: Callable[[Any], Any]) -> list[tuple[Any, list[Any]]]:
    return [(value, list(group)) for value, group in groupby(sorted(records, key=key), key)]


def by_contender(
    records: Iterable[Record], measure: str, workload: str | None = None
) -> dict[str, list[Record]]:
    """The rounds of each contender, in the order of tables and plots."""

    def place(record: Record) -> tuple[int, str]:
        name = contender(record)
        return (CONTENDERS.index(name) if name in CONTENDERS else len(CONTENDERS), name)

    chosen = [record for record in of(records, measure) if workload in (None, record.get("workload"))]
    return {name: rounds for (_, name), rounds in grouped(chosen, place)}


def machine(records: Sequence[Record]) -> str:
    lines = []
    for record in of(records, "machine"):
        packages = ", ".join(f"{name} {version}" for name, version in sorted(record["packages"].items()))
        lines.append(
            f"{record['date']}, commit `{record['commit'][:10]}`: {record['cores']} cores, "
            f"{number(record['memory_gib'])} GiB, Python {record['python']}, RabbitMQ {record['rabbitmq']}, "
            f"MongoDB {record['mongodb']}; {packages}."
        )
    return "\n\n".join([*lines, *of_commits(records), *disturbed(records)])


def of_commits(records: Sequence[Record]) -> list[str]:
    """Which measure was taken of which code, if not all of the same."""
    measured = {(record["commit"], record["measure"]) for record in records if "commit" in record}
    found = {
        commit: ", ".join(sorted(measure for _, measure in pairs if measure != "machine"))
        for commit, pairs in grouped(measured, lambda pair: pair[0])
    }
    if len(found) <= 1:
        return []
    named = "; at ".join(f"`{commit[:10]}`: {names}" for commit, names in found.items())
    return [f"Measured at commit {named}."]


def disturbed(records: Sequence[Record]) -> list[str]:
    """How much of the cores' time went to others, where that was watched."""
    stolen = Spread.of(record["stolen"] for record in records if "stolen" in record)
    if stolen is None:
        return []
    median_round, worst = percent(stolen.median), percent(stolen.highest)
    return [f"Of the cores' time, others had {median_round} in the median round and {worst} in the worst."]


def targets(records: Sequence[Record]) -> str:
    rows = []
    for target in TARGETS:
        found = target.measured(records)
        rounds = f", {found.rounds} rounds" if found and found.rounds > 1 else ""
        limits = ("-" if limit is None else target.shown(limit) for limit in (target.at_least, target.aim))
        rows.append(
            (target.measure, *limits, spread(found, target.shown) + rounds, target.verdict(found)),
        )
    return table(("measure", "at least", "aim", "measured", "reached?"), rows)


def cpu(record: Record) -> tuple[float, float, float]:
    """CPU milliseconds of the apps, of RabbitMQ and of MongoDB."""
    used = record["cpu_ms"]
    apps = sum(value for process, value in used.items() if process not in SERVICES)
    return apps, used.get("rabbitmq", 0.0), used.get("mongodb", 0.0)


def cpu_cells(records: Sequence[Record]) -> list[str]:
    return [shown(values) for values in zip(*map(cpu, records), strict=True)]


def peak(record: Record) -> float:
    """MiB of the apps, each at its peak."""
    return sum(float(value) for process, value in record["peak_mib"].items() if process not in SERVICES)


CPU = ("CPU ms per order: apps", "RabbitMQ", "MongoDB")
PEAK = "peak MiB of the apps"


def throughput(records: Sequence[Record]) -> str:
    tables = []
    for workload, title in WORKLOADS.items():
        ours = speeds(records, OURS, workload)
        rows = [
            (
                name,
                shown(speed.values()),
                "1x" if name == OURS else spread(ratio(speed, ours), times),
                *cpu_cells(rounds),
                shown(map(peak, rounds)),
            )
            for name, rounds in by_contender(records, "saturation", workload).items()
            for speed in [speeds(rounds, name, workload)]
        ]
        tables.append(table((title, "orders/s", "of Orderflow's", *CPU, PEAK), rows))
    return "\n\n".join(filter(None, tables))


def latency(records: Sequence[Record]) -> str:
    rows = [
        (
            name,
            percent(share),
            shown(record["rate"] for record in rounds),
            shown(record["achieved"] for record in rounds),
            shown(record["p50_ms"] for record in rounds),
            shown(record["p99_ms"] for record in rounds),
        )
        for name, own in by_contender(records, "latency").items()
        for share, rounds in grouped(own, lambda record: record["share"])
    ]
    return table(("contender", "load", "orders/s offered", "orders/s done", "p50 ms", "p99 ms"), rows)


def ingress(records: Sequence[Record]) -> str:
    rows = [
        (
            name,
            shown(record["requests_per_second"] for record in rounds),
            shown(record["p50_ms"] for record in rounds),
            shown(record["p99_ms"] for record in rounds),
            number(sum(record["errors"] for record in rounds)),
            *cpu_cells(rounds),
        )
        for name, rounds in by_contender(records, "ingress").items()
    ]
    return table(
        ("", "requests/s", "p50 ms", "p99 ms", "errors", "CPU ms per request: API", *CPU[1:]),
        rows,
    )


def speed_and_cost(records: Sequence[Record], measure: str, field: str, heading: str) -> str:
    """Of Orderflow alone, by one field."""
    rows = [
        (
            f"{value:,}" if isinstance(value, int) else str(value),
            shown(record["orders_per_second"] for record in rounds),
            *cpu_cells(rounds),
            *([shown(map(peak, rounds))] if "peak_mib" in rounds[0] else []),
        )
        for value, rounds in grouped(of(records, measure), lambda record: record[field])
    ]
    with_peak = any("peak_mib" in record for record in of(records, measure))
    return table((heading, "orders/s", *CPU, *([PEAK] if with_peak else [])), rows)


def growth(records: Sequence[Record]) -> str:
    return speed_and_cost(records, "growth", "stored", "orders stored before")


def replicas(records: Sequence[Record]) -> str:
    return speed_and_cost(records, "replicas", "replicas", "processes of each app")


def open_pages(records: Sequence[Record]) -> str:
    return speed_and_cost(records, "viewers", "viewers", "pages of the console that are open")


def backlog(records: Sequence[Record]) -> str:
    rows = [
        (
            f"{record['orders']:,}",
            number(record["seconds"]),
            number(record["orders_per_second"]),
        )
        for record in of(records, "backlog")
    ]
    return table(("orders waiting at the start", "seconds until all were done", "orders/s"), rows)


def memory_table(records: Sequence[Record]) -> str:
    rows = [
        (app, number(warm), number(last), change(last / warm - 1))
        for app, (warm, last) in memory(records).items()
    ]
    end = max((sample["orders"] for sample in of(records, "memory")), default=0)
    return table(("app", "MiB after 10,000 orders", f"MiB after {end:,}", "change"), rows)


def before_and_after(records: Sequence[Record]) -> str:
    """An earlier commit and the present one, in turn on the same machine."""
    rounds = by_contender(records, "before")
    if not rounds:
        return ""
    before, after = (speeds(records, which, measure="before") for which in ("before", "after"))
    used = (number(median(cpu(record)[0] for record in rounds[which])) for which in ("before", "after"))
    faster = spread(ratio(after, before), times)
    headings = ("orders of three lines", "orders/s", "ratio", "CPU ms of the apps per order")
    return table(
        headings,
        zip(
            ("before", "after"),
            map(shown, (before.values(), after.values())),
            ("1x", faster),
            used,
            strict=True,
        ),
    )


if __name__ == "__main__":
    docs = Path("docs")
    write(json.loads((docs / "performance" / "results.json").read_text()), docs)
