"""Sends one delivery over HTTP: no redirects, no proxies, no decompression, one deadline for all of it."""

import asyncio
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import httpcore

from apps.kit.clock import utc_now
from apps.kit.settings import get_settings
from apps.kit.tracing.http import answered, sent_request
from apps.webhooks.destinations import Destinations
from apps.webhooks.domain import Attempt
from apps.webhooks.network import ForbiddenDestinationError, GuardedNetwork, Resolve, Resolver

KEPT_ANSWER_BYTES = 1024
_LONGEST_ERROR = 300
_NO_ANSWER = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
    OSError,
)


class Sender:
    """Posts to endpoints, over connections that are closed after each delivery."""

    def __init__(self, destinations: Destinations, resolve: Resolve | None = None) -> None:
        settings = get_settings()
        self._destinations = destinations
        self._timeout_seconds = settings.webhook_timeout_seconds
        # A look-up that outlives its attempt keeps its thread, so there are more threads than attempts.
        resolve = resolve or Resolver(2 * settings.webhook_concurrency)
        self._pool = httpcore.AsyncConnectionPool(
            max_connections=settings.webhook_concurrency,
            max_keepalive_connections=0,
            network_backend=GuardedNetwork(destinations, resolve),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._pool.aclose()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Attempt:
        """Post once, and tell how it ended; whatever an endpoint does is an outcome, never an error."""
        at, began = utc_now(), time.monotonic()
        status: int | None = None
        error: str | None = None
        retry_after: str | None = None
        answer = b""
        try:
            self._destinations.check_url(url)  # the settings may have changed since it was registered
            # Without our trace: it is ours, and whether the receiver records one is not ours to say.
            with sent_request("POST", url) as request:
                async with (
                    asyncio.timeout(self._timeout_seconds),
                    self._pool.stream("POST", url, headers=list(headers.items()), content=body) as response,
                ):
                    status = response.status
                    answered(request, status)
                    retry_after = _header(response, b"retry-after")
                    async for chunk in response.aiter_stream():
                        answer += chunk
                        if len(answer) >= KEPT_ANSWER_BYTES:
                            break
        except TimeoutError:
            error = f"no answer within {self._timeout_seconds:g} s"
        except ForbiddenDestinationError as refused:
            error = str(refused)
        except ValueError as wrong:
            error = f"the URL {wrong}"
        except _NO_ANSWER as failed:
            error = f"{type(failed).__name__}: {failed}"[:_LONGEST_ERROR]
        return Attempt(
            at=at,
            duration_ms=round((time.monotonic() - began) * 1000),
            status=status,
            # Once there is a status, what becomes of the rest of the answer does not matter.
            error=error if status is None else None,
            answer=answer[:KEPT_ANSWER_BYTES],
            retry_after=retry_after,
        )


def _header(response: httpcore.Response, name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in response.headers if key.lower() == name), None)
