"""Who sent a request: whoever has a key that is stored, or a token of the trusted issuer; nobody else."""

import asyncio
import time
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from fastapi import Request
from pymongo.errors import PyMongoError
from structlog.stdlib import get_logger

from apps.access.domain import is_digest_of, prefix_of
from apps.access.mongo import ApiKey
from apps.access.rate_limit import Quota, RateLimit
from apps.kit.access import Caller
from apps.kit.clock import utc_now
from apps.kit.problems import ProblemError

REMEMBERED_SECONDS = 5.0
"""How long a key is believed without asking the store: from then on a revoked key is refused."""
FAILURES_PER_MINUTE = 60
"""Requests without a valid key that one address may send."""
GUESSES_AT_ONCE = 4
"""Look-ups in the store, at any one time, for all addresses past that limit together."""
_USE_NOTED_EVERY_SECONDS = 60.0

log = get_logger()


class Keys(Protocol):
    """Where keys are stored."""

    async def find(self, prefix: str) -> ApiKey | None: ...

    async def mark_used(self, prefix: str, at: datetime) -> None: ...


class Tokens(Protocol):
    """Who issues tokens."""

    async def caller(self, token: str) -> Caller | None:
        """Whom the token was issued to; None if it is not valid."""


class Authentication:
    """Finds the caller of a request, and holds it to its rate."""

    def __init__(
        self,
        keys: Keys,
        tokens: Tokens | None = None,
        *,
        requests_per_minute: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare for one process.

        Args:
            keys: the store of keys.
            tokens: the issuer of tokens; None if none is trusted.
            requests_per_minute: what each caller may send to this process; 0 for no limit.
            clock: monotonic, in seconds.
        """
        self._keys = keys
        self._tokens = tokens
        self._rate = RateLimit(requests_per_minute, clock) if requests_per_minute else None
        self._failures = RateLimit(FAILURES_PER_MINUTE, clock)
        self._guesses = asyncio.Semaphore(GUESSES_AT_ONCE)
        self._clock = clock
        self._known: dict[str, tuple[ApiKey, float]] = {}
        self._noted: dict[str, float] = {}
        self._notes: set[asyncio.Task[None]] = set()

    async def __call__(self, request: Request) -> Caller:
        """The caller.

        Raises:
            ProblemError: 401, the request carries no valid key or token; 429, there are too many requests.
            PyMongoError: a key is not known here, and the store is out of reach.
        """
        scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not credentials:
            detail = "Authorization: a key is needed, as in `Bearer of_…`"
            raise ProblemError(401, detail, headers={"WWW-Authenticate": "Bearer"})
        caller = await self.of_credentials(credentials.strip(), request, "Authorization")
        if self._rate is not None:
            quota = self._rate.take(caller.id)
            request.state.answer_headers = quota.headers
            if quota.retry_after_seconds:
                raise _too_many(quota, f"requests with this key; {quota.limit} a minute are allowed")
        return caller

    async def of_credentials(self, credentials: str, request: Request, field: str) -> Caller:
        """The caller that a key or a token belongs to.

        Args:
            credentials: the key or token.
            request: that it came with; one address may only guess so often.
            field: where it was in the request.

        Raises:
            ProblemError: 401, it is not valid; 429, too many of that address were not.
            PyMongoError: as above.
        """
        address = request.client.host if request.client else "unknown"
        caller = await self._caller(credentials, address)
        if caller is None:
            quota = self._failures.take(address)
            if quota.retry_after_seconds:
                raise _too_many(quota, "requests without a valid key")
            raise ProblemError(
                401,
                f"{field}: this key or token is not known, has expired or was revoked",
                headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
            )
        return caller

    async def key_of(self, prefix: str) -> ApiKey | None:
        """The valid key with a prefix that is known to be somebody's; None once it expired or was revoked.

        Raises:
            PyMongoError: as above.
        """
        known, until = self._known.get(prefix, (None, 0.0))
        key = known if known is not None and self._clock() < until else await self._look_up(prefix)
        return key if key is not None and _is_valid(key, utc_now()) else None

    async def _caller(self, credentials: str, address: str) -> Caller | None:
        prefix = prefix_of(credentials)
        if prefix is None:
            return await self._tokens.caller(credentials) if self._tokens is not None else None
        key = await self._find(prefix, address)
        now = utc_now()
        if key is None or not is_digest_of(key.digest, credentials) or not _is_valid(key, now):
            return None
        self._note_use(prefix, now)
        return caller_with(key)

    async def _find(self, prefix: str, address: str) -> ApiKey | None:
        known, until = self._known.get(prefix, (None, 0.0))
        if known is not None and self._clock() < until:
            return known
        if known is None and self._failures.is_spent(address):
            # Guessers must neither keep the store busy nor lock out a valid key behind the same address.
            async with self._guesses:
                return await self._look_up(prefix)
        return await self._look_up(prefix)

    async def _look_up(self, prefix: str) -> ApiKey | None:
        asked_at = self._clock()
        key = await self._keys.find(prefix)
        if key is None:
            self._known.pop(prefix, None)
        else:
            self._known[prefix] = (key, asked_at + REMEMBERED_SECONDS)
        return key

    def _note_use(self, prefix: str, now: datetime) -> None:
        """Write down that a key is in use, at most once a minute, and without keeping its request waiting."""
        if self._clock() - self._noted.get(prefix, -_USE_NOTED_EVERY_SECONDS) < _USE_NOTED_EVERY_SECONDS:
            return
        self._noted[prefix] = self._clock()
        note = asyncio.create_task(self._mark_used(prefix, now))
        self._notes.add(note)  # else it may be collected before it is done
        note.add_done_callback(self._notes.discard)

    async def _mark_used(self, prefix: str, now: datetime) -> None:
        try:
            await self._keys.mark_used(prefix, now)
        except PyMongoError as error:
            log.warning("the use of a key was not written down", key=prefix, error=type(error).__name__)


def caller_with(key: ApiKey) -> Caller:
    """Whoever has the key."""
    return Caller(key.id, frozenset(key.scopes), key.client)


def _is_valid(key: ApiKey, now: datetime) -> bool:
    return key.revoked_at is None and (key.expires_at is None or key.expires_at > now)


def _too_many(quota: Quota, what: str) -> ProblemError:
    return ProblemError(
        429,
        f"Too many {what}; try again in {quota.retry_after_seconds} s",
        headers={"Retry-After": str(quota.retry_after_seconds)},
    )
