"""`just bench`: runs the benchmark and writes docs/PERFORMANCE.md, its plots and its raw data."""

import asyncio
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import psutil
import typer
from rich.console import Console

from tests.bench import ingress, measures, viewers
from tests.bench.calm import calm
from tests.bench.contenders.orderflow import Orderflow
from tests.bench.processes import ROOT, pin
from tests.bench.reach import Record, lead
from tests.bench.report import write
from tests.bench.rounds import CONTENDERS, contender, saturation
from tests.bench.services import Services

MEASURES = ("saturation", "real", "latency", "ingress", "growth", "replicas", "viewers", "endurance")
RESULTS = Path("performance") / "results.json"
CEILINGS = frozenset({"bare", "wire"})
"""They do none of the job: for them, orders are all alike, and latency tells nothing."""
CORES = (0, 1)
GATE_RATIO = 1.5
"""Below this, Orderflow is no longer clearly ahead of what is hand-written: the gate fails.

The benchmark's own target is 2; the rest is margin for one short run on a busy machine.
"""
PACKAGES = ("aio-pika", "celery", "faststream", "motor", "pydantic", "pymongo", "taskiq", "uvloop")

console = Console(highlight=False)


def bench(
    only: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(MEASURES)}; all if none.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Three minutes, few orders, nothing written.")
    ] = False,
    gate: Annotated[bool, typer.Option("--gate", help="Fail if the lead over hand-written is gone.")] = False,
    rounds: Annotated[int, typer.Option(min=1, help="Of each contender, in turn.")] = 5,
    before: Annotated[
        Path | None, typer.Option(help="Compare with this checkout of an earlier commit, and nothing else.")
    ] = None,
    logs: Annotated[Path, typer.Option(help="Where the contenders' logs go.")] = Path(".orderflow/bench"),
) -> None:
    """Compare Orderflow with what people would use instead.

    Example: just bench --only saturation --rounds 3
    """
    unknown = set(only or ()) - set(MEASURES)
    if unknown:
        console.print(f"--only {min(unknown)}: is none of {', '.join(MEASURES)}")
        raise typer.Exit(2)
    pin([core for core in CORES if core < (os.cpu_count() or 1)])
    with (
        tempfile.TemporaryDirectory(prefix="orderflow-bench-") as directory,
        Services(Path(directory)) as services,
    ):
        if gate:
            raise typer.Exit(asyncio.run(_gate(services, logs)))
        if quick:
            asyncio.run(_quick(services, logs))
            return
        run = Run(services, logs, rounds, before)
        for measure in ["before"] if before else only or MEASURES:
            asyncio.run(run.measure(measure))
            run.save()


class Run:
    """One benchmark; what it measures replaces what earlier ones have measured of the same."""

    def __init__(self, services: Services, logs: Path, rounds: int, before: Path | None) -> None:
        self._services = services
        self._logs = logs
        self._rounds = range(1, rounds + 1)
        self._root_before = before.resolve() if before else ROOT
        results = ROOT / "docs" / RESULTS
        self._records: list[Record] = json.loads(results.read_text()) if results.exists() else []
        self._machine = _machine(services)
        self._put([self._machine])

    async def measure(self, name: str) -> None:
        """Measure one thing, and say what comes out."""
        console.rule(name)
        found = await getattr(self, f"_{name}")()
        self._put([{**record, "commit": self._machine["commit"]} for record in found])

    def save(self) -> None:
        """Write the raw data, the tables and the plots."""
        results = ROOT / "docs" / RESULTS
        results.parent.mkdir(exist_ok=True)
        lines = ",\n".join(json.dumps(record) for record in self._records)
        results.write_text(f"[\n{lines}\n]\n")
        write(self._records, ROOT / "docs")

    def _put(self, records: Sequence[Record]) -> None:
        kinds = {(record["measure"], record.get("workload")) for record in records}
        kept = [one for one in self._records if (one["measure"], one.get("workload")) not in kinds]
        self._records = [*kept, *records]

    async def _saturation(self) -> list[Record]:
        return [
            await self._saturated(name, "three-lines", number, 2000)
            for number in self._rounds
            for name in CONTENDERS
        ]

    async def _real(self) -> list[Record]:
        names = [name for name in CONTENDERS if name not in CEILINGS]
        return [await self._saturated(name, "real", number, 500) for number in self._rounds for name in names]

    async def _saturated(self, name: str, workload: str, number: int, count: int) -> Record:
        measured = partial(saturation, self._services, contender(name), workload, number, count, self._logs)
        (record,) = await calm(measured, console.print)
        _show(f"{number} {name}", record)
        return {"contender": name, **record}

    async def _before(self) -> list[Record]:
        found = []
        for number in self._rounds:
            for which, root in (("before", self._root_before), ("after", ROOT)):
                who, logs = Orderflow(root=root), self._logs / which
                measured = partial(saturation, self._services, who, "three-lines", number, 2000, logs)
                (record,) = await calm(measured, console.print)
                _show(f"{number} orderflow {which}", record)
                found.append({**record, "measure": "before", "contender": which})
        return found

    async def _latency(self) -> list[Record]:
        peak = measures.slowest_peak(self._records)
        found: list[Record] = []
        for number in self._rounds:
            for name in (name for name in CONTENDERS if name not in CEILINGS):
                measured = partial(measures.latency, self._services, name, number, peak, 12, self._logs)
                found += await calm(measured, console.print)
                console.print(
                    f"{number} {name}",
                    *(
                        f"{one['rate']:.0f}/s p50 {one['p50_ms']} p99 {one['p99_ms']} ms"
                        for one in found[-3:]
                    ),
                )
        return found

    async def _ingress(self) -> list[Record]:
        return await ingress.measure(self._services, len(self._rounds), self._logs, console.print, seconds=8)

    async def _growth(self) -> list[Record]:
        sizes = (0, 100_000, 1_000_000)
        rounds = len(self._rounds)
        return await measures.growth(
            self._services, sizes, rounds, 2000, self._logs / "growth", console.print
        )

    async def _replicas(self) -> list[Record]:
        found: list[Record] = []
        for number in self._rounds:
            for count in (1, 2, 4):
                logs = self._logs / "replicas" / f"{count}"
                measured = partial(measures.replicas, self._services, count, number, 2000, logs)
                found += await calm(measured, console.print)
            console.print(number, *(f"{one['replicas']}: {one['orders_per_second']}" for one in found[-3:]))
        return found

    async def _viewers(self) -> list[Record]:
        rounds = len(self._rounds)
        return await viewers.measure(
            self._services, (0, 200), rounds, 2000, self._logs / "viewers", console.print
        )

    async def _endurance(self) -> list[Record]:
        logs = self._logs / "endurance"
        return await measures.endurance(self._services, 50_000, 50_000, logs, console.print)


async def _gate(services: Services, logs: Path) -> int:
    """0 if Orderflow is ahead of what is hand-written in one short run."""
    found = await _compared(services, logs, ("orderflow", "hand-written"), rounds=2, count=400)
    what, measured = lead(found, "orderflow", "hand-written")
    console.print(f"{what}, orderflow / hand-written: {measured:.2f}, at least {GATE_RATIO}")
    return 0 if measured >= GATE_RATIO else 1


async def _quick(services: Services, logs: Path) -> None:
    await _compared(services, logs, tuple(CONTENDERS), rounds=1, count=500)


async def _compared(
    services: Services, logs: Path, names: Sequence[str], *, rounds: int, count: int
) -> list[Record]:
    found: list[Record] = []
    for number in range(1, rounds + 1):
        for name in names:
            measured = partial(saturation, services, contender(name), "three-lines", number, count, logs)
            (record,) = await calm(measured, console.print, tries=1)
            _show(f"{number} {name}", record)
            found.append({"contender": name, **record})
    return found


def _show(what: str, record: Record) -> None:
    cpu: dict[str, float] = record["cpu_ms"]
    others = {name: cpu[name] for name in ("rabbitmq", "mongodb", "driver")}
    apps = sum(cpu.values()) - sum(others.values())
    costs = ", ".join(f"{name} {ms:.1f}" for name, ms in {"apps": apps, **others}.items())
    console.print(f"{what}: {record['orders_per_second']:.0f} orders/s; CPU ms per order: {costs}")


def _machine(services: Services) -> Record:
    git = ("git", "rev-parse", "--short", "HEAD")
    return {
        "measure": "machine",
        "cores": len(psutil.Process().cpu_affinity()),
        "memory_gib": round(psutil.virtual_memory().total / (1 << 30)),
        "python": platform.python_version(),
        **services.versions(),
        "commit": subprocess.run(git, check=True, capture_output=True, text=True, cwd=ROOT).stdout.strip(),  # noqa: S603
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "packages": {name: version(name) for name in PACKAGES},
    }


if __name__ == "__main__":
    typer.run(bench)
