"""Orders over HTTP: an order is on disk before it is accepted, and RabbitMQ may come back later."""

from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from starlette.requests import ClientDisconnect

from apps.kit.access import Caller, Scope, may
from apps.kit.clock import utc_now
from apps.kit.metrics import ORDERS
from apps.kit.paging import Cursor, Position
from apps.kit.problems import Problem, ProblemError, Responses, invalid
from apps.kit.publishing import PublishFailed
from apps.kit.settings import get_settings
from apps.kit.tracing import carried
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
from contracts import Customer, OrderCancelled

router = APIRouter()
_RECEIVED = ORDERS.labels(Status.RECEIVED)


async def order_book(request: Request) -> MongoOrderBook:
    book: MongoOrderBook = request.app.state.orders
    return book


async def order_relay(request: Request) -> Relay:
    relay: Relay = request.app.state.relay
    return relay


_writer = may(Scope.ORDERS_WRITE)

Reader = Annotated[Caller, Depends(may(Scope.ORDERS_READ))]
Writer = Annotated[Caller, Depends(_writer)]
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
_IDEMPOTENCY_KEY = TypeAdapter[str | None](IdempotencyKey)
_JSON = frozenset({"application/json", "application/json; charset=utf-8"})


class _DirectRoute(APIRoute):
    """Takes an order that has nothing wrong straight from the body's bytes to `place_order`.

    FastAPI describes the operation, and gets every other request: it tells what is wrong, and in which words.
    Its way, argument by argument, took longer than all that happens to an order here. The dependencies of the
    whole API do not hold on the direct way: it has none that concerns an order.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        by_fastapi = super().get_route_handler()

        async def handle(request: Request) -> Response:
            if request.headers.get("Content-Type") not in _JSON:
                return await by_fastapi(request)
            try:
                key = _IDEMPOTENCY_KEY.validate_python(request.headers.get("Idempotency-Key"))
                new = NewOrder.model_validate_json(await request.body())
            except (ValidationError, ClientDisconnect):
                return await by_fastapi(request)
            caller = await _writer(request)
            return await place_order(caller, new, await order_book(request), await order_relay(request), key)

        return handle


placing = APIRouter(route_class=_DirectRoute)


@placing.post(
    "/v1/orders",
    response_model=Accepted,
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
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Store the order and announce it; what follows shows at `Location`."""
    now = utc_now()
    mine = AcceptedOrder(
        event=new.placed(uuid4(), now),
        publish_at=_publish_at(now),
        idempotency_key=idempotency_key and _of_client(caller, idempotency_key),
        fingerprint=sha256(new.model_dump_json().encode()).hexdigest(),
        client=caller.client,
        trace=carried() or None,
    )
    first = await orders.accept(mine)
    if first.fingerprint != mine.fingerprint:
        raise invalid("Idempotency-Key", "was used for an order with another body")
    if first is mine:
        _RECEIVED.inc()
        relay.announce(mine.event, mine.publish_at)
    accepted = Accepted(
        order_id=first.event.order_id,
        status=Status.RECEIVED,
        total=first.event.total,
        currency=first.event.currency,
    )
    headers = {"Location": f"/v1/orders/{first.event.order_id}"}
    return Response(accepted.model_dump_json(), 202, headers, "application/json")


@router.get(
    "/v1/orders/{order_id}",
    tags=["orders"],
    summary="Where an order is",
    responses=_NOT_FOUND,
)
async def show_order(caller: Reader, order_id: UUID, orders: OrderBook) -> OrderView:
    """Status, lines and everything that happened, however the order came in."""
    return OrderView.of(await known_order(order_id, orders, caller))


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
) -> Cancelled:
    """Store that the order is not wanted and announce it: its stock is released, its invoice voided.

    The first reason counts: cancelling again changes nothing and gives the same answer.
    """
    order = await known_order(order_id, orders, caller)
    event = order.cancelled
    if event is None:
        event = await _cancel(order, new.reason, orders)
        relay.announce(event, _publish_at(event.cancelled_at))
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
    order = await known_order(order_id, orders, caller)
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
    wanted = OrderFilter(status, customer_id, reference, caller.client)
    return await find_page(orders, wanted, limit, cursor, stuck=stuck)


async def find_page(
    orders: MongoOrderBook, wanted: OrderFilter, limit: int, cursor: Cursor | None, *, stuck: bool = False
) -> OrderPage:
    """One page of a list, as `list_orders` gives it."""
    after = Position.from_cursor(cursor) if cursor else None
    if stuck:
        found = await orders.list_stuck(stuck_after(), wanted, after, limit + 1)
    else:
        found = await orders.list(wanted, after, limit + 1)
    page = found[:limit]
    if len(found) == len(page):
        return OrderPage.of(page, None)
    last = page[-1]
    return OrderPage.of(page, Position(last.changed_at if stuck else last.recorded_at, last.id))


def _publish_at(accepted_at: datetime) -> datetime:
    """From when on the relay publishes it, should the first publish have failed."""
    return accepted_at + timedelta(seconds=get_settings().relay_after_seconds)


def _of_client(caller: Caller, idempotency_key: str) -> str:
    """The key as it is stored: clients do not know each other's, and no header holds a line break."""
    return idempotency_key if caller.client is None else f"{caller.client}\n{idempotency_key}"


async def known_order(order_id: UUID, orders: MongoOrderBook, caller: Caller) -> Order:
    """An order that the caller may see.

    Raises:
        ProblemError: 404, there is none.
    """
    order = await orders.find(order_id)
    if order is None or not caller.sees(order.client):
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
    stored = await orders.cancel(mine, _publish_at(now))
    if stored is None or stored.cancelled is None:
        raise ProblemError(409, f"order_id: order {order.id} is rejected, there is nothing to cancel")
    return stored.cancelled
