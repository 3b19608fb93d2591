"""Use cases of stock: decide about an order, give back what a cancelled one had, follow the warehouse."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable
from uuid import UUID

from apps.kit.errors import PermanentError
from contracts import (
    OrderCancelled,
    OrderCreated,
    OrderRejected,
    OrderValidated,
    RejectionReason,
    StockAdjusted,
)


class OrderContradictedError(PermanentError):
    """Two different orders claim the same id; the first one counts."""

    def __init__(self, order_id: UUID) -> None:
        self.order_id = order_id
        super().__init__(f"order_id: {order_id} was decided already with other lines")


@dataclass(frozen=True)
class Decision:
    """What was decided about an order, once and for ever."""

    reasons: tuple[RejectionReason, ...]
    """Why it was refused; empty if all its lines are reserved."""
    decided_at: datetime


@runtime_checkable
class Warehouse(Protocol):
    """Keeps levels and decisions."""

    async def reserve(self, order: OrderCreated) -> Decision:
        """Reserve all lines or none; returns the stored decision on a repeat.

        Raises:
            OrderContradictedError: the id was used for other lines.
        """

    async def release(self, cancellation: OrderCancelled) -> None:
        """Give back once what the order has reserved; if nothing is decided yet, refuse it from now on."""

    async def adjust(self, adjustment: StockAdjusted) -> None:
        """Apply an adjustment once.

        Raises:
            StockBelowZeroError: more is written off than there is.
        """


async def decide(order: OrderCreated, warehouse: Warehouse) -> OrderValidated | OrderRejected:
    """Reserve what the order wants and say what came of it; the same for every repeat."""
    return outcome_of(order, await warehouse.reserve(order))


def outcome_of(order: OrderCreated, decision: Decision) -> OrderValidated | OrderRejected:
    """What is announced of a decision about an order."""
    if decision.reasons:
        return OrderRejected(
            order_id=order.order_id,
            reference=order.reference,
            customer=order.customer,
            rejected_at=decision.decided_at,
            reasons=decision.reasons,
        )
    return OrderValidated.of(
        order, order_id=order.order_id, placed_at=order.placed_at, validated_at=decision.decided_at
    )
