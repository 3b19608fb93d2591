"""Streams of what moves in the pages, for as many viewers as one process serves well."""

from functools import partial
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from pymongo.errors import PyMongoError
from starlette.exceptions import HTTPException

from apps.console.audience import ORDER, VIEWS, Audience
from apps.console.hub import Live
from apps.console.pages import language_of, root_of
from apps.console.streams import EventStream, Viewer
from apps.kit.access import Caller, Scope, caller_of, may
from apps.kit.problems import ProblemError

MOST_VIEWERS = 500
"""Of one process; the pages of all others ask by themselves."""
MOST_VIEWERS_OF_CLIENT = 50
"""No client's staff can keep the shop's own from looking."""
_RETRY_SECONDS = 60

router = APIRouter()
Reader = Annotated[Caller, Depends(may(Scope.ORDERS_READ))]


@router.get("/live/orders/{order_id}")
async def follow_order(request: Request, caller: Reader, order_id: UUID) -> Response:
    """What moves in the page of one order."""
    if not await request.app.state.may_see_order(caller, order_id):
        raise ProblemError(404, f"order_id: no order {order_id} is known")
    return _stream(request, caller, ORDER, order_id)


@router.get("/live/{name}")
async def follow(request: Request, caller: Annotated[Caller, Depends(caller_of)], name: str) -> Response:
    """What moves in the page of that name."""
    if name not in VIEWS or not VIEWS[name].is_page:
        raise ProblemError(404, f"live/{name}: nothing of that name moves")
    if VIEWS[name].scope not in caller.scopes:
        raise ProblemError(403, f"The caller lacks the scope {VIEWS[name].scope}")
    if VIEWS[name].for_whole_shop and caller.client is not None:
        raise ProblemError(403, "The caller sees the orders of one client only")
    return _stream(request, caller, name)


def _stream(request: Request, caller: Caller, name: str, order_id: UUID | None = None) -> Response:
    live: Live = request.app.state.live
    client = caller.client
    if live.viewers >= MOST_VIEWERS or (client and live.viewers_of(client) >= MOST_VIEWERS_OF_CLIENT):
        # To the page that is as if it were let go: it asks by itself, and tries again later.
        headers = {"Retry-After": str(_RETRY_SECONDS)}
        return Response("As many pages as can be are shown live already", 503, headers, "text/plain")
    audience = Audience(name, language_of(request), root_of(request), caller.scopes, client, order_id)
    viewer = Viewer(partial(_may_stay, request, caller))
    return EventStream(viewer, live.viewing(viewer, audience, request.app.state))


async def _may_stay(request: Request, caller: Caller) -> bool:
    """Whether the session still stands, with the rights that it had."""
    try:
        return bool(await request.app.state.authenticate(request) == caller)
    except HTTPException:
        return False
    except PyMongoError:
        return True  # nobody can tell now
