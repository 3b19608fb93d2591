"""What became of an import: counted for the user, written down where the user can mend it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import typer
from rich.console import Console

from apps.cli.csv_format import CsvFormat
from apps.cli.order_csv import OrderFile, Reject, Skipped
from apps.cli.rejects_file import RejectsFile
from contracts import OrderCreated

_REASONS_SHOWN = 5


@dataclass(slots=True)
class Summary:
    """What became of the file's orders."""

    file: str
    source: str
    delimiter: str
    decimal: str
    date_order: str
    encoding: str
    dry_run: bool
    lines: int = 0
    orders: int = 0
    valid: int = 0
    published: int = 0
    rejected: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    rejects_file: str | None = None
    complete: bool = True


class Triage:
    """Lets valid orders through; writes down and counts the others."""

    def __init__(
        self,
        orders: OrderFile,
        csv_format: CsvFormat,
        rejects: Path,
        file: Path,
        source: str,
        *,
        dry_run: bool,
    ) -> None:
        self._orders = orders
        self._rejects = rejects
        self._format = csv_format
        self._skipped: Counter[str] = Counter()
        self.reasons: list[str] = []
        self.summary = Summary(
            file=str(file),
            source=source,
            delimiter=csv_format.delimiter,
            decimal=csv_format.decimal,
            date_order=csv_format.date_order,
            encoding=csv_format.encoding,
            dry_run=dry_run,
            lines=orders.line_count,
            orders=orders.order_count,
        )

    def valid_orders(self) -> Iterator[OrderCreated]:
        summary = self.summary
        with RejectsFile(self._rejects, self._format) as rejects:
            for outcome in self._orders:
                if isinstance(outcome, OrderCreated):
                    summary.valid += 1
                    yield outcome
                elif isinstance(outcome, Skipped):
                    self._skipped[outcome.reason] += 1
                    summary.skipped = dict(self._skipped)
                else:
                    summary.rejected += 1
                    self._write_down(outcome, rejects)

    def _write_down(self, reject: Reject, rejects: RejectsFile) -> None:
        if len(self.reasons) < _REASONS_SHOWN:
            self.reasons.append(f"{reject.reference or 'without number'}: {reject.reason}")
        if not self.summary.dry_run:
            rejects.add(reject)
            self.summary.rejects_file = str(self._rejects)


def show(summary: Summary, reasons: list[str], console: Console) -> None:
    done = f"{summary.valid:,} valid" if summary.dry_run else f"{summary.published:,} sent"
    skipped = "".join(f", {count:,} skipped: {reason}" for reason, count in summary.skipped.items())
    refused = f"{summary.rejected:,} rejected"
    typer.echo(f"{summary.orders:,} orders in {summary.lines:,} lines: {done}, {refused}{skipped}")
    for reason in reasons:
        console.print(f"  {reason}", markup=False, highlight=False, soft_wrap=True)
    if summary.rejected > len(reasons):
        console.print(f"  and {summary.rejected - len(reasons):,} more")
    if summary.rejects_file:
        # What the whole file proved may be in doubt in its rejected lines alone.
        typer.echo(
            f"Mend them in {summary.rejects_file} and import it with the same options and"
            f" --source {summary.source} --decimal {summary.decimal} --date-order {summary.date_order}"
        )
