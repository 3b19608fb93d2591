"""Every event of an order as its app would publish it again, from what each of them keeps."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from apps.billing.statements import Statements
from apps.notifications.application import Outcome
from apps.orders.document import Order
from apps.stock.application import OrderContradictedError, outcome_of
from apps.stock.document import Reservation
from apps.stock.mongo import decision_about
from contracts import DeadLetterClosed, DeadLetterOpened, Event, OrderCreated


def payloads_of(
    order: Order, reservation: Reservation | None, statements: Statements, told: Sequence[Outcome]
) -> Mapping[UUID, dict[str, Any]]:
    """The bodies of its events by their ids; those are missing of which something is not kept any more."""
    return {
        event.event_id: event.model_dump(mode="json")
        for event in _events(order, reservation, statements, told)
    }


def _events(
    order: Order, reservation: Reservation | None, statements: Statements, told: Sequence[Outcome]
) -> Iterator[Event]:
    yield from order.announcements
    if reservation is not None and (created := order.created) is not None:
        yield from _decision(created, reservation)
    yield from (event for event in (statements.issued, statements.voided) if event is not None)
    yield from told
    for occurrence_id, seen in order.dead_letters.items():
        identity = {"order_id": order.id, "occurrence_id": occurrence_id}
        if "opened" in seen:
            yield DeadLetterOpened(**seen["opened"], **identity)
        if "closed" in seen:
            yield DeadLetterClosed(**seen["closed"], **identity)


def _decision(order: OrderCreated, reservation: Reservation) -> Iterator[Event]:
    try:
        yield outcome_of(order, decision_about(order, reservation))
    except OrderContradictedError:
        return  # whoever sent another order under the same id has overwritten what was decided on
