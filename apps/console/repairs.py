"""One dead letter is replayed or discarded in two steps: first what would happen, then what did."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Request, Response

from apps.console.pages import gettext, page, redirect
from apps.kit.problems import ProblemError
from apps.recovery import api
from apps.recovery.api import Archive, Manager, Repairs, manager
from apps.recovery.destinations import destination_of, origin_of
from apps.recovery.letters import MongoLetters
from apps.recovery.repair import Repair, why_closed
from apps.recovery.requests import Discard

_CONFLICT = 409

router = APIRouter(prefix="/dead-letters", dependencies=[Depends(manager)])


@router.get("/{dead_letter_id}/replay")
async def preview_replay(
    request: Request, dead_letter_id: UUID, archive: Archive, repairs: Repairs
) -> Response:
    """Say which queue the message would go to, and what is in the way."""
    return await _ask_replay(request, dead_letter_id, archive, repairs)


@router.post("/{dead_letter_id}/replay")
async def replay(
    request: Request,
    dead_letter_id: UUID,
    caller: Manager,
    archive: Archive,
    repairs: Repairs,
    *,
    force: Annotated[bool, Form()] = False,
) -> Response:
    """Send it, unless something has come in the way since."""
    try:
        letter = await api.replay_one(dead_letter_id, archive, repairs, caller.id, force=force)
    except ProblemError as error:
        if error.status_code != _CONFLICT:
            raise
        return await _ask_replay(request, dead_letter_id, archive, repairs, _CONFLICT, error.detail)
    sent = gettext(request)("Sent to %(queue)s. If it dies again, it comes back here.")
    notice = sent % {"queue": letter.queue or letter.event_type}
    return redirect(request, f"/dead-letters/{dead_letter_id}", notice)


@router.get("/{dead_letter_id}/discard")
async def preview_discard(request: Request, dead_letter_id: UUID, archive: Archive) -> Response:
    """Ask for the reason."""
    return await _ask_discard(request, dead_letter_id, archive)


@router.post("/{dead_letter_id}/discard")
async def discard(
    request: Request,
    dead_letter_id: UUID,
    caller: Manager,
    archive: Archive,
    repairs: Repairs,
    reason: Annotated[str, Form(max_length=500)] = "",
) -> Response:
    """Close it without sending it."""
    reason = reason.strip()
    if not reason:
        problem = gettext(request)("Say why: the reason is kept.")
        return await _ask_discard(request, dead_letter_id, archive, 422, problem)
    try:
        await api.discard_one(dead_letter_id, Discard(reason=reason), archive, repairs, caller.id)
    except ProblemError as error:
        if error.status_code != _CONFLICT:
            raise
        return await _ask_discard(request, dead_letter_id, archive, _CONFLICT, error.detail)
    return redirect(request, f"/dead-letters/{dead_letter_id}", gettext(request)("Discarded."))


async def _ask_replay(
    request: Request,
    letter_id: UUID,
    archive: MongoLetters,
    repairs: Repair,
    status: int = 200,
    problem: str | None = None,
) -> Response:
    letter = await api.find_letter(archive, letter_id)
    return page(
        request,
        "dead_letters/replay.html",
        status,
        letter=letter,
        closed=why_closed(letter),
        destination=await destination_of(origin_of(letter), repairs.consumers()),
        problem=problem,
    )


async def _ask_discard(
    request: Request, letter_id: UUID, archive: MongoLetters, status: int = 200, problem: str | None = None
) -> Response:
    letter = await api.find_letter(archive, letter_id)
    closed = why_closed(letter)
    return page(request, "dead_letters/discard.html", status, letter=letter, closed=closed, problem=problem)
