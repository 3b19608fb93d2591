"""`orderflow stock`: tell the stock app what is on the shelves, and see what it knows."""

import asyncio
import csv
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import typer
from pydantic import ValidationError
from rich.progress import Progress

from apps.cli.errors import UsageError
from apps.cli.output import AsJson, progress, result, show_json, show_table
from apps.kit.clock import utc_now
from apps.kit.errors import DependencyUnavailable
from apps.kit.validation import explain
from contracts import StockAdjusted

app = typer.Typer(help="Set and list stock levels.", no_args_is_help=True)

UNLIMITED = "unlimited"


def counted(sku: str, quantity: str, at: datetime | None = None) -> StockAdjusted:
    """A count of one article.

    Raises:
        UsageError: the quantity is neither a whole number from 0 nor `unlimited`.
    """
    try:
        amount: dict[str, Any] = {"unlimited": True} if quantity == UNLIMITED else {"quantity": int(quantity)}
        return StockAdjusted(
            adjustment_id=uuid4(), sku=sku, mode="set", adjusted_at=at or utc_now(), **amount
        )
    except ValidationError as error:
        raise UsageError(f"{sku!r}, {quantity}: {explain(error)}") from error
    except ValueError as error:
        raise UsageError(f"{sku!r}: {quantity!r} is neither a whole number nor {UNLIMITED!r}") from error


def read_counts(file: Path) -> list[StockAdjusted]:
    """The counts in a CSV file with the columns `sku` and `quantity`.

    Raises:
        UsageError: naming the file and the line that is wrong.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            rows = csv.DictReader(lines)
            if not {"sku", "quantity"} <= set(rows.fieldnames or ()):
                raise UsageError(f"{file}: the first line must name the columns sku and quantity")
            counts: dict[str, StockAdjusted] = {}
            for row in rows:
                try:
                    count = counted((row["sku"] or "").strip(), (row["quantity"] or "").strip())
                except UsageError as error:
                    raise UsageError(f"{file} line {rows.line_num}: {error}") from error
                if count.sku in counts:
                    raise UsageError(f"{file} line {rows.line_num}: {count.sku!r} stands there twice")
                counts[count.sku] = count
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file}: is not UTF-8 text ({error.reason} at byte {error.start})") from error
    return list(counts.values())


async def publish_counts(counts: Iterable[StockAdjusted], bar: Progress | None = None) -> None:
    """Publish counts straight to RabbitMQ, a hundred at a time."""
    from apps.kit.publishing import event_publisher  # noqa: PLC0415  # FastStream takes seconds to import

    waiting = asyncio.Semaphore(100)
    counts = list(counts)
    task = bar.add_task("Publishing", total=len(counts)) if bar else None

    async with event_publisher("cli") as publish:

        async def send(count: StockAdjusted) -> None:
            async with waiting:
                await publish(count)
            if bar and task is not None:
                bar.advance(task)

        try:
            async with asyncio.TaskGroup() as group:
                for count in counts:
                    group.create_task(send(count))
        except* DependencyUnavailable as failures:
            raise failures.exceptions[0] from None


@app.command(name="set")
def set_level(
    sku: Annotated[str, typer.Argument(help="The article.")],
    quantity: Annotated[str, typer.Argument(help=f"Units available now, or {UNLIMITED}.")],
) -> None:
    """State how many units of an article are available now.

    Example: orderflow stock set 85123A 250
    """
    asyncio.run(publish_counts([counted(sku, quantity)]))
    result.print(f"{sku}: {quantity}, published")


@app.command()
def load(
    file: Annotated[Path, typer.Argument(help="CSV with the columns sku and quantity.")],
) -> None:
    """State the available units of many articles.

    Example: orderflow stock load counts.csv
    """
    counts = read_counts(file)
    with Progress(console=progress, disable=not progress.is_terminal) as bar:
        asyncio.run(publish_counts(counts, bar))
    result.print(f"{len(counts):,} counts published")


@app.command(name="list")
def list_levels(
    sku: Annotated[list[str] | None, typer.Argument(help="Only these articles.")] = None,
    as_json: AsJson = False,
) -> None:
    """List what is available and reserved of each article.

    Example: orderflow stock list 85123A 71053
    """
    levels = asyncio.run(_read_levels(sku or []))
    if as_json:
        show_json(levels)
    else:
        show_table(
            ("sku", "available", "reserved", "counted at"),
            [
                (
                    level["sku"],
                    UNLIMITED if level["available"] is None else level["available"],
                    level["reserved"],
                    level["counted_at"],
                )
                for level in levels
            ],
        )


async def _read_levels(skus: list[str]) -> list[dict[str, Any]]:
    from apps.cli.database import database  # noqa: PLC0415  # takes seconds to import
    from apps.stock.document import StockLevel  # noqa: PLC0415

    wanted = {"_id": {"$in": skus}} if skus else {}
    async with database("stock", StockLevel) as opened:
        found = opened.collection(StockLevel).find(wanted).sort("_id")
        levels = [StockLevel.model_validate_doc(document) async for document in found]
    return [
        {
            "sku": level.id,
            "available": level.available,
            "reserved": level.reserved,
            "counted_at": level.counted_at,
        }
        for level in levels
    ]
