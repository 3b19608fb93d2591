"""Rows of a CSV file with the line each begins on; a broken one is named by its line, never guessed at."""

import codecs
import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from apps.cli.errors import UsageError

_ENCODINGS_BY_MARK = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_UNDECODABLE = re.compile("[\udc80-\udcff]")


class Row(NamedTuple):
    """Cells without surrounding spaces, and the number of the line they begin on."""

    line: int
    cells: list[str]


def find_encoding(path: Path, given: str | None) -> str:
    """What the byte-order mark says, else what the user says, else UTF-8."""
    try:
        with path.open("rb") as file:
            beginning = file.read(4)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    marked = next((name for mark, name in _ENCODINGS_BY_MARK.items() if beginning.startswith(mark)), None)
    return marked or given or "utf-8"


def read_lines(path: Path, encoding: str) -> Iterator[str]:
    """Lines as they stand, with their ends.

    Raises:
        UsageError: the file cannot be read, or a line is not in this encoding.
    """
    try:
        file = path.open(encoding=encoding, errors="surrogateescape", newline="")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except LookupError as error:
        raise UsageError(f"--encoding {encoding}: no such text encoding") from error
    with file:
        try:
            for number, line in enumerate(file, start=1):
                if not line.isascii() and (wrong := _UNDECODABLE.search(line)):
                    byte = ord(wrong[0]) - 0xDC00
                    raise UsageError(
                        f"{path} line {number}: byte 0x{byte:02x} is not {encoding};"
                        " give --encoding, for example --encoding cp1252"
                    )
                yield line
        except UnicodeError as error:
            raise UsageError(f"{path}: not {encoding} ({error})") from error


def read_rows(path: Path, encoding: str, delimiter: str) -> Iterator[Row]:
    """All rows, the header first; empty ones are left out.

    Raises:
        UsageError: as `read_lines`, or a quotation mark is not closed where it should be.
    """
    reader = csv.reader(read_lines(path, encoding), delimiter=delimiter, strict=True)
    begin, width = 1, 0
    try:
        for cells in reader:
            width = width or len(cells)
            if reader.line_num > begin and _swallows_rows(cells, delimiter, width):
                raise UsageError(
                    f"{path} line {begin}: a quotation mark opened here closes only in line"
                    f" {reader.line_num} and swallows rows; remove it or double it"
                )
            row = Row(begin, [cell.strip() for cell in cells])
            if any(row.cells):
                yield row
            begin = reader.line_num + 1
    except csv.Error as error:
        raise UsageError(
            f"{path} line {begin}: a quotation mark is not closed or not doubled ({error})"
        ) from error


def _swallows_rows(cells: list[str], delimiter: str, width: int) -> bool:
    """Tell a lone quotation mark, which hides the lines up to the next one, from a cell of several lines."""
    if len(cells) != width:
        return True
    for column, cell in enumerate(cells):
        delimiters = [line.count(delimiter) for line in cell.splitlines()]
        if len(delimiters) > 1 and (delimiters[0], delimiters[-1]) == (width - 1 - column, column):
            return True
    return False
