"""What recovery does: keep every death, and let an operator send a message again or give it up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol, runtime_checkable
from uuid import UUID

from apps.recovery.domain import Death, State, occurrence_id
from contracts import DeadLetterOpened


@dataclass(frozen=True)
class LetterFilter:
    """Which dead letters a list holds; None means any."""

    states: Sequence[State] | None = None
    source: str | None = None
    queue: str | None = None
    event_type: str | None = None
    error_type: str | None = None
    fingerprint: str | None = None
    order_id: UUID | None = None

    @property
    def exact(self) -> Mapping[str, Any]:
        """The fields that a letter must have just so."""
        return {
            "source": self.source,
            "queue": self.queue,
            "event_type": self.event_type,
            "error_type": self.error_type,
            "fingerprint": self.fingerprint,
            "order_id": self.order_id,
        }


@dataclass(frozen=True, kw_only=True)
class Group:
    """Dead letters whose failures look alike; what differs between them is the newest one's."""

    fingerprint: str
    count: int
    first_seen_at: datetime
    last_seen_at: datetime
    queue: str | None
    event_type: str | None
    error_type: str
    reason: str
    sample_id: UUID


class Origin(NamedTuple):
    """Where a letter was found, which decides where a replay of it goes."""

    source: str
    queue: str | None
    event_type: str | None


@runtime_checkable
class Archive(Protocol):
    """Keeps every death of every message."""

    async def keep(self, death: Death) -> datetime | None:
        """Store a death; returns when it was first stored, or None if its end is announced already."""


async def keep(death: Death, archive: Archive) -> DeadLetterOpened | None:
    """Keep a death, and tell its order of it; a repeat tells the same again."""
    opened_at = await archive.keep(death)
    if opened_at is None or death.order_id is None or not death.is_told:
        return None
    return DeadLetterOpened(
        occurrence_id=occurrence_id(death.letter_id, death.replay),
        dead_letter_id=death.letter_id,
        order_id=death.order_id,
        queue=death.queue,
        event_type=death.event_type,
        reason=death.reason,
        opened_at=opened_at,
    )
