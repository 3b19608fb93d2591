"""The report: one row per scenario, what it breaks and RabbitMQ version, between two markers of a file."""

from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Self

BEGIN = "<!-- begin of the table that `just faults --report` writes -->"
END = "<!-- end of the table -->"


@dataclass(frozen=True)
class Row:
    """What one scenario has shown; every field is a cell."""

    number: str
    scenario: str
    broken: str
    """What was killed, cut off or fed."""
    rabbitmq: str
    orders: str
    messages: str
    recovered_after: str
    lost: str
    duplicated: str
    repeated_mails: str
    seed: str

    @property
    def key(self) -> tuple[int, str, str, str]:
        return int(self.number), self.scenario, self.broken, self.rabbitmq

    @classmethod
    def parse(cls, line: str) -> Self:
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        return cls(*cells)


HEADINGS = (
    "no.",
    "scenario",
    "broken",
    "RabbitMQ",
    "orders",
    "messages",
    "recovered after",
    "lost",
    "duplicated",
    "mails repeated",
    "seed",
)


def write(file: Path, rows: list[Row]) -> None:
    """Put the rows into the table; those of other scenarios and of other versions stay.

    Raises:
        ValueError: the file lacks the markers.
    """
    before, begin, rest = file.read_text().partition(BEGIN)
    table, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{file} has no table to write: it lacks the markers")
    kept = [Row.parse(line) for line in table.strip().splitlines()[2:]]
    merged = {row.key: row for row in (*kept, *rows)}
    assert len(HEADINGS) == len(fields(Row))
    lines = [HEADINGS, ("---",) * len(HEADINGS), *(astuple(merged[key]) for key in sorted(merged))]
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    file.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")
