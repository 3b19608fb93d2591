"""`orderflow import`: orders of a CSV file, straight to RabbitMQ."""

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from apps.cli.csv_format import FIELDS, find_format
from apps.cli.errors import UsageError
from apps.cli.import_options import format_hints, order_terms
from apps.cli.import_report import Triage, show
from apps.cli.order_csv import OrderFile
from apps.cli.presets import PRESETS
from apps.kit.errors import DependencyUnavailable
from contracts import OrderCreated

EXIT_REJECTS = 1
EXIT_BROKER_OUT_OF_REACH = 3


def import_orders(
    file: Annotated[Path, typer.Argument(help="CSV file; its first line names the columns.")],
    *,
    preset: Annotated[
        str | None, typer.Option(help=f"Known kind of file: {', '.join(PRESETS)}.", show_default=False)
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=NAME",
            help=f"Column of a field, such as order=InvoiceNo; repeat it. Fields: {', '.join(FIELDS)}.",
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            help="Where the orders are from; part of their ids. Default: the preset's name, else csv."
        ),
    ] = None,
    currency: Annotated[str | None, typer.Option(help="ISO 4217 code of all prices, such as GBP.")] = None,
    timezone: Annotated[
        str, typer.Option(help="Zone of times that name none, such as Europe/London.")
    ] = "UTC",
    delimiter: Annotated[str | None, typer.Option(help="Between cells; found if not given.")] = None,
    decimal: Annotated[str | None, typer.Option(help=". or , as decimal mark; found if not given.")] = None,
    date_order: Annotated[
        str | None, typer.Option(help="ymd, mdy or dmy; found if the dates prove it.")
    ] = None,
    encoding: Annotated[str | None, typer.Option(help="By byte-order mark, else UTF-8.")] = None,
    cancellation_prefix: Annotated[
        str, typer.Option(help='Order numbers that begin so are skipped; "" skips none.')
    ] = "C",
    rejects: Annotated[
        Path | None,
        typer.Option(help="Where refused orders are written; default: FILE with .rejects.csv; overwritten."),
    ] = None,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to go on trying while RabbitMQ does not confirm.")
    ] = 60,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check and count; send and write nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Publish the orders of a CSV file straight to RabbitMQ.

    An order that breaks the contract is not sent: all its lines go to the rejects file, with the reason
    in front. Mend them there and import that file with the same options; only what changed is new.
    Importing a file twice changes nothing, so an import that was interrupted can simply be run again.

    Exit codes: 0 every order was sent, 1 some were rejected, 2 bad input, 3 RabbitMQ stayed out of reach.

    Example: orderflow import online_retail.csv --preset online-retail
    """
    hints = format_hints(
        preset=preset,
        columns=column,
        delimiter=delimiter,
        decimal=decimal,
        date_order=date_order,
        encoding=encoding,
    )
    terms = order_terms(
        preset=preset,
        source=source,
        currency=currency,
        timezone=timezone,
        cancellation_prefix=cancellation_prefix,
    )
    if file.exists() and not file.is_file():
        raise UsageError(f"{file}: must be a file, for it is read more than once")

    console = Console(stderr=True)
    with _progress(console) as progress:
        reading = progress.add_task("Reading", total=None)
        csv_format = find_format(file, hints)
        rejects = rejects or file.with_suffix(".rejects.csv")
        if rejects.resolve() == file.resolve():
            raise UsageError(f"--rejects {rejects} is the file to import")
        with OrderFile(file, csv_format, terms) as orders:
            progress.update(reading, total=orders.line_count, completed=orders.line_count)
            triage = Triage(orders, csv_format, rejects, file, terms.source, dry_run=dry_run)
            problem = _send(triage, progress, wait)
    summary = triage.summary
    if as_json:
        typer.echo(json.dumps(asdict(summary)))
    else:
        show(summary, triage.reasons, console)
    if problem:
        console.print(
            f"{problem}; run the same command again, what was sent will not be doubled",
            style="red",
            soft_wrap=True,
        )
        raise typer.Exit(EXIT_BROKER_OUT_OF_REACH)
    if summary.rejected:
        raise typer.Exit(EXIT_REJECTS)


def _send(triage: Triage, progress: Progress, patience_seconds: float) -> str | None:
    """Publish what is valid, unless the run is dry; return what stopped it, if something did."""
    if triage.summary.dry_run:
        for _ in progress.track(triage.valid_orders(), triage.summary.orders, description="Checking"):
            pass
        return None
    # FastStream takes a while to import, and only this path needs it.
    from apps.cli.order_publishing import connect, publish_orders  # noqa: PLC0415
    from apps.kit.publishing import PublishFailed  # noqa: PLC0415

    summary = triage.summary
    task = progress.add_task("Publishing", total=summary.orders)
    told = False

    def on_progress(_: OrderCreated) -> None:
        nonlocal told
        told = False
        summary.published += 1
        progress.update(task, completed=summary.published + summary.rejected + sum(summary.skipped.values()))

    def on_wait(problem: str) -> None:
        nonlocal told
        if not told:
            told = True
            progress.console.print(
                f"{problem}; trying again for up to {patience_seconds:g} s", soft_wrap=True
            )

    async def publish_all() -> None:
        async with connect(patience_seconds=patience_seconds, on_wait=on_wait) as publish:
            await publish_orders(
                triage.valid_orders(),
                publish,
                patience_seconds=patience_seconds,
                on_progress=on_progress,
                on_wait=on_wait,
            )

    try:
        asyncio.run(publish_all())
    except (PublishFailed, DependencyUnavailable) as failure:
        summary.complete = False
        return f"Gave up after {patience_seconds:g} s, {summary.published:,} orders sent: {failure}"
    return None


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )
