"""Stock: how much of each article there is, who has it, and a count of it."""

from dataclasses import replace
from typing import Annotated
from urllib.parse import urlencode
from uuid import uuid4

from fastapi import APIRouter, Depends, Query, Request, Response

from apps.console.adjusting import KINDS, RefusedError, Wish
from apps.console.adjusting import adjust as announce
from apps.console.pages import gettext, page, redirect
from apps.kit.access import Caller, Scope, caller_of, may
from apps.kit.errors import DependencyUnavailable
from apps.kit.problems import ProblemError
from apps.stock.shelves import MongoShelves

_PER_PAGE = 100
_NEWEST = 20
_LONGEST_SKU = 64
_SEEING = frozenset({Scope.STOCK_WRITE, Scope.ORDERS_READ})

Sku = Annotated[str, Query(max_length=_LONGEST_SKU)]


async def onlooker(caller: Annotated[Caller, Depends(caller_of)]) -> Caller:
    """Stock is of all clients' orders, so who is bound to one sees none of it."""
    if caller.client is not None:
        raise ProblemError(403, "A caller that is bound to one client cannot see the stock")
    if not caller.scopes & _SEEING:
        raise ProblemError(403, f"The caller lacks the scope {' or '.join(sorted(_SEEING))}")
    return caller


async def counter(
    caller: Annotated[Caller, Depends(onlooker)], _may: Annotated[Caller, Depends(may(Scope.STOCK_WRITE))]
) -> Caller:
    """Who may say how much there is."""
    return caller


async def stock_shelves(request: Request) -> MongoShelves:
    return MongoShelves(request.app.state.stock)


router = APIRouter(prefix="/stock", dependencies=[Depends(onlooker)])

Onlooker = Annotated[Caller, Depends(onlooker)]
Counter = Annotated[Caller, Depends(counter)]
Shelves = Annotated[MongoShelves, Depends(stock_shelves)]


@router.get("")
async def show_levels(
    request: Request,
    shelves: Shelves,
    q: Annotated[str, Query(max_length=_LONGEST_SKU)] = "",
    after: Annotated[str | None, Query(max_length=_LONGEST_SKU)] = None,
) -> Response:
    """Every article, or those whose sku begins as asked, in the order of their skus."""
    beginning = q.strip()
    found = await shelves.levels(beginning, after, _PER_PAGE + 1)
    levels = found[:_PER_PAGE]
    return page(
        request,
        "stock/list.html",
        beginning=beginning,
        levels=levels,
        next_after=levels[-1].id if len(found) > _PER_PAGE else None,
        is_first=after is None,
    )


# The sku is no part of a path: it may be `..`, or have slashes.
@router.get("/article")
async def show_article(request: Request, caller: Onlooker, shelves: Shelves, sku: Sku = "") -> Response:
    """One article: its level, and what has changed it."""
    if not sku:
        return redirect(request, "/stock")
    return await _article(request, caller, sku, shelves, Wish(uuid4()))


@router.post("/article")
async def adjust(
    request: Request, caller: Counter, shelves: Shelves, sku: Annotated[Sku, Query(min_length=1)]
) -> Response:
    """Announce a count or a movement, and wait a moment until stock has applied it."""
    _ = gettext(request)
    wish = Wish.of(await request.form())
    try:
        is_applied = await announce(wish.adjustment(sku, _), request.app.state.broker, shelves, _)
    except RefusedError as error:
        anew = replace(wish, adjustment_id=uuid4())
        return await _article(request, caller, sku, shelves, anew, 422, str(error))
    except DependencyUnavailable:
        problem = _(
            "RabbitMQ did not confirm it, so it may have arrived or not. Send it again: it counts once."
        )
        return await _article(request, caller, sku, shelves, wish, 503, problem)
    notice = _("Applied.") if is_applied else _("Sent. Stock has not applied it yet; load the page again.")
    return redirect(request, f"/stock/article?{urlencode({'sku': sku})}", notice)


async def _article(
    request: Request,
    caller: Caller,
    sku: str,
    shelves: MongoShelves,
    wish: Wish,
    status: int = 200,
    problem: str | None = None,
) -> Response:
    level = await shelves.level(sku)
    if level is None and Scope.STOCK_WRITE not in caller.scopes:
        raise ProblemError(404, f"{sku}: this article was never counted")
    return page(
        request,
        "stock/article.html",
        status,
        sku=sku,
        level=level,
        reservations=await shelves.reservations(sku, _NEWEST),
        adjustments=await shelves.adjustments(sku, _NEWEST),
        kinds=KINDS,
        wish=wish,
        problem=problem,
    )
