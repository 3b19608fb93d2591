"""Rejected orders as a CSV file like the one they came from: mend the cells, import it again.

Two columns before the original ones name the reason and the line; an import does not look at them.
"""

import csv
from pathlib import Path
from typing import Self, TextIO

from apps.cli.csv_format import CsvFormat
from apps.cli.errors import UsageError
from apps.cli.order_csv import Reject

ADDED_COLUMNS = ("rejected_because", "rejected_line")


class RejectsFile:
    """Comes into being with the first reject, in the encoding and with the separator of the source."""

    def __init__(self, path: Path, csv_format: CsvFormat) -> None:
        self._path = path
        self._format = csv_format
        self._file: TextIO | None = None
        # Rejects of a rejects file: its own two columns make room for the new reasons.
        self._kept = [
            position for position, column in enumerate(csv_format.header) if column not in ADDED_COLUMNS
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, reject: Reject) -> None:
        """Write all lines of the order, also those without fault: it is sent whole or not at all."""
        if self._file is None:
            self._file = self._open()
            csv.writer(self._file, delimiter=self._format.delimiter).writerow(
                (*ADDED_COLUMNS, *(self._format.header[position] for position in self._kept))
            )
        writer = csv.writer(self._file, delimiter=self._format.delimiter)
        for row in reject.rows:
            cells = [row.cells[position] for position in self._kept if position < len(row.cells)]
            beyond = row.cells[len(self._format.header) :]
            writer.writerow((reject.reason, row.line, *cells, *beyond))

    def _open(self) -> TextIO:
        try:
            return self._path.open("w", encoding=self._format.encoding, errors="backslashreplace", newline="")
        except OSError as error:
            raise UsageError(f"{self._path}: {error.strerror}") from error
