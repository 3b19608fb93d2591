"""Rules of webhooks: who is sent what, what an answer means, and when to try again."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from http import HTTPStatus
from typing import Any
from uuid import UUID, uuid5

from contracts import EVENTS, DeadLetterClosed, DeadLetterOpened, Event
from contracts.event import NAMESPACE

OFFERED: tuple[type[Event], ...] = tuple(
    event for event in EVENTS if event not in {DeadLetterOpened, DeadLetterClosed}
)
"""The events that endpoints can receive: all but those between operators and the archive."""
TOPICS = tuple(event.topic for event in OFFERED)
TEST_TOPIC = "webhook.test.v1"
"""The type of what `test` sends; no event of ours."""
JITTER = 0.2
_LONGEST_RETRY_AFTER = timedelta(hours=10)
_DAY = timedelta(days=1)


class State(StrEnum):
    """Where a delivery is."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt at a delivery, and how it ended."""

    at: datetime
    duration_ms: int
    status: int | None = None
    """HTTP status; None if there was no answer."""
    error: str | None = None
    """Why there was no answer."""
    answer: bytes = b""
    """The beginning of the answer's body."""
    retry_after: str | None = None
    """The answer's header of that name."""

    @property
    def is_success(self) -> bool:
        """Whether the receiver has it: a redirection does not count, and is not followed."""
        return self.status is not None and 200 <= self.status < 300  # noqa: PLR2004  # HTTP's own classes

    @property
    def is_gone(self) -> bool:
        """Whether the receiver wants nothing more."""
        return self.status == HTTPStatus.GONE

    @property
    def outcome(self) -> str:
        """How it ended, in words."""
        return self.error or f"answered {self.status}"


def wants(event_types: Sequence[str], topic: str) -> bool:
    """Whether an endpoint with this filter receives events of a topic; an empty filter lets all through."""
    return not event_types or topic in event_types


def check_topics(event_types: Sequence[str]) -> None:
    """Require topics that are offered.

    Raises:
        ValueError: naming the first that is not, and all that are.
    """
    for topic in event_types:
        if topic not in TOPICS:
            raise ValueError(f"{topic!r} is no event type; there are {', '.join(TOPICS)}")


def delivery_id(endpoint_id: UUID, event_id: UUID) -> UUID:
    """The same for a repeat of the event, so that it is delivered to an endpoint once."""
    return uuid5(NAMESPACE, f"webhook-delivery/{endpoint_id}/{event_id}")


def body_of(event: Event) -> bytes:
    """What endpoints receive of an event, as Standard Webhooks has it."""
    return payload(event.topic, event.occurred_at, event.model_dump(mode="json"))


def payload(topic: str, at: datetime, content: Mapping[str, Any]) -> bytes:
    """The body of a delivery in UTF-8: type, time of the event, and its content."""
    timestamp = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    body = {"type": topic, "timestamp": timestamp, "data": content}
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def next_attempt_at(
    tries: int, delays_seconds: Sequence[float], attempt: Attempt, spread: float
) -> datetime | None:
    """When to try again after a failure; None once the schedule is at its end.

    Args:
        tries: attempts so far, this one included.
        delays_seconds: the schedule.
        attempt: the one that failed; its `Retry-After` can only put the next one off, by up to 10 hours.
        spread: a number between -1 and 1, at random, so that what failed together does not return together.
    """
    if tries > len(delays_seconds):
        return None
    due_at = attempt.at + timedelta(seconds=delays_seconds[tries - 1] * (1 + JITTER * spread))
    wanted = retry_after(attempt.retry_after, attempt.at)
    return max(due_at, min(wanted, attempt.at + _LONGEST_RETRY_AFTER)) if wanted else due_at


def longest_silence(delays_seconds: Sequence[float]) -> timedelta:
    """The most between two failures of one run: a day, or more if the schedule has such pauses."""
    return max(_DAY, 2 * timedelta(seconds=max(delays_seconds, default=0)))


def retry_after(header: str | None, now: datetime) -> datetime | None:
    """The time that a `Retry-After` names, in seconds or as an HTTP date; None if it names none."""
    if header is None:
        return None
    try:
        if header.strip().isdecimal():
            return now + timedelta(seconds=int(header))
        named = parsedate_to_datetime(header)
        return (named if named.tzinfo else named.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
