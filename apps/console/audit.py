"""The audit log: who changed what, over the API and here."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from apps.console.dead_letters import AuditLog
from apps.console.pages import page
from apps.kit.access import Caller, Scope, caller_of
from apps.kit.paging import Cursor, Position
from apps.kit.problems import ProblemError

_PER_PAGE = 100
_MANAGING = frozenset({Scope.DEAD_LETTERS_MANAGE, Scope.WEBHOOKS_MANAGE})

router = APIRouter()


async def overseer(caller: Annotated[Caller, Depends(caller_of)]) -> Caller:
    """The log tells of all clients, so only who manages for all of them reads it."""
    if caller.client is not None or not caller.scopes & _MANAGING:
        raise ProblemError(403, f"The caller lacks the scope {' or '.join(sorted(_MANAGING))}")
    return caller


@router.get("/audit", dependencies=[Depends(overseer)])
async def show_audit_log(
    request: Request, log: AuditLog, cursor: Annotated[Cursor | None, Query()] = None
) -> Response:
    """Every management action, the newest first."""
    found = await log.newest(_PER_PAGE + 1, Position.from_cursor(cursor) if cursor else None)
    entries = found[:_PER_PAGE]
    return page(
        request,
        "dead_letters/audit.html",
        entries=entries,
        names=await log.names(entry.caller for entry in entries),
        next_cursor=Position(entries[-1].at, entries[-1].id).cursor() if len(found) > _PER_PAGE else None,
        is_first=cursor is None,
    )
