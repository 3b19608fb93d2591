"""What a change means to those who publish and to those who consume, in one sentence."""

from dataclasses import dataclass
from enum import StrEnum


class Side(StrEnum):
    """Whom a change may break."""

    PUBLISHERS = "publishers"
    CONSUMERS = "consumers"


NOBODY: frozenset[Side] = frozenset()
PUBLISHERS = frozenset({Side.PUBLISHERS})
CONSUMERS = frozenset({Side.CONSUMERS})
EVERYBODY = PUBLISHERS | CONSUMERS


@dataclass(frozen=True)
class Difference:
    """One thing that is no longer as it was."""

    subject: str
    """The event, queue, exchange or operation."""
    what: str
    breaks: frozenset[Side] = NOBODY
    field: str = ""
    """Way to the field in the message: `lines[].quantity`; empty if the subject itself changed."""

    def __str__(self) -> str:
        verdict = f"breaks {' and '.join(sorted(self.breaks, reverse=True))}" if self.breaks else "compatible"
        return f"{verdict}: {self.subject}{f', {self.field}' if self.field else ''}: {self.what}."
