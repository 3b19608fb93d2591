"""Orders over HTTP: an order is on disk before it is accepted, and RabbitMQ may come back later."""

from datetime import timedelta
from hashlib import sha256
from typing import Annotated
from uuid import UUID, uuid4

from fastapi import APIRouter, BackgroundTasks, Depends, Header, Query, Request, Response

from apps.kit.access import Caller, Scope, may
from apps.kit.clock import utc_now
from apps.kit.paging import Cursor, Position
from apps.kit.problems import Problem, ProblemError, Responses, invalid
from apps.kit.publishing import PublishFailed
from apps.kit.settings import get_settings
from apps.orders.application import AcceptedOrder, OrderFilter
from apps.orders.backlog import stuck_after
from apps.orders.document import Order
from apps.orders.domain import Status
from apps.orders.mongo import MongoOrderBook
from apps.orders.relay import Relay
from apps.orders.views import (
    Accepted,
    Cancelled,
    NewCancellation,
    NewOrder,
    OrderPage,
    OrderView,
    Resent,
)
from contracts import Customer, OrderCancelled, OrderCreated

router = APIRouter()


async def order_book(request: Request) -> MongoOrderBook:
    book: MongoOrderBook = request.app.state.orders
    return book


async def order_relay(request: Request) -> Relay:
    relay: Relay = request.app.state.relay
    return relay


Reader = Annotated[Caller, Depends(may(Scope.ORDERS_READ))]
Writer = Annotated[Caller, Depends(may(Scope.ORDERS_WRITE))]
OrderBook = Annotated[MongoOrderBook, Depends(order_book)]
OrderRelay = Annotated[Relay, Depends(order_relay)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        description="Any text of the client's. The same key with the same body makes one order, however "
        "often it is sent; with another body it is refused.",
        examples=["checkout-7f3a"],
    ),
]

_NOT_FOUND: Responses = {404: {"model": Problem, "description": "No such order is known (yet)."}}


@router.post(
    "/v1/orders",
    status_code=202,
    tags=["orders"],
    summary="Place an order",
    responses={
        503: {
            "model": Problem,
            "description": "Whether the order is stored is not known; send it again with the same key.",
        },
    },
)
async def place_order(
    caller: Writer,
    new: NewOrder,
    orders: OrderBook,
    relay: OrderRelay,
    response: Response,
    background: BackgroundTasks,
    idempotency_key: IdempotencyKey = None,
) -> Accepted:
    """Store the order and announce it; what follows shows at `Location`."""
    now = utc_now()
    mine = AcceptedOrder(
        event=OrderCreated.of(new.completed(), order_id=uuid4(), placed_at=now),
        publish_at=now + timedelta(seconds=get_settings().relay_after_seconds),
        idempotency_key=idempotency_key and _of_client(caller, idempotency_key),
        fingerprint=sha256(new.model_dump_json().encode()).hexdigest(),
        client=caller.client,
    )
    first = await orders.accept(mine)
    if first.fingerprint != mine.fingerprint:
        raise invalid("Idempotency-Key", "was used for an order with another body")
    if first is mine:
        background.add_task(relay.announce, mine.event)
    response.headers["Location"] = f"/v1/orders/{first.event.order_id}"
    return Accepted(
        order_id=first.event.order_id,
        status=Status.RECEIVED,
        total=first.event.total,
        currency=first.event.currency,
    )


@router.get(
    "/v1/orders/{order_id}",
    tags=["orders"],
    summary="Where an order is",
    responses=_NOT_FOUND,
)
async def show_order(caller: Reader, order_id: UUID, orders: OrderBook) -> OrderView:
    """Status, lines and everything that happened, however the order came in."""
    return OrderView.of(await _known(order_id, orders, caller))


@router.post(
    "/v1/orders/{order_id}/cancel",
    status_code=202,
    tags=["orders"],
    summary="Cancel an order",
    responses={
        **_NOT_FOUND,
        409: {"model": Problem, "description": "It is rejected, or not known yet whose order it is."},
        503: {"model": Problem, "description": "Whether it is stored is not known; send it again."},
    },
)
async def cancel_order(
    caller: Writer,
    order_id: UUID,
    new: NewCancellation,
    orders: OrderBook,
    relay: OrderRelay,
    response: Response,
    background: BackgroundTasks,
) -> Cancelled:
    """Store that the order is not wanted and announce it: its stock is released, its invoice voided.

    The first reason counts: cancelling again changes nothing and gives the same answer.
    """
    order = await _known(order_id, orders, caller)
    event = order.cancelled
    if event is None:
        event = await _cancel(order, new.reason, orders)
        background.add_task(relay.announce, event)
    response.headers["Location"] = f"/v1/orders/{order_id}"
    return Cancelled(
        order_id=order_id, event_id=event.event_id, reason=event.reason, cancelled_at=event.cancelled_at
    )


@router.post(
    "/v1/orders/{order_id}/resend",
    status_code=202,
    tags=["orders"],
    summary="Publish an order again",
    responses={
        **_NOT_FOUND,
        409: {"model": Problem, "description": "Neither all of its content nor a cancellation is known."},
        503: {"model": Problem, "description": "RabbitMQ did not confirm it; try again."},
    },
)
async def resend_order(caller: Writer, order_id: UUID, orders: OrderBook, relay: OrderRelay) -> Resent:
    """Publish its OrderCreated again, and its OrderCancelled if it is cancelled, with the same event ids.

    Each app repeats what it has decided, so whoever missed something hears of it; no effect is doubled.
    """
    order = await _known(order_id, orders, caller)
    events = order.announcements
    if not events:
        raise ProblemError(
            409, f"order_id: neither all of the content of order {order_id} nor a cancellation is known"
        )
    try:
        for event in events:
            await relay.publish(event)
    except PublishFailed as error:
        raise ProblemError(503, f"RabbitMQ did not confirm the order: {error}; try again") from error
    return Resent(order_id=order_id, event_id=events[0].event_id)


@router.get("/v1/orders", tags=["orders"], summary="List orders")
async def list_orders(
    caller: Reader,
    orders: OrderBook,
    status: Annotated[Status | None, Query(description="Only orders that are there now.")] = None,
    customer_id: Annotated[str | None, Query(description="Only orders of this customer.")] = None,
    reference: Annotated[str | None, Query(description="Only orders with this number of the shop's.")] = None,
    *,
    stuck: Annotated[
        bool, Query(description="Only orders that await something, and were not heard of for long.")
    ] = False,
    limit: Annotated[int, Query(ge=1, le=200, description="Most orders on a page.")] = 50,
    cursor: Annotated[Cursor | None, Query(description="`next_cursor` of the page before.")] = None,
) -> OrderPage:
    """Newest first, or with `stuck` the longest unchanged first. Paging misses and repeats nothing."""
    after = Position.from_cursor(cursor) if cursor else None
    wanted = OrderFilter(status, customer_id, reference, caller.client)
    if stuck:
        found = await orders.list_stuck(stuck_after(), wanted, after, limit + 1)
    else:
        found = await orders.list(wanted, after, limit + 1)
    page = found[:limit]
    if len(found) == len(page):
        return OrderPage.of(page, None)
    last = page[-1]
    return OrderPage.of(page, Position(last.changed_at if stuck else last.recorded_at, last.id))


def _of_client(caller: Caller, idempotency_key: str) -> str:
    """The key as it is stored: clients do not know each other's, and no header holds a line break."""
    return idempotency_key if caller.client is None else f"{caller.client}\n{idempotency_key}"


async def _known(order_id: UUID, orders: MongoOrderBook, caller: Caller) -> Order:
    order = await orders.find(order_id)
    if order is None or caller.client not in (None, order.client):
        raise ProblemError(404, f"order_id: no order {order_id} is known")
    return order


async def _cancel(order: Order, reason: str, orders: MongoOrderBook) -> OrderCancelled:
    """Store that an order is cancelled; returns what is stored, which another request may have been."""
    customer = (order.content or {}).get("customer")
    if customer is None:
        raise ProblemError(409, f"order_id: it is not known yet whose order {order.id} is; try again later")
    now = utc_now()
    mine = OrderCancelled(
        order_id=order.id,
        reference=order.reference,
        customer=Customer.model_validate(customer),
        reason=reason,
        cancelled_at=now,
    )
    publish_at = now + timedelta(seconds=get_settings().relay_after_seconds)
    stored = await orders.cancel(mine, publish_at)
    if stored is None or stored.cancelled is None:
        raise ProblemError(409, f"order_id: order {order.id} is rejected, there is nothing to cancel")
    return stored.cancelled
