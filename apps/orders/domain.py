"""The order's life as a fold over events that may arrive late, twice and in any order."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from contracts import (
    DeadLetterClosed,
    DeadLetterOpened,
    Event,
    InvoiceIssued,
    NotificationSent,
    NotificationSkipped,
    OrderCreated,
    OrderLine,
    OrderRejected,
    OrderValidated,
)


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
    """What every order goes through; a refusal is stock's decision and leaves nothing to invoice."""

    ORDER = "order"
    STOCK = "stock"
    INVOICE = "invoice"
    NOTIFICATION = "notification"


@dataclass(frozen=True)
class Effect:
    """What one event tells of its order; effects commute and repeat."""

    facts: Mapping[str, Any]
    """Values by path; events that tell the same fact of an order tell the same value."""
    status: Status | None = None
    """The status that the order has at least; None says nothing of it."""
    steps: frozenset[Step] = frozenset()
    """What the order need not wait for any more."""


def effect_of(event: Event) -> Effect:
    """The effect of any event that the read model receives.

    Raises:
        TypeError: the event says nothing of an order.
    """
    match event:
        case OrderCreated():
            return Effect(_order_facts(event), Status.CREATED, frozenset({Step.ORDER}))
        case OrderValidated():
            return Effect(_order_facts(event), Status.VALIDATED, frozenset({Step.STOCK}))
        case OrderRejected():
            reasons = [reason.model_dump(mode="json") for reason in event.reasons]
            return Effect(
                {**_customer_facts(event), "reasons": reasons},
                Status.REJECTED,
                frozenset({Step.STOCK, Step.INVOICE}),
            )
        case InvoiceIssued():
            return Effect(
                {**_invoiced_order_facts(event), "invoice_number": event.number},
                Status.INVOICED,
                frozenset({Step.INVOICE}),
            )
        case NotificationSent() | NotificationSkipped():
            told = isinstance(event, NotificationSent)
            return Effect({}, Status.NOTIFIED if told else Status.UNREACHABLE, frozenset({Step.NOTIFICATION}))
        case DeadLetterOpened() | DeadLetterClosed():
            half = "opened" if isinstance(event, DeadLetterOpened) else "closed"
            told_of_it = event.model_dump(mode="json", exclude={"order_id", "occurrence_id"})
            return Effect({f"dead_letters.{event.occurrence_id}.{half}": told_of_it})
        case _:
            raise TypeError(f"{type(event).__name__} says nothing of an order")


def _order_facts(event: OrderCreated | OrderValidated) -> dict[str, Any]:
    content = event.model_dump(mode="json", include={"currency", "lines", "total", "placed_at"})
    return {**_customer_facts(event), **{f"content.{name}": value for name, value in content.items()}}


def _invoiced_order_facts(event: InvoiceIssued) -> dict[str, Any]:
    """What was ordered, as far as an invoice knows: not when."""
    return {
        **_customer_facts(event),
        "content.currency": event.currency,
        "content.lines": [
            line.model_dump(mode="json", include=set(OrderLine.model_fields)) for line in event.lines
        ],
        "content.total": event.model_dump(mode="json", include={"subtotal"})["subtotal"],
    }


def _customer_facts(event: OrderCreated | OrderValidated | OrderRejected | InvoiceIssued) -> dict[str, Any]:
    return {
        "reference": event.reference,
        "customer_id": event.customer.id,
        "content.customer": event.customer.model_dump(mode="json"),
    }
