"""Orders out of the lines of a CSV file, wherever an order's lines stand, in memory that does not grow.

The lines are grouped on disk, in a temporary SQLite database that vanishes with its connection.
"""

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Self
from urllib.parse import quote
from uuid import UUID, uuid5

from pydantic import ValidationError

from apps.cli.countries import country_code
from apps.cli.csv_format import CsvFormat, Field
from apps.cli.csv_rows import Row, read_rows
from apps.cli.csv_values import read_price, read_quantity, read_time
from contracts import Customer, OrderCreated, OrderLine
from contracts.event import NAMESPACE

MOST_LINES = 1000
"""The contract's limit, known here so that a longer order is refused before it is read into memory."""
GUEST = "guest"
"""Customer id of an order that names no customer."""
_PROBLEMS_TOLD = 3


@dataclass(frozen=True, slots=True)
class OrderTerms:
    """What the file does not say of its orders."""

    source: str
    """Where the orders are from; with an order's number it makes the order's id."""
    currency: str
    timezone: tzinfo
    cancellation_prefix: str = "C"
    """Numbers that begin so are cancellations; with an empty one none is."""


@dataclass(frozen=True, slots=True)
class Reject:
    """An order that breaks the contract, and why."""

    reference: str
    reason: str
    rows: "StagedRows"
    """Its rows, to be read while the order file is open."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """What is no order, and why."""

    reference: str
    reason: str


Outcome = OrderCreated | Reject | Skipped


def order_id(source: str, reference: str) -> UUID:
    """The same for the same order however often, and from whichever copy of the file, it is imported."""
    return uuid5(NAMESPACE, f"import/{quote(source, safe='')}/{reference}")


class StagedRows:
    """The rows of one order, read from disk each time they are wanted."""

    def __init__(self, database: sqlite3.Connection, reference: str, count: int) -> None:
        self._database = database
        self._reference = reference
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Row]:
        rows = self._database.execute(
            "SELECT line, cells FROM row WHERE reference = ? ORDER BY line", (self._reference,)
        )
        for line, cells in rows:
            yield Row(line, json.loads(cells))


class OrderFile:
    """A file whose lines have been grouped; iterating gives each order in order of its first line.

    Raises:
        UsageError: the file cannot be read to its end.
    """

    def __init__(self, path: Path, csv_format: CsvFormat, terms: OrderTerms) -> None:
        self._format = csv_format
        self._terms = terms
        self._database = sqlite3.connect("")  # an empty name is a private file that SQLite deletes
        try:
            self._stage(path)
        except BaseException:
            self._database.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def _stage(self, path: Path) -> None:
        rows = read_rows(path, self._format.encoding, self._format.delimiter)
        next(rows)  # the header
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute(
            "CREATE TABLE row (reference TEXT, line INTEGER, cells TEXT, PRIMARY KEY (reference, line))"
            " WITHOUT ROWID"
        )
        position = self._format.columns["order"]
        self._database.executemany(
            "INSERT INTO row VALUES (?, ?, ?)",
            (
                (row.cells[position] if position < len(row.cells) else "", row.line, json.dumps(row.cells))
                for row in rows
            ),
        )
        self.line_count, self.order_count = self._database.execute(
            "SELECT COUNT(*), COUNT(DISTINCT reference) FROM row"
        ).fetchone()

    def __iter__(self) -> Iterator[Outcome]:
        orders = self._database.execute(
            "SELECT reference, COUNT(*) FROM row GROUP BY reference ORDER BY MIN(line)"
        )
        for reference, count in orders:
            yield self._outcome(reference, StagedRows(self._database, reference, count))

    def _outcome(self, reference: str, rows: StagedRows) -> Outcome:
        prefix = self._terms.cancellation_prefix
        if prefix and reference.startswith(prefix):
            return Skipped(reference, f"cancellation (number begins with {prefix})")
        if not reference:
            return Reject(reference, "no order number", rows)
        if len(rows) > MOST_LINES:
            return Reject(reference, f"{len(rows):,} lines, more than {MOST_LINES:,}", rows)
        problems: list[str] = []
        order = self._order(reference, list(rows), problems)
        if order is None or problems:
            told = problems[:_PROBLEMS_TOLD]
            if len(problems) > len(told):
                told.append(f"and {len(problems) - len(told)} more")
            return Reject(reference, "; ".join(told), rows)
        return order

    def _order(self, reference: str, rows: list[Row], problems: list[str]) -> OrderCreated | None:
        """The order, if nothing stands against it; else what does is added to the problems."""
        lines: list[OrderLine] = []
        for row in rows:
            try:
                lines.append(self._order_line(row))
            except ValueError as error:
                problems.extend(f"line {row.line}: {problem}" for problem in _problems(error))
        customer_ids = list(dict.fromkeys(filter(None, (self._cell(row, "customer_id") for row in rows))))
        if len(customer_ids) > 1:
            problems.append(f"lines name different customers: {', '.join(customer_ids[:_PROBLEMS_TOLD])}")
        if problems:
            return None
        try:
            return OrderCreated(
                order_id=order_id(self._terms.source, reference),
                reference=reference,
                customer=self._customer(rows),
                currency=self._terms.currency,
                lines=tuple(lines),
                total=sum((line.amount for line in lines), Decimal(0)),
                placed_at=read_time(
                    self._cell(rows[0], "placed_at"), self._format.date_order, self._terms.timezone
                ),
            )
        except ValueError as error:
            problems.extend(f"line {rows[0].line}: {problem}" for problem in _problems(error))
            return None

    def _order_line(self, row: Row) -> OrderLine:
        width = len(self._format.header)
        if len(row.cells) < width or any(row.cells[width:]):
            raise ValueError(f"{len(row.cells)} cells where the header has {width}")
        mark, currency = self._format.decimal, self._terms.currency
        return OrderLine(
            sku=self._cell(row, "sku"),
            description=self._cell(row, "description"),
            quantity=read_quantity(self._cell(row, "quantity"), mark),
            unit_price=read_price(self._cell(row, "unit_price"), mark, currency),
        )

    def _customer(self, rows: list[Row]) -> Customer:
        def first(name: Field) -> str | None:
            return next(filter(None, (self._cell(row, name) for row in rows)), None)

        return Customer(
            id=first("customer_id") or GUEST,
            name=first("customer_name"),
            email=first("email"),
            phone=first("phone"),
            locale=first("locale"),
            country=country_code(first("country") or ""),
        )

    def _cell(self, row: Row, name: Field) -> str:
        position = self._format.columns.get(name)
        return "" if position is None or position >= len(row.cells) else row.cells[position]


def read_orders(path: Path, csv_format: CsvFormat, terms: OrderTerms) -> Iterator[Outcome]:
    """Every order of the file, with what is refused or left out."""
    with OrderFile(path, csv_format, terms) as orders:
        yield from orders


def _problems(error: ValueError) -> list[str]:
    if not isinstance(error, ValidationError):
        return [str(error)]
    return [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors(include_url=False)]
