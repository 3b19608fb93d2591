"""How a CSV file is written: what the user says, else what all of its lines prove, else a question."""

import csv
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from functools import partial
from pathlib import Path
from typing import Generic, Literal, TypeVar, get_args

from apps.cli.csv_rows import find_encoding, read_lines, read_rows
from apps.cli.csv_values import DateOrder, DecimalMark, read_number, read_time
from apps.cli.errors import UsageError

Field = Literal[
    "order",
    "sku",
    "description",
    "quantity",
    "unit_price",
    "placed_at",
    "customer_id",
    "customer_name",
    "email",
    "phone",
    "locale",
    "country",
]
FIELDS: tuple[Field, ...] = get_args(Field)
REQUIRED_FIELDS: tuple[Field, ...] = ("order", "sku", "quantity", "unit_price", "placed_at")
DELIMITERS = ",;\t|"

Option = TypeVar("Option", bound=str)


@dataclass(frozen=True, slots=True)
class FormatHints:
    """What is known before the file is opened; None is to be found out."""

    columns: Mapping[Field, str] = field(default_factory=dict)
    """Names of columns by field; a field that is left out is looked for under its own name."""
    delimiter: str | None = None
    decimal: DecimalMark | None = None
    date_order: DateOrder | None = None
    likely_date_order: DateOrder | None = None
    """Holds unless the file proves otherwise."""
    encoding: str | None = None


@dataclass(frozen=True, slots=True)
class CsvFormat:
    """All that is needed to read one file."""

    encoding: str
    delimiter: str
    decimal: DecimalMark
    date_order: DateOrder
    header: tuple[str, ...]
    columns: Mapping[Field, int]
    """Positions of the columns that the file has."""


def find_format(path: Path, hints: FormatHints) -> CsvFormat:
    """Read the file once, as far as the hints leave something open.

    Raises:
        UsageError: the file cannot be read, lacks a column, or can be read in two ways.
    """
    encoding = find_encoding(path, hints.encoding)
    names = {name: hints.columns.get(name, name) for name in FIELDS}
    delimiter = hints.delimiter or _find_delimiter(path, encoding, set(names.values()))
    rows = read_rows(path, encoding, delimiter)
    header = next(rows, None)
    if header is None:
        raise UsageError(f"{path} is empty: the first line must name the columns")
    columns = _find_columns(path, header.cells, names, asked_for={*hints.columns, *REQUIRED_FIELDS})
    marks = _Evidence[DecimalMark]({".": partial(read_number, mark="."), ",": partial(read_number, mark=",")})
    orders = _Evidence[DateOrder](
        {
            "ymd": partial(read_time, order="ymd", zone=UTC),
            "mdy": partial(read_time, order="mdy", zone=UTC),
            "dmy": partial(read_time, order="dmy", zone=UTC),
        }
    )
    if hints.decimal is None or hints.date_order is None:
        for row in rows:
            if len(row.cells) >= len(header.cells):
                marks.weigh(row.line, row.cells[columns["unit_price"]])
                marks.weigh(row.line, row.cells[columns["quantity"]])
                orders.weigh(row.line, row.cells[columns["placed_at"]])
    return CsvFormat(
        encoding=encoding,
        delimiter=delimiter,
        decimal=hints.decimal or marks.verdict(path, "--decimal"),
        date_order=hints.date_order or orders.verdict(path, "--date-order", hints.likely_date_order),
        header=tuple(header.cells),
        columns=columns,
    )


def _find_delimiter(path: Path, encoding: str, names: set[str]) -> str:
    first_line = next(read_lines(path, encoding), "")

    def fit(delimiter: str) -> tuple[int, int]:
        cells = next(csv.reader([first_line], delimiter=delimiter), [])
        return len(names & {cell.strip() for cell in cells}), len(cells)

    return max(DELIMITERS, key=fit)


def _find_columns(
    path: Path, header: list[str], names: Mapping[Field, str], asked_for: set[Field]
) -> dict[Field, int]:
    columns: dict[Field, int] = {}
    for name, column in names.items():
        if header.count(column) > 1:
            raise UsageError(f"{path} has several columns {column!r}")
        if column in header:
            columns[name] = header.index(column)
        elif name in asked_for:
            raise UsageError(
                f"{path} has no column {column!r} for {name}: name it with --column {name}=NAME;"
                f" it has {', '.join(header)}"
            )
    return columns


class _Evidence(Generic[Option]):
    """The ways of reading that every value of a column allows."""

    def __init__(self, readings: Mapping[Option, Callable[[str], Hashable]]) -> None:
        self._readings = readings
        self._seen: set[str] = set()
        self._against: dict[Option, str] = {}
        self._doubtful: str | None = None

    def weigh(self, line: int, text: str) -> None:
        if text in self._seen:
            return
        if len(self._seen) >= 10_000:  # noqa: PLR2004
            self._seen.clear()
        self._seen.add(text)
        values: dict[Option, Hashable] = {}
        for option, read in self._readings.items():
            try:
                values[option] = read(text)
            except ValueError:
                continue
        where = f"line {line}: {text!r}"
        if values:  # What no option can read says nothing of the file; its order will be refused.
            for option in self._readings.keys() - values.keys():
                self._against.setdefault(option, where)
        if len(set(values.values())) > 1:
            self._doubtful = self._doubtful or where

    def verdict(self, path: Path, flag: str, likely: Option | None = None) -> Option:
        possible = [option for option in self._readings if option not in self._against]
        if not possible:
            found = ", ".join(sorted(set(self._against.values())))
            raise UsageError(f"{path} is written in more than one way ({found}): choose with {flag}")
        if likely is not None and likely in possible:
            return likely
        if len(possible) > 1 and self._doubtful:
            choice = " or ".join(f"{flag} {option}" for option in possible)
            raise UsageError(f"{path} {self._doubtful} can be read in more than one way: give {choice}")
        return possible[0]
