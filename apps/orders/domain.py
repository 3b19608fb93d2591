"""The order's life as a fold over events that may arrive late, twice and in any order."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from contracts import (
    Event,
    InvoiceIssued,
    NotificationSent,
    NotificationSkipped,
    OrderCreated,
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


@dataclass(frozen=True)
class Effect:
    """What one event tells of its order. Each event sets fields of its own, so effects commute and repeat."""

    status: Status
    facts: Mapping[str, Any]


def effect_of(event: Event) -> Effect:
    """The effect of any event that the read model receives.

    Raises:
        TypeError: the event says nothing of an order.
    """
    match event:
        case OrderCreated():
            return Effect(
                Status.CREATED,
                {
                    "content": event.model_dump(mode="json", exclude={"order_id", "reference"}),
                    "reference": event.reference,
                    "customer_id": event.customer.id,
                },
            )
        case OrderValidated():
            return Effect(Status.VALIDATED, {})
        case OrderRejected():
            return Effect(
                Status.REJECTED, {"reasons": [reason.model_dump(mode="json") for reason in event.reasons]}
            )
        case InvoiceIssued():
            return Effect(Status.INVOICED, {"invoice_number": event.number})
        case NotificationSent():
            return Effect(Status.NOTIFIED, {})
        case NotificationSkipped():
            return Effect(Status.UNREACHABLE, {})
        case _:
            raise TypeError(f"{type(event).__name__} says nothing of an order")
