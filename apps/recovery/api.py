"""Dead letters over HTTP: look at them, send them again, give them up."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request, Response

from apps.kit.access import Caller, Scope, may
from apps.kit.errors import DependencyUnavailable
from apps.kit.paging import Cursor, Position
from apps.kit.problems import Problem, ProblemError, Responses
from apps.recovery.application import LetterFilter
from apps.recovery.domain import CLOSED_STATES, OPEN_STATES, Source
from apps.recovery.letters import MongoLetters
from apps.recovery.mongo import DeadLetter
from apps.recovery.repair import RefusedError, Repair, UnknownLetterError
from apps.recovery.requests import (
    Discard,
    Discarded,
    DiscardMany,
    Many,
    Replayed,
    ReplayMany,
    Skipped,
)
from apps.recovery.views import (
    DeadLetterGroup,
    DeadLetterGroups,
    DeadLetterPage,
    DeadLetterSummary,
    DeadLetterView,
)

MOST_GROUPS = 200


async def manager(caller: Annotated[Caller, Depends(may(Scope.DEAD_LETTERS_MANAGE))]) -> Caller:
    """Dead letters are about the orders of all clients, so nobody who is bound to one may see any."""
    if caller.client is not None:
        raise ProblemError(403, "A caller that is bound to one client cannot manage dead letters")
    return caller


router = APIRouter(prefix="/v1/dead-letters", tags=["dead letters"], dependencies=[Depends(manager)])

Manager = Annotated[Caller, Depends(manager)]


async def letter_archive(request: Request) -> MongoLetters:
    archive: MongoLetters = request.app.state.letters
    return archive


async def letter_repair(request: Request) -> Repair:
    repair: Repair = request.app.state.repair
    return repair


Archive = Annotated[MongoLetters, Depends(letter_archive)]
Repairs = Annotated[Repair, Depends(letter_repair)]
Actor = Annotated[
    str,
    Header(
        alias="Orderflow-Actor",
        min_length=1,
        max_length=200,
        description="Who does it; it is kept in the history.",
        examples=["ana@shop.example"],
    ),
]
Which = Literal["open", "closed", "all"]
STATES = {"open": OPEN_STATES, "closed": CLOSED_STATES, "all": None}


async def letter_filter(
    state: Annotated[Which, Query(description="`open` until replayed or discarded.")] = "open",
    source: Annotated[Source | None, Query(description="Only those found there.")] = None,
    queue: Annotated[str | None, Query(description="Only those from this queue.")] = None,
    event_type: Annotated[str | None, Query(description="Only those with this routing key.")] = None,
    error_type: Annotated[str | None, Query(description="Only those with this class of error.")] = None,
    fingerprint: Annotated[str | None, Query(description="Only those of this group.")] = None,
    order_id: Annotated[UUID | None, Query(description="Only those about this order.")] = None,
) -> LetterFilter:
    return LetterFilter(STATES[state], source, queue, event_type, error_type, fingerprint, order_id)


Filter = Annotated[LetterFilter, Depends(letter_filter)]

_NOT_FOUND: Responses = {404: {"model": Problem, "description": "No such dead letter is archived."}}
_UNAVAILABLE: Responses = {
    503: {"model": Problem, "description": "RabbitMQ or MongoDB is out of reach; try again."}
}
_REFUSED: Responses = {409: {"model": Problem, "description": "It cannot be done now, and why."}}


@router.get("", summary="List dead letters")
async def list_dead_letters(
    archive: Archive,
    wanted: Filter,
    limit: Annotated[int, Query(ge=1, le=200, description="Most on a page.")] = 50,
    cursor: Annotated[Cursor | None, Query(description="`next_cursor` of the page before.")] = None,
) -> DeadLetterPage:
    """Newest first; one that dies again moves to the front."""
    letters, end = await _page(archive, wanted, cursor, limit)
    return DeadLetterPage.of(letters, end)


@router.get("/groups", summary="Dead letters that look alike, together")
async def list_groups(archive: Archive, wanted: Filter) -> DeadLetterGroups:
    """Grouped by fingerprint: class of the error, handler, and reason without its values."""
    groups = await archive.groups(wanted, MOST_GROUPS)
    return DeadLetterGroups(groups=[DeadLetterGroup.model_validate(group) for group in groups])


@router.get("/replay", include_in_schema=False)
@router.get("/discard", include_in_schema=False)
async def no_dead_letter() -> None:
    """Keeps what can only be posted to from being taken for the id of a dead letter."""
    raise ProblemError(405, "Only POST is possible here")


@router.get("/{dead_letter_id}", summary="One dead letter with its body", responses=_NOT_FOUND)
async def show_dead_letter(dead_letter_id: UUID, archive: Archive) -> DeadLetterView:
    """The message as it was sent, why it died, and what was done about it."""
    letter = await find_letter(archive, dead_letter_id)
    return DeadLetterView.of_body(letter, await archive.body_of(letter))


@router.get(
    "/{dead_letter_id}/body",
    summary="The body of a dead letter, exactly as it was sent",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}}, **_NOT_FOUND},
)
async def download_body(dead_letter_id: UUID, archive: Archive) -> Response:
    """Whatever it says that it is, it is handed out as plain bytes, so that no browser runs it."""
    body = await archive.body_of(await find_letter(archive, dead_letter_id))
    headers = {"Content-Disposition": "attachment", "X-Content-Type-Options": "nosniff"}
    return Response(body, media_type="application/octet-stream", headers=headers)


@router.post("/replay", summary="Replay many dead letters", responses=_UNAVAILABLE)
async def replay_many(
    wanted: ReplayMany, archive: Archive, repairs: Repairs, actor: Actor = "api"
) -> Replayed:
    """Replay one page of open letters; what dies again moves to the front, and no later page holds it."""
    consumers = repairs.consumers()

    async def replay(letter: DeadLetter) -> None:
        await repairs.replay(letter.id, actor, consumers, force=wanted.force)

    letters, end, skipped, remaining = await _each(archive, wanted, replay)
    return Replayed(
        replayed=len(letters) - len(skipped),
        skipped=skipped,
        remaining=remaining,
        next_cursor=end and end.cursor(),
    )


@router.post("/discard", summary="Discard many dead letters", responses=_UNAVAILABLE)
async def discard_many(
    wanted: DiscardMany, archive: Archive, repairs: Repairs, actor: Actor = "api"
) -> Discarded:
    """Discard one page of open letters."""

    async def discard(letter: DeadLetter) -> None:
        await repairs.discard(letter.id, actor, wanted.reason)

    letters, end, skipped, remaining = await _each(archive, wanted, discard)
    return Discarded(
        discarded=len(letters) - len(skipped),
        skipped=skipped,
        remaining=remaining,
        next_cursor=end and end.cursor(),
    )


@router.post(
    "/{dead_letter_id}/replay",
    summary="Replay a dead letter",
    responses={**_NOT_FOUND, **_REFUSED, **_UNAVAILABLE},
)
async def replay_one(
    dead_letter_id: UUID,
    archive: Archive,
    repairs: Repairs,
    actor: Actor = "api",
    *,
    force: Annotated[bool, Query(description="Also if it is closed, or nobody consumes its queue.")] = False,
) -> DeadLetterSummary:
    """Send the original to the queue it came from, its attempts counted anew, its ids and headers kept."""
    with _problems():
        await repairs.replay(dead_letter_id, actor, repairs.consumers(), force=force)
    return DeadLetterSummary.of(await find_letter(archive, dead_letter_id))


@router.post(
    "/{dead_letter_id}/discard",
    summary="Discard a dead letter",
    responses={**_NOT_FOUND, **_REFUSED, **_UNAVAILABLE},
)
async def discard_one(
    dead_letter_id: UUID, new: Discard, archive: Archive, repairs: Repairs, actor: Actor = "api"
) -> DeadLetterSummary:
    """Close it without sending it; it stays in the archive for a while."""
    with _problems():
        await repairs.discard(dead_letter_id, actor, new.reason)
    return DeadLetterSummary.of(await find_letter(archive, dead_letter_id))


async def find_letter(archive: MongoLetters, letter_id: UUID) -> DeadLetter:
    letter = await archive.find(letter_id)
    if letter is None:
        raise ProblemError(404, str(UnknownLetterError(letter_id)))
    return letter


async def _page(
    archive: MongoLetters, wanted: LetterFilter, cursor: Cursor | None, limit: int
) -> tuple[Sequence[DeadLetter], Position | None]:
    """The letters behind a cursor, and where the next page begins if there is one."""
    after = Position.from_cursor(cursor) if cursor else None
    found = await archive.list(wanted, after, limit + 1)
    page = found[:limit]
    return page, Position(page[-1].opened_at, page[-1].id) if len(found) > limit else None


async def _each(
    archive: MongoLetters, wanted: Many, repair: Callable[[DeadLetter], Awaitable[None]]
) -> tuple[Sequence[DeadLetter], Position | None, list[Skipped], int]:
    """Do one page of open letters; what is refused is left as it is."""
    chosen = LetterFilter(OPEN_STATES, fingerprint=wanted.fingerprint)
    letters, end = await _page(archive, chosen, wanted.cursor, wanted.limit)
    skipped = []
    for letter in letters:
        with _unavailable():
            try:
                await repair(letter)
            except (RefusedError, UnknownLetterError) as error:
                skipped.append(Skipped(dead_letter_id=letter.id, why=str(error)))
    remaining = await archive.count(chosen, end) if end else 0
    return letters, end, skipped, remaining


@contextmanager
def _problems() -> Iterator[None]:
    """Refusals as answers."""
    with _unavailable():
        try:
            yield
        except UnknownLetterError as error:
            raise ProblemError(404, str(error)) from error
        except RefusedError as error:
            raise ProblemError(409, str(error)) from error


@contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except DependencyUnavailable as error:
        raise ProblemError(503, f"{error}; try again: a repeat does no harm") from error
