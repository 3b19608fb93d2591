"""So many requests a minute for each caller of a process, refilled evenly; a minute's may come at once."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

WINDOW_SECONDS = 60
_MOST_REMEMBERED = 10_000
_ROUNDING = 1e-6
"""Sums of intervals are off in a float's last digits, and would refuse the last request of a minute's."""


@dataclass(frozen=True)
class Quota:
    """What is left to a caller."""

    limit: int
    remaining: int
    full_in_seconds: int
    """When it has everything again."""
    retry_after_seconds: int = 0
    """When the next request will be let through; 0 if this one was."""

    @property
    def headers(self) -> dict[str, str]:
        """As in draft-ietf-httpapi-ratelimit-headers-10."""
        return {
            "RateLimit-Policy": f'"default";q={self.limit};w={WINDOW_SECONDS}',
            "RateLimit": f'"default";r={self.remaining};t={self.full_in_seconds}',
        }


class RateLimit:
    """A leaky bucket per caller, kept as the time when it will be empty (GCRA)."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = per_minute
        self._interval = WINDOW_SECONDS / per_minute
        self._clock = clock
        self._empty_at: dict[str, float] = {}

    def take(self, caller: str) -> Quota:
        """Count one request, unless there are too many."""
        now = self._clock()
        empty_at = max(self._empty_at.get(caller, now), now) + self._interval
        wait = empty_at - now - WINDOW_SECONDS
        # A refused request is not counted, or whoever keeps asking would never be let through again.
        if wait > _ROUNDING:
            return Quota(self._limit, 0, math.ceil(empty_at - self._interval - now), math.ceil(wait))
        if len(self._empty_at) >= _MOST_REMEMBERED and caller not in self._empty_at:
            self._empty_at = {one: at for one, at in self._empty_at.items() if at > now}
        self._empty_at[caller] = empty_at
        remaining = int((WINDOW_SECONDS - (empty_at - now)) / self._interval + _ROUNDING)
        return Quota(self._limit, remaining, math.ceil(empty_at - now))

    def is_spent(self, caller: str) -> bool:
        """Whether the next request would be one too many; counts none."""
        now = self._clock()
        return self._empty_at.get(caller, now) + self._interval - now - WINDOW_SECONDS > _ROUNDING
