"""Many dead letters are repaired page by page: as long as somebody watches, and never twice."""

from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Path, Request, Response
from pydantic import BaseModel, Field

from apps.console.pages import gettext, page
from apps.kit.paging import Cursor
from apps.recovery import api
from apps.recovery.api import Archive, Manager, Repairs, manager
from apps.recovery.application import LetterFilter
from apps.recovery.destinations import Destination, destination_of
from apps.recovery.domain import OPEN_STATES
from apps.recovery.letters import MongoLetters
from apps.recovery.requests import Discarded, DiscardMany, Replayed, ReplayMany

_AT_ONCE = 25
"""So few that the progress bar moves, and that closing the page stops it soon."""
_MOST_ORIGINS = 100
_MOST_REASONS = 20
_ALL = "all"

router = APIRouter(prefix="/dead-letters/groups/{group}", dependencies=[Depends(manager)])

Group = Annotated[str, Path(min_length=1, max_length=64, description="A fingerprint, or `all`.")]


@dataclass(frozen=True)
class Way:
    """So many letters, and where they would go."""

    count: int
    destination: Destination


class Step(BaseModel):
    """How far it has come; each step's form carries that to the next."""

    cursor: Cursor | None = None
    done: int = Field(default=0, ge=0)
    left: list[str] = Field(default=[], max_length=_MOST_REASONS)
    """Why letters were left as they are, each after how often: `3 nobody consumes it now`."""
    force: bool = False
    reason: str = Field(default="", max_length=500)

    def after(self, done: int, result: Replayed | Discarded) -> dict[str, Any]:
        """What the page shows after this step."""
        left = Counter[str]()
        for why in self.left:
            number, _, text = why.partition(" ")
            left[text] += int(number) if number.isdecimal() else 1
        left.update(skipped.why for skipped in result.skipped)
        so_far = self.done + done
        return {
            "done": so_far,
            "left": left.most_common(_MOST_REASONS),
            "total": so_far + left.total() + result.remaining,
            "next_cursor": result.next_cursor,
            "force": self.force,
            "reason": self.reason,
        }


@router.get("/replay")
async def preview_replays(request: Request, group: Group, archive: Archive, repairs: Repairs) -> Response:
    """Say which queues the open letters would go to, and which of them would be refused."""
    consumers = repairs.consumers()
    ways = [
        Way(count, await destination_of(origin, consumers))
        for origin, count in await archive.origins(_open(group), _MOST_ORIGINS)
    ]
    return await _ask(request, "dead_letters/replay_many.html", group, archive, ways=ways)


@router.post("/replay")
async def replay(
    request: Request,
    group: Group,
    caller: Manager,
    archive: Archive,
    repairs: Repairs,
    step: Annotated[Step, Form()],
) -> Response:
    """Replay the next few."""
    wanted = ReplayMany(**_which(group), limit=_AT_ONCE, cursor=step.cursor, force=step.force)
    result = await api.replay_many(wanted, archive, repairs, caller.id)
    return _progress(request, group, "replay", step.after(result.replayed, result))


@router.get("/discard")
async def preview_discards(request: Request, group: Group, archive: Archive) -> Response:
    """Ask for the reason."""
    return await _ask(request, "dead_letters/discard_many.html", group, archive, problem=None)


@router.post("/discard")
async def discard(
    request: Request,
    group: Group,
    caller: Manager,
    archive: Archive,
    repairs: Repairs,
    step: Annotated[Step, Form()],
) -> Response:
    """Discard the next few."""
    reason = step.reason.strip()
    if not reason:
        problem = gettext(request)("Say why: the reason is kept.")
        return await _ask(request, "dead_letters/discard_many.html", group, archive, 422, problem=problem)
    wanted = DiscardMany(**_which(group), limit=_AT_ONCE, cursor=step.cursor, reason=reason)
    result = await api.discard_many(wanted, archive, repairs, caller.id)
    return _progress(request, group, "discard", step.after(result.discarded, result))


async def _ask(
    request: Request, template: str, group: str, archive: MongoLetters, status: int = 200, **context: Any
) -> Response:
    """Show what is about to happen, and to how many."""
    total = await archive.count(_open(group), None)
    return page(request, template, status, group=group, is_all=group == _ALL, total=total, **context)


def _progress(request: Request, group: str, action: str, progress: dict[str, Any]) -> Response:
    """How far it is, with the form of the next step; a script sends that, or whoever looks at it."""
    is_part = "HX-Request" in request.headers
    template = "dead_letters/progress.html" if is_part else "dead_letters/work.html"
    return page(request, template, group=group, is_all=group == _ALL, action=action, **progress)


def _which(group: str) -> dict[str, Any]:
    return {"all": True} if group == _ALL else {"fingerprint": group}


def _open(group: str) -> LetterFilter:
    return LetterFilter(OPEN_STATES, fingerprint=None if group == _ALL else group)
