"""What the ledger finds where a promise was broken."""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What went wrong."""

    LOST = "lost"
    DUPLICATED = "duplicated"
    WRONG = "wrong"
    LEFT_OVER = "left over"


@dataclass(frozen=True)
class Violation:
    """One broken promise."""

    kind: Kind
    what: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}"
