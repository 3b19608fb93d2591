"""Orders: search all of them, see what happened to one, and cancel it or publish it again."""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Request, Response
from starlette.datastructures import State

from apps.console.audience import ORDER, Audience, Changes, view
from apps.console.order_search import Search, hits_of
from apps.console.order_story import can_cancel, story_of
from apps.console.pages import gettext, language_of, may_see, page, redirect
from apps.console.samples import sample_order
from apps.console.soon import soon
from apps.documents import api as documents
from apps.kit.access import Caller, Scope
from apps.kit.problems import ProblemError
from apps.kit.settings import get_settings
from apps.orders import api
from apps.orders.api import OrderBook, OrderRelay, Reader, Writer
from apps.orders.backlog import stuck_after
from apps.orders.document import Order
from apps.orders.domain import Status
from apps.orders.views import NewCancellation, OrderPage, OrderSummary

_PER_PAGE = 50
_LONGEST_REASON = 500
PARTS = ("head", "timeline", "lines", "webhooks", "letters", "facts", "stock", "invoice", "messages")
"""Of one order's page; each is an element of its own, and comes again when it changes."""

router = APIRouter(prefix="/orders")


@router.get("")
async def show_orders(request: Request, caller: Reader, orders: OrderBook) -> Response:
    """All orders, or those that are looked for; where only one can be meant, that one."""
    search, hits = Search.of(request.query_params), None
    found = OrderPage(orders=[], next_cursor=None)
    if search.text is not None:
        hits = await hits_of(search.text, caller, request.app.state)
        if hits.only_order is not None:
            return redirect(request, f"/orders/{hits.only_order}")
        search = search.of_kind(hits.kinds)
    if hits is None or hits.kinds:
        wanted = search.filter(caller.client)
        found = await api.find_page(orders, wanted, _PER_PAGE, search.cursor, stuck=search.stuck)
    return page(
        request,
        "orders/list.html",
        search=search,
        hits=hits,
        found=found,
        statuses=list(Status),
        stuck_seconds=stuck_after().total_seconds(),
    )


@router.post("/sample")
async def place_sample(request: Request, caller: Writer, orders: OrderBook, relay: OrderRelay) -> Response:
    """Place an order to look at; in development only."""
    if get_settings().environment != "development":
        raise ProblemError(404, "sample orders are placed in development only")
    new = await sample_order(request.app.state.stock, language_of(request))
    if new is None:
        return page(request, "orders/no_stock.html", 409)
    answer = await api.place_order(caller, new, orders, relay)
    return redirect(request, f"/orders/{answer.headers['Location'].rpartition('/')[2]}")


@router.get("/{order_id}")
async def show_order(request: Request, caller: Reader, order_id: UUID, orders: OrderBook) -> Response:
    """One order, with all that any app knows of it."""
    order = await api.known_order(order_id, orders, caller)
    with_webhooks = may_see(caller, Scope.WEBHOOKS_MANAGE)
    story = await story_of(order, request.app.state, with_webhooks=with_webhooks)
    return page(request, "orders/order.html", story=story, order=story.order)


for document, show in (("invoice", documents.show_invoice), ("credit-note", documents.show_credit_note)):
    router.get(f"/{{order_id}}/{document}.pdf", dependencies=[Depends(documents.check_reader)])(show)


@router.get("/{order_id}/cancel")
async def ask_cancel(request: Request, caller: Writer, order_id: UUID, orders: OrderBook) -> Response:
    """Say what a cancellation does, and ask for its reason."""
    return await _ask_cancel(request, caller, order_id, orders)


@router.post("/{order_id}/cancel")
async def cancel(
    request: Request,
    caller: Writer,
    order_id: UUID,
    orders: OrderBook,
    relay: OrderRelay,
    reason: Annotated[str, Form(max_length=_LONGEST_REASON)] = "",
) -> Response:
    """Cancel it, for a reason that the customer may read."""
    reason = reason.strip()
    _ = gettext(request)
    if not reason:
        return await _ask_cancel(request, caller, order_id, orders, 422, _("Say why: the customer reads it."))
    await api.cancel_order(caller, order_id, NewCancellation(reason=reason), orders, relay, Response())

    async def shown() -> Order | None:
        order = await orders.find(order_id)
        return order if order is not None and order.rank == Status.CANCELLED.rank else None

    await soon(shown)
    return redirect(request, f"/orders/{order_id}", _("The order is cancelled; what was done is undone now."))


@router.get("/{order_id}/resend")
async def ask_resend(request: Request, caller: Writer, order_id: UUID, orders: OrderBook) -> Response:
    """Say what comes of publishing it again."""
    order = await api.known_order(order_id, orders, caller)
    return page(request, "orders/resend.html", order=OrderSummary.of(order), events=order.announcements)


@router.post("/{order_id}/resend")
async def resend(
    request: Request, caller: Writer, order_id: UUID, orders: OrderBook, relay: OrderRelay
) -> Response:
    """Publish it again, for whoever missed something."""
    await api.resend_order(caller, order_id, orders, relay)
    notice = gettext(request)("Published again; who has handled it before repeats its answer.")
    return redirect(request, f"/orders/{order_id}", notice)


async def _ask_cancel(
    request: Request,
    caller: Caller,
    order_id: UUID,
    orders: OrderBook,
    status: int = 200,
    problem: str | None = None,
) -> Response:
    order = await api.known_order(order_id, orders, caller)
    return page(
        request,
        "orders/cancel.html",
        status,
        order=OrderSummary.of(order),
        can_cancel=can_cancel(order),
        problem=problem,
    )


@view("orders")
async def draw_rows(audience: Audience, changes: Changes, _state: State) -> Sequence[str]:
    """The rows of orders that changed, and how many others did."""
    newest_first = sorted(changes.orders, key=lambda order: (order.recorded_at, order.id), reverse=True)
    rows = [
        audience.render("orders/row.html", order=OrderSummary.of(order), is_new=order.id in changes.new)
        for order in newest_first
    ]
    return [*rows, audience.render("orders/more.html", more=changes.more)]


@view(ORDER)
async def draw_order(audience: Audience, _changes: Changes, state: State) -> Sequence[str]:
    """Every part of one order's page."""
    order = await state.orders.find(audience.order_id)
    if order is None:
        return []
    with_webhooks = may_see(Caller("", audience.scopes, audience.client), Scope.WEBHOOKS_MANAGE)
    story = await story_of(order, state, with_webhooks=with_webhooks)
    return [audience.render(f"orders/{part}.html", story=story, order=story.order) for part in PARTS]
