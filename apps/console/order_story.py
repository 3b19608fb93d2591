"""All that is known of one order, from the stores of every app that had to do with it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from starlette.datastructures import State

from apps.billing.statements import MongoStatements, Statements
from apps.console.payloads import payloads_of
from apps.console.timeline import Moment, moments_of
from apps.kit.settings import get_settings
from apps.notifications.application import Outcome
from apps.notifications.mongo import MongoNotices
from apps.orders.document import Order
from apps.orders.domain import Status
from apps.orders.views import OrderView
from apps.recovery.domain import trace_of
from apps.stock.decisions import MongoDecisions
from apps.stock.document import Reservation
from apps.webhooks.endpoints import MongoEndpoints
from apps.webhooks.views import DeliveryView


@dataclass(frozen=True)
class Posted:
    """An event on its way to one endpoint."""

    url: str
    delivery: DeliveryView


@dataclass(frozen=True, kw_only=True)
class Story:
    """One order, and what each app knows of it."""

    order: OrderView
    moments: Sequence[Moment]
    reservation: Reservation | None
    statements: Statements
    told: Sequence[Outcome]
    posted: Sequence[Posted] | None
    """None if whoever looks may not see webhooks."""
    can_cancel: bool
    can_resend: bool
    trace_id: str | None
    trace_link: str | None
    """Where the trace is shown, if that is known."""


async def story_of(order: Order, state: State, *, with_webhooks: bool) -> Story:
    """Read what there is, all at once."""
    reservation, statements, told, posted = await asyncio.gather(
        MongoDecisions(state.stock).find(order.id),
        MongoStatements(state.billing).find(order.id),
        MongoNotices(state.notifications).of_order(order.id),
        _posted(order, state.webhook_endpoints) if with_webhooks else _nothing(),
    )
    view = OrderView.of(order)
    trace_id = trace_of((order.trace or {}).get("traceparent"))
    return Story(
        order=view,
        moments=moments_of(view, payloads_of(order, reservation, statements, told)),
        reservation=reservation,
        statements=statements,
        told=told,
        posted=posted,
        can_cancel=can_cancel(order),
        can_resend=bool(order.announcements),
        trace_id=trace_id,
        trace_link=trace_link(trace_id),
    )


def can_cancel(order: Order) -> bool:
    """Whether there is anything to cancel, and anybody to tell of it."""
    is_over = order.cancellation is not None or order.rank == Status.REJECTED.rank
    return not is_over and (order.content or {}).get("customer") is not None


async def _posted(order: Order, endpoints: MongoEndpoints) -> Sequence[Posted] | None:
    registered = await endpoints.list()
    found = await endpoints.deliveries_of([UUID(event_id) for event_id in order.events], registered)
    urls = {endpoint.id: endpoint.url for endpoint in registered}
    return [Posted(urls[one.endpoint_id], DeliveryView.of(one)) for one in found]


async def _nothing() -> None:
    return None


def trace_link(trace_id: str | None) -> str | None:
    address = get_settings().trace_url
    return address.replace("{trace_id}", trace_id) if address and trace_id else None
