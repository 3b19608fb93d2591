"""The plots of docs/PERFORMANCE.md: of a measure that is missing there is none, and an old one is removed."""

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.bench.reach import OURS, SERVICES, Record, Spread
from tests.bench.report import CAPTIONS, WORKLOADS, by_contender, grouped, number, of

# Okabe and Ito's colours, which those with any colour blindness can tell apart.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
DARK, GREY, LIGHT = "#222222", "#8C8C8C", "#C8C8C8"
HUES = {
    OURS: BLUE,
    "faststream-plain": GREEN,
    "hand-written": RED,
    "taskiq": PURPLE,
    "celery": ORANGE,
    "bare": GREY,
}
MARKS = {OURS: "o", "faststream-plain": "s", "hand-written": "D", "taskiq": "^", "celery": "v", "bare": "x"}
PROCESSES = {"orders": SKY, "stock": BLUE, "billing": ORANGE, "notifications": GREEN}
SPARE = (PURPLE, RED, "#F0E442", DARK)
OUTER = {"rabbitmq": GREY, "mongodb": LIGHT}
NAMES = {"rabbitmq": "RabbitMQ", "mongodb": "MongoDB"}
STYLE: Any = {
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "font.size": 11,
    "text.color": DARK,
    "axes.labelcolor": DARK,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "grid.color": "#E6E6E6",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": DARK,
    "ytick.color": DARK,
    "legend.frameon": False,
}


def draw(records: Sequence[Record], directory: Path) -> list[str]:
    """Write every plot that the records allow, and tell their names."""
    directory.mkdir(parents=True, exist_ok=True)
    plots: dict[str, Callable[[Sequence[Record]], Figure | None]] = {
        "throughput": throughput,
        "cpu": cpu,
        "latency": latency,
        "growth": growth,
        "backlog": backlog,
        "memory": memory,
    }
    assert plots.keys() == CAPTIONS.keys()
    drawn = []
    for name, plot in plots.items():
        file = directory / f"{name}.png"
        file.unlink(missing_ok=True)
        with mpl.rc_context(STYLE):
            if figure := plot(records):
                figure.savefig(file, facecolor="white")
                drawn.append(name)
    return drawn


Rounds = Mapping[str, Sequence[Record]]


def by_workload(records: Sequence[Record]) -> dict[str, Rounds]:
    """Of each workload that was measured, the rounds of each contender."""
    found = {title: by_contender(records, "saturation", workload) for workload, title in WORKLOADS.items()}
    return {title: contenders for title, contenders in found.items() if contenders}


def panels(workloads: dict[str, Rounds], plot: Callable[[Axes, Rounds], None], label: str) -> Figure | None:
    """One panel per workload, side by side."""
    if not workloads:
        return None
    figure = Figure(figsize=(9.5, 3.8))
    row = figure.subplots(1, len(workloads), squeeze=False)
    for axes, (title, rounds) in zip(row[0], workloads.items(), strict=True):
        plot(axes, rounds)
        axes.set(title=title.capitalize(), xlabel=label)
    return figure


def bars(axes: Axes, names: Sequence[str], spreads: Sequence[Spread], colours: Sequence[str]) -> None:
    """Medians as bars with their figures, and the lowest and the highest round as whiskers."""
    medians = [spread.median for spread in spreads]
    lower = [spread.median - spread.lowest for spread in spreads]
    upper = [spread.highest - spread.median for spread in spreads]
    axes.barh(names, medians, color=colours, height=0.62)
    axes.errorbar(medians, names, xerr=[lower, upper], fmt="none", ecolor=DARK, elinewidth=1.2, capsize=3)
    for name, spread in zip(names, spreads, strict=True):
        at = (spread.highest, name)
        axes.annotate(number(spread.median), at, (6, 0), textcoords="offset points", va="center")
    level(axes)
    axes.set_xlim(0, max(spread.highest for spread in spreads) * 1.18)


def level(axes: Axes) -> None:
    """The first name on top, and lines only where values are read."""
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def throughput(records: Sequence[Record]) -> Figure | None:
    def plot(axes: Axes, contenders: Rounds) -> None:
        found = {
            name: spread
            for name, rounds in contenders.items()
            if (spread := Spread.of(record["orders_per_second"] for record in rounds))
        }
        colours = [BLUE if name == OURS else LIGHT if name == "bare" else GREY for name in found]
        bars(axes, list(found), list(found.values()), colours)

    return panels(by_workload(records), plot, "orders per second")


def cpu(records: Sequence[Record]) -> Figure | None:
    used = {
        process for record in of(records, "saturation") for process in record["cpu_ms"] if process != "driver"
    }
    others = sorted(used - PROCESSES.keys() - SERVICES)
    hues = {**PROCESSES, **dict(zip(others, cycle(SPARE))), **OUTER}

    def plot(axes: Axes, contenders: Rounds) -> None:
        names = list(contenders)
        left = [0.0] * len(names)
        for process, hue in hues.items():
            if process not in used:
                continue
            widths = [
                median(record["cpu_ms"].get(process, 0.0) for record in rounds)
                for rounds in contenders.values()
            ]
            axes.barh(names, widths, left=left, color=hue, height=0.62, label=NAMES.get(process, process))
            left = [start + width for start, width in zip(left, widths, strict=True)]
        for name, end in zip(names, left, strict=True):
            axes.annotate(number(end), (end, name), (6, 0), textcoords="offset points", va="center")
        level(axes)
        axes.set_xlim(0, max(left) * 1.18)

    figure = panels(by_workload(records), plot, "CPU milliseconds per order")
    if figure:
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 7))
    return figure


def latency(records: Sequence[Record]) -> Figure | None:
    contenders = by_contender(records, "latency")
    if not contenders:
        return None
    figure = Figure(figsize=(9.5, 4.2))
    row = figure.subplots(1, 2, sharey=True)
    for axes, field in zip(row, ("p50_ms", "p99_ms"), strict=True):
        for name, own in contenders.items():
            points = [
                (median(record["rate"] for record in rounds), Spread.of(record[field] for record in rounds))
                for _, rounds in grouped(own, lambda record: record["share"])
            ]
            rates = [rate for rate, _ in points]
            spreads = [spread for _, spread in points if spread]
            hue, ours = HUES.get(name, DARK), name == OURS
            axes.plot(
                rates,
                [spread.median for spread in spreads],
                color=hue,
                marker=MARKS.get(name, "."),
                linewidth=3 if ours else 1.4,
                zorder=3 if ours else 2,
                label=name,
            )
            axes.vlines(
                rates,
                [spread.lowest for spread in spreads],
                [spread.highest for spread in spreads],
                color=hue,
            )
        axes.set(title=field[:3], xlabel="orders per second offered", yscale="log")
        axes.set_xlim(left=0)
        axes.yaxis.set_major_formatter("{x:,g}")
        axes.grid(visible=True, which="minor", axis="y", linewidth=0.4)
    row[0].set_ylabel("milliseconds, OrderCreated to NotificationSent")
    handles, labels = row[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def growth(records: Sequence[Record]) -> Figure | None:
    found = {
        f"{stored:,}": spread
        for stored, rounds in grouped(of(records, "growth"), lambda record: record["stored"])
        if (spread := Spread.of(record["orders_per_second"] for record in rounds))
    }
    if not found:
        return None
    figure = Figure(figsize=(9, 1.3 + 0.5 * len(found)))
    axes = figure.subplots()
    bars(axes, list(found), list(found.values()), [BLUE] * len(found))
    axes.set(xlabel="orders per second", ylabel="orders stored before")
    return figure


def backlog(records: Sequence[Record]) -> Figure | None:
    runs = [record for record in of(records, "backlog") if record["curve"]]
    if not runs:
        return None
    figure = Figure(figsize=(9, 3.8))
    axes = figure.subplots()
    for record in runs:
        seconds, done = zip(*record["curve"], strict=True)
        axes.plot(seconds, done, color=BLUE, linewidth=2.5, label="done")
        ends = (seconds[-1], done[-1])
        axes.plot(
            (0, ends[0]), (0, ends[1]), color=DARK, linewidth=1, linestyle="--", label="at an even speed"
        )
    axes.set(xlabel="seconds", ylabel="orders done", xlim=(0, None), ylim=(0, None))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    figure.legend(
        *(entries[:2] for entries in axes.get_legend_handles_labels()), loc="outside lower center", ncols=2
    )
    return figure


def memory(records: Sequence[Record]) -> Figure | None:
    samples = sorted(of(records, "memory"), key=lambda record: record["orders"])
    apps = [app for app in (samples[0]["mib"] if samples else ()) if app not in SERVICES]
    if not apps:
        return None
    figure = Figure(figsize=(9, 3.8))
    axes = figure.subplots()
    for app, spare in zip(apps, cycle(SPARE)):
        points = [(sample["orders"], sample["mib"][app]) for sample in samples if app in sample["mib"]]
        axes.plot(*zip(*points, strict=True), color=PROCESSES.get(app, spare), linewidth=2, label=app)
    axes.set(xlabel="orders handled", ylabel="MiB", xlim=(0, None), ylim=(0, None))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=len(apps))
    return figure
