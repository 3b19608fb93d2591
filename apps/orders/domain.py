"""The order's life as a fold over events that may arrive late, twice and in any order."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import singledispatch
from typing import Any

from contracts import (
    DeadLetterClosed,
    DeadLetterOpened,
    Event,
    Invoice,
    InvoiceIssued,
    InvoiceVoided,
    NotificationFailed,
    NotificationSent,
    NotificationSkipped,
    OrderCancelled,
    OrderCreated,
    OrderLine,
    OrderRejected,
    OrderValidated,
)

_Told = NotificationSent | NotificationSkipped | NotificationFailed


class Status(StrEnum):
    """Where an order is; later members win over earlier ones, whichever event arrives first."""

    RECEIVED = "received"
    CREATED = "created"
    VALIDATED = "validated"
    INVOICED = "invoiced"
    UNREACHABLE = "unreachable"
    NOTIFIED = "notified"
    REJECTED = "rejected"
    CANCELLED = "cancelled"

    @property
    def rank(self) -> int:
        return _STATUSES.index(self)

    @property
    def is_final(self) -> bool:
        return self.rank >= Status.UNREACHABLE.rank

    @classmethod
    def of_rank(cls, rank: int) -> "Status":
        return _STATUSES[rank]


_STATUSES = tuple(Status)


class Step(StrEnum):
    """What an order goes through; a refusal leaves nothing to invoice, a cancellation has to be undone."""

    ORDER = "order"
    STOCK = "stock"
    INVOICE = "invoice"
    CANCELLATION = "cancellation"
    CREDIT_NOTE = "credit_note"
    NOTIFICATION = "notification"


FROM_THE_START = (Step.ORDER, Step.STOCK, Step.INVOICE, Step.NOTIFICATION)
"""What every order awaits until it is heard of."""


@dataclass(frozen=True)
class Consequence:
    """What an order awaits because of what is known of it, whichever became known first."""

    step: Step
    of: tuple[str, ...]
    """It is awaited once all these fields are known ..."""
    until: str
    """... for as long as this one is not."""


CONSEQUENCES = (
    Consequence(Step.CREDIT_NOTE, ("cancellation", "invoice_number"), "credit_note_number"),
    Consequence(Step.NOTIFICATION, ("cancellation",), "cancellation_told"),
    Consequence(Step.NOTIFICATION, ("credit_note_number",), "credit_note_told"),
)
"""Those of a cancellation: the customer may have been told of the invoice, and not yet that it is void."""
_TOLD = {"order-cancelled": "cancellation_told", "invoice-voided": "credit_note_told"}
"""What is known once a customer was told by the template of that name."""


@dataclass(frozen=True)
class Effect:
    """What one event tells of its order; effects commute and repeat."""

    facts: Mapping[str, Any]
    """Values by path; events that tell the same fact of an order tell the same value."""
    status: Status | None = None
    """The status that the order has at least; None says nothing of it."""
    steps: frozenset[Step] = frozenset()
    """What the order need not wait for any more."""
    cancellation: Mapping[str, Any] | None = None
    """Of several that were told of one order, the earliest counts."""
    detail: str | None = None
    """What the timeline tells of the event besides its name."""


_MILESTONES: Mapping[type[Event], Status] = {
    OrderCreated: Status.CREATED,
    OrderValidated: Status.VALIDATED,
    OrderRejected: Status.REJECTED,
    InvoiceIssued: Status.INVOICED,
    NotificationSent: Status.NOTIFIED,
    NotificationSkipped: Status.UNREACHABLE,
    NotificationFailed: Status.UNREACHABLE,
    OrderCancelled: Status.CANCELLED,
}


def milestone(event: Event) -> Status | None:
    """The status that an order reaches by this event and by no other; each order has at most one such event.

    Messages about a rejection or a cancellation lead to no status: whoever got one is told of that.
    """
    if isinstance(event, _Told) and event.template != "invoice-issued":
        return None
    return _MILESTONES.get(type(event))


@singledispatch
def effect_of(event: Event) -> Effect:
    """The effect of any event that the read model receives.

    Raises:
        TypeError: the event says nothing of an order.
    """
    raise TypeError(f"{type(event).__name__} says nothing of an order")


@effect_of.register
def _order_created(event: OrderCreated) -> Effect:
    return Effect(_order_facts(event), Status.CREATED, frozenset({Step.ORDER}))


@effect_of.register
def _order_cancelled(event: OrderCancelled) -> Effect:
    # Whose order it is stays in the cancellation: whoever cancels need not know that as the order does.
    return Effect(
        {},
        Status.CANCELLED,
        frozenset({Step.ORDER, Step.STOCK, Step.INVOICE, Step.CANCELLATION}),
        cancellation=cancellation_of(event),
    )


@effect_of.register
def _order_validated(event: OrderValidated) -> Effect:
    return Effect(_order_facts(event), Status.VALIDATED, frozenset({Step.STOCK}))


@effect_of.register
def _order_rejected(event: OrderRejected) -> Effect:
    reasons = [reason.model_dump(mode="json") for reason in event.reasons]
    facts = {**_customer_facts(event), "reasons": reasons}
    return Effect(facts, Status.REJECTED, frozenset({Step.STOCK, Step.INVOICE}))


@effect_of.register
def _invoice_issued(event: InvoiceIssued) -> Effect:
    facts = {**_invoiced_order_facts(event), "invoice_number": event.number}
    return Effect(facts, Status.INVOICED, frozenset({Step.INVOICE}))


@effect_of.register
def _invoice_voided(event: InvoiceVoided) -> Effect:
    numbers = {"invoice_number": event.number, "credit_note_number": event.credit_note_number}
    facts = {**_invoiced_order_facts(event), **numbers}
    return Effect(facts, Status.CANCELLED, frozenset({Step.INVOICE}))


@effect_of.register
def _notification_sent(event: NotificationSent) -> Effect:
    return Effect(_told_facts(event), Status.NOTIFIED, frozenset({Step.NOTIFICATION}))


@effect_of.register
def _notification_skipped(event: NotificationSkipped) -> Effect:
    return Effect(_told_facts(event), Status.UNREACHABLE, frozenset({Step.NOTIFICATION}))


@effect_of.register
def _notification_failed(event: NotificationFailed) -> Effect:
    return Effect(_told_facts(event), Status.UNREACHABLE, frozenset({Step.NOTIFICATION}), detail=event.reason)


@effect_of.register
def _dead_letter_opened(event: DeadLetterOpened) -> Effect:
    return Effect({f"dead_letters.{event.occurrence_id}.opened": _letter(event)})


@effect_of.register
def _dead_letter_closed(event: DeadLetterClosed) -> Effect:
    return Effect({f"dead_letters.{event.occurrence_id}.closed": _letter(event)})


def _letter(event: DeadLetterOpened | DeadLetterClosed) -> dict[str, Any]:
    return event.model_dump(mode="json", exclude={"order_id", "occurrence_id"})


def cancellation_of(event: OrderCancelled) -> dict[str, Any]:
    """What an order keeps of its cancellation, the time first, by which two of them compare."""
    told = event.model_dump(mode="json", include={"reason", "reference", "customer"})
    return {"cancelled_at": event.cancelled_at, **told}


def _order_facts(event: OrderCreated | OrderValidated) -> dict[str, Any]:
    content = event.model_dump(mode="json", include={"currency", "lines", "total", "placed_at"})
    return {**_customer_facts(event), **{f"content.{name}": value for name, value in content.items()}}


def _invoiced_order_facts(event: Invoice) -> dict[str, Any]:
    """What was ordered, as far as an invoice knows: not when."""
    return {
        **_customer_facts(event),
        "content.currency": event.currency,
        "content.lines": [
            line.model_dump(mode="json", include=set(OrderLine.model_fields)) for line in event.lines
        ],
        "content.total": event.model_dump(mode="json", include={"subtotal"})["subtotal"],
    }


def _told_facts(event: _Told) -> dict[str, Any]:
    """That all was done to tell the customer, also if it was in vain, or the shop does not want it."""
    return {_TOLD[event.template]: True} if event.template in _TOLD else {}


def _customer_facts(event: OrderCreated | OrderValidated | OrderRejected | Invoice) -> dict[str, Any]:
    return {
        "reference": event.reference,
        "customer_id": event.customer.id,
        "content.customer": event.customer.model_dump(mode="json"),
    }
