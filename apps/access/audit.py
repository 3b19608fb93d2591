"""No management action without a trace: written down before it is taken, and its answer before it is sent."""

from collections.abc import Awaitable, Callable, Collection
from typing import Protocol
from uuid import uuid4

from fastapi import Request
from pymongo.errors import PyMongoError
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.stdlib import get_logger

from apps.access.mongo import AuditEntry
from apps.kit.access import Caller, caller_of
from apps.kit.clock import utc_now

_CHANGES_NOTHING = frozenset({"GET", "HEAD", "OPTIONS"})
_ACTION_CHARACTERS = 200
"""More than any path of ours has; a made-up one may have 64 KB."""

log = get_logger()


class AuditLog(Protocol):
    """Where actions are written down."""

    async def begin(self, entry: AuditEntry) -> None: ...

    async def end(self, entry: AuditEntry, status: int) -> None: ...


def audited(*, but_for: Collection[str]) -> Callable[[Request], Awaitable[None]]:
    """A dependency of all routes, that writes down who is about to change something.

    Args:
        but_for: paths of what is no management: it has a record of its own.
    """

    async def write_down(request: Request) -> None:
        if request.method in _CHANGES_NOTHING or request.url.path in but_for:
            return
        asked = f"?{request.url.query}" if request.url.query else ""
        await begin(request, await caller_of(request), f"{request.method} {request.url.path}{asked}")

    return write_down


async def begin(request: Request, caller: Caller, action: str) -> None:
    """Write down what a caller is about to do; how it is answered is added by `AuditAnswers`."""
    trail: AuditLog = request.app.state.audit
    entry = AuditEntry(
        id=uuid4(),
        at=utc_now(),
        caller=caller.id,
        action=action[:_ACTION_CHARACTERS],
        request_id=request.state.request_id,
    )
    await trail.begin(entry)
    request.state.audited = entry


class AuditAnswers:
    """Adds to what was written down how it was answered."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_answered = False

        async def written_down(message: Message) -> None:
            nonlocal is_answered
            if message["type"] == "http.response.start":
                is_answered = True
                await _write_down(scope, message["status"])
            await send(message)

        try:
            await self.app(scope, receive, written_down)
        except Exception:
            if not is_answered:  # Starlette will, beyond all middleware
                await _write_down(scope, 500)
            raise


async def _write_down(scope: Scope, status: int) -> None:
    entry = scope.get("state", {}).get("audited")
    if entry is None:
        return
    try:
        await scope["app"].state.audit.end(entry, status)
    except PyMongoError as error:
        # What was asked for is written down; only how it was answered is missing.
        log.warning("an answer was not written down", error=type(error).__name__)
