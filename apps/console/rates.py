"""How many orders a second come in, reach each status and end: what this process saw while anybody looked."""

import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from apps.orders.domain import Status

BUCKET_SECONDS = 5
_BUCKETS = 15 * 60 // BUCKET_SECONDS
_RATE_SECONDS = 10.0
"""A rate is the mean of so long: each second alone would only flicker."""
_SHORTEST_SECONDS = 1.5


@dataclass(frozen=True)
class Course:
    """The last 15 minutes, in steps of `BUCKET_SECONDS`; None where nobody watched."""

    times: Sequence[int]
    """Beginnings of the steps, in seconds since 1970."""
    arrived: Sequence[int | None]
    ended: Sequence[int | None]


class Rates:
    """Told of each change of an order, and once a second that a second has passed."""

    def __init__(self) -> None:
        self._now: Counter[Status] = Counter()
        self._arrived_now = 0
        self._seconds: deque[tuple[float, Counter[Status]]] = deque()
        self._arrived: dict[int, int] = {}
        self._ended: dict[int, int] = {}
        self._known_from = _bucket(time.time()) + BUCKET_SECONDS
        """From which step on it is known how many orders came in."""

    def note(self, rank: int | None, *, is_new: bool) -> None:
        """An order is new, or has reached a rank, or neither."""
        self._arrived_now += is_new
        if rank is not None:
            self._now[Status.of_rank(rank)] += 1

    def pass_second(self) -> None:
        """What was noted since the last time belongs to the second that is over."""
        now = time.monotonic()
        bucket = _bucket(time.time())
        self._arrived[bucket] = self._arrived.get(bucket, 0) + self._arrived_now
        ended = sum(count for status, count in self._now.items() if status.is_final)
        self._ended[bucket] = self._ended.get(bucket, 0) + ended
        self._seconds.append((now, self._now))
        self._now, self._arrived_now = Counter(), 0
        while self._seconds and self._seconds[0][0] < now - _RATE_SECONDS:
            self._seconds.popleft()
        oldest = bucket - _BUCKETS * BUCKET_SECONDS
        for counts in (self._arrived, self._ended):
            for old in [step for step in counts if step < oldest]:
                del counts[old]

    def recall(self, arrived: Mapping[int, int], until: float) -> None:
        """Orders that came in before anybody watched, by the beginning of their step, until a moment."""
        self._known_from = _bucket(until) - _BUCKETS * BUCKET_SECONDS
        self._arrived |= arrived

    def per_second(self, status: Status) -> float | None:
        """How many orders a second reach a status; None while that was not watched for long enough."""
        if not self._seconds:
            return None
        # The first entry tells of the second before it.
        since = time.monotonic() - self._seconds[0][0]
        if not _SHORTEST_SECONDS <= since <= _RATE_SECONDS + _SHORTEST_SECONDS:
            return None
        seen = [counts[status] for _, counts in list(self._seconds)[1:]]
        return sum(seen) / (self._seconds[-1][0] - self._seconds[0][0]) if seen else None

    def course(self) -> Course:
        """All steps that are over."""
        end = _bucket(time.time())
        times = range(end - (_BUCKETS - 1) * BUCKET_SECONDS, end, BUCKET_SECONDS)
        return Course(
            list(times),
            [self._arrived.get(step, 0) if step >= self._known_from else None for step in times],
            [self._ended.get(step) for step in times],
        )


def begin_of_course() -> int:
    """When the first step begins that `course` tells of, in seconds since 1970."""
    return _bucket(time.time()) - _BUCKETS * BUCKET_SECONDS


def _bucket(moment: float) -> int:
    return int(moment) // BUCKET_SECONDS * BUCKET_SECONDS
