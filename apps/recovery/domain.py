"""The rules of recovery: what identifies a dead letter, what makes two alike, and whom it concerns."""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from hashlib import sha256
from uuid import UUID, uuid5

from contracts import EVENTS
from contracts.event import NAMESPACE

_FINGERPRINT_CHARACTERS = 12
_OWN_EVENTS = "dead-letter."
_ABOUT_ORDERS = frozenset(event.topic for event in EVENTS if "order_id" in event.model_fields)

_QUOTED = re.compile(r"""(?<!\w)'[^']*'(?!\w)|"[^"]*"|`[^`]*`""")
_VALUES = re.compile(
    r"(?P<id>[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})"
    r"|(?P<hex>\b0x[0-9a-f]+\b|\b(?=[a-f]*[0-9])(?=[0-9]*[a-f])[0-9a-f]{8,}\b)"
    r"|(?P<number>[0-9]+(?:[.,:][0-9]+)*)",
    re.IGNORECASE,
)
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


class State(StrEnum):
    """Where a dead letter is."""

    OPEN = "open"
    REPLAYING = "replaying"
    """Sent, and not known to have arrived: if it stays so, the sender died. It counts as open."""
    REPLAYED = "replayed"
    DISCARDED = "discarded"

    @property
    def is_open(self) -> bool:
        return self in OPEN_STATES


OPEN_STATES = (State.OPEN, State.REPLAYING)
CLOSED_STATES = (State.REPLAYED, State.DISCARDED)


class Source(StrEnum):
    """Where a dead letter was found."""

    DEAD = "dead"
    """A consumer's queue gave it up."""
    UNROUTED = "unrouted"
    """No queue was bound for its routing key."""


@dataclass(frozen=True, kw_only=True)
class Death:
    """One death of a message: the message as it was published, and what is known of its failure."""

    source: Source
    queue: str | None
    """The queue whose consumer gave it up; None if no queue wanted it, or nobody says."""
    event_type: str | None
    """The routing key under which it was first published."""
    body: bytes
    headers: bytes
    """All of them as AMQP has them on the wire, in which every type and key survives."""
    replay: int
    """Which replay this message was; 0 for the one that was first published."""

    message_id: str | None = None
    correlation_id: str | None = None
    order_id: UUID | None = None
    app_id: str | None = None
    type: str | None = None
    content_type: str | None = None
    content_encoding: str | None = None
    published_at: datetime | None = None
    """Its `timestamp` property."""

    error_type: str
    reason: str
    handler: str | None = None
    traceback: str | None = None
    attempts: int | None = None
    first_failed_at: datetime | None = None
    last_failed_at: datetime | None = None
    trace_id: str | None = None

    @cached_property
    def letter_id(self) -> UUID:
        """The same message from the same place is one dead letter, however often it arrives."""
        place = self.queue or f"{self.source}/{self.event_type}"
        return uuid5(NAMESPACE, f"{place}/{self.message_id}/{sha256(self.body).hexdigest()}")

    @property
    def fingerprint(self) -> str:
        """The same for failures that look alike."""
        return fingerprint(self.error_type, self.handler or self.queue or self.event_type, self.reason)

    @property
    def is_told(self) -> bool:
        """Whether its order hears of it; our own announcements are left out, or each would make another."""
        return concerns_order(self.order_id, self.event_type)


def concerns_order(order_id: UUID | None, event_type: str | None) -> bool:
    """Whether an order's view shows a dead letter."""
    return order_id is not None and not (event_type or "").startswith(_OWN_EVENTS)


def occurrence_id(letter_id: UUID, replay: int) -> UUID:
    """Identifies one death of a letter: that of the original, or of one of its replays."""
    return uuid5(letter_id, str(replay))


def fingerprint(error_type: str, place: str | None, reason: str) -> str:
    """A short name for all failures of one kind, in one place, that differ only in their values."""
    text = f"{error_type}/{place}/{normalised(reason)}"
    return sha256(text.encode(errors="replace")).hexdigest()[:_FINGERPRINT_CHARACTERS]


def normalised(reason: str) -> str:
    """A reason without what differs from message to message; problems that then are the same, once."""
    text = _QUOTED.sub("<value>", reason)
    text = _VALUES.sub(lambda found: f"<{found.lastgroup}>", text)
    return "; ".join(dict.fromkeys(text.split("; ")))


def order_of(
    stated: object, event_type: str | None, correlation_id: str | None, *, is_ours: bool
) -> UUID | None:
    """The order that a message belongs to, as far as it tells.

    Args:
        stated: the `order_id` in its body, whatever that is; None without one.
        event_type: its routing key.
        correlation_id: the order's id on our own events about orders; another sender's may be anything.
        is_ours: whether one of our own processes published it.
    """
    order_id = _uuid(stated)
    if order_id is None and is_ours and event_type in _ABOUT_ORDERS:
        order_id = _uuid(correlation_id)
    return order_id


def trace_of(traceparent: object) -> str | None:
    """The trace id in a W3C `traceparent`, if it is one."""
    found = _TRACEPARENT.fullmatch(traceparent) if isinstance(traceparent, str) else None
    return found[1] if found else None


def _uuid(value: object) -> UUID | None:
    try:
        return UUID(value) if isinstance(value, str) else None
    except ValueError:
        return None
