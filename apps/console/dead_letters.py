"""Dead letters: what died, alike failures together, and one message with all that is known of it."""

from base64 import b64decode
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.datastructures import State

from apps.access.mongo import MongoAuditLog
from apps.console.audience import Audience, Changes, view
from apps.console.bodies import hex_dump, indented
from apps.console.figures import Reading
from apps.console.order_story import trace_link
from apps.console.pages import page
from apps.kit.access import Scope
from apps.kit.clock import utc_now
from apps.kit.paging import Cursor
from apps.kit.problems import ProblemError
from apps.recovery import api
from apps.recovery.api import MOST_GROUPS, STATES, Archive, Which, manager
from apps.recovery.application import LetterFilter
from apps.recovery.domain import OPEN_STATES
from apps.recovery.letters import MongoLetters
from apps.recovery.views import DeadLetterView

_PER_PAGE = 50
_TREND_HOURS = 24
_KEPT_SECONDS = 2.0


router = APIRouter(prefix="/dead-letters", dependencies=[Depends(manager)])


async def audit_log(request: Request) -> MongoAuditLog:
    log: MongoAuditLog = request.app.state.audit
    return log


AuditLog = Annotated[MongoAuditLog, Depends(audit_log)]


@router.get("")
async def show_groups(request: Request, archive: Archive, state: Which = "open") -> Response:
    """Failures that look alike, the newest first, and whether they become more."""
    return page(request, "dead_letters/groups.html", **await _groups(archive, state))


@view("dead-letters", each_tick=True, scope=Scope.DEAD_LETTERS_MANAGE, for_whole_shop=True)
async def open_groups(audience: Audience, _changes: Changes, state: State) -> Sequence[str]:
    """What that page shows first, read once for all who look."""
    if not hasattr(state, "open_letter_groups"):
        state.open_letter_groups = Reading(partial(_groups, state.letters, "open"), _KEPT_SECONDS)
    found = await state.open_letter_groups.value()
    return [] if found is None else [audience.render("dead_letters/group_list.html", **found)]


@router.get("/groups/{fingerprint}")
async def show_group(
    request: Request,
    fingerprint: str,
    archive: Archive,
    state: Which = "open",
    cursor: Annotated[Cursor | None, Query()] = None,
) -> Response:
    """The messages of one group, the newest first."""
    every = LetterFilter(fingerprint=fingerprint)
    groups = await archive.groups(every, 1)
    if not groups:
        raise ProblemError(404, f"no dead letter of the group {fingerprint} is archived")
    wanted = LetterFilter(STATES[state], fingerprint=fingerprint)
    return page(
        request,
        "dead_letters/group.html",
        state=state,
        group=groups[0],
        trend=(await _trends(archive, every, [fingerprint]))[fingerprint],
        open_count=await archive.count(LetterFilter(OPEN_STATES, fingerprint=fingerprint), None),
        letters=await api.list_dead_letters(archive, wanted, _PER_PAGE, cursor),
        is_first=cursor is None,
    )


@router.get("/{dead_letter_id}")
async def show_letter(request: Request, dead_letter_id: UUID, archive: Archive, log: AuditLog) -> Response:
    """One message: why it died, what it holds, and what was done about it."""
    letter = await api.show_dead_letter(dead_letter_id, archive)
    return page(
        request,
        "dead_letters/letter.html",
        letter=letter,
        body=_readable(letter),
        trace_link=trace_link(letter.trace_id),
        names=await log.names(entry.actor for entry in letter.history),
    )


@router.get("/{dead_letter_id}/body")
async def download_body(dead_letter_id: UUID, archive: Archive) -> Response:
    answer = await api.download_body(dead_letter_id, archive)
    answer.headers["Cache-Control"] = "no-store"
    return answer


async def _groups(archive: MongoLetters, state: Which) -> Mapping[str, Any]:
    wanted = LetterFilter(STATES[state])
    groups = await archive.groups(wanted, MOST_GROUPS, first="newest")
    return {
        "state": state,
        "groups": groups,
        "total": sum(group.count for group in groups),
        "is_cut": len(groups) == MOST_GROUPS,
        "trends": await _trends(archive, wanted, [group.fingerprint for group in groups]),
    }


async def _trends(
    archive: MongoLetters, wanted: LetterFilter, fingerprints: Sequence[str]
) -> Mapping[str, Sequence[int]]:
    since = utc_now() - timedelta(hours=_TREND_HOURS)
    return await archive.trend(wanted, fingerprints, since, _TREND_HOURS)


def _readable(letter: DeadLetterView) -> str:
    if letter.body_encoding == "base64":
        return hex_dump(b64decode(letter.body))
    return indented(letter.body) or letter.body
