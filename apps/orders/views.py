"""What the ingress takes and shows, in JSON."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from apps.kit.paging import Position
from apps.orders.document import Order
from apps.orders.domain import Status, Step
from contracts import OrderContent, OrderCreated, OrderLine, RejectionReason
from contracts.amounts import Money
from contracts.orders import EXAMPLE_CONTENT, EXAMPLE_ORDER_ID, CancellationReason


class NewOrder(OrderContent):
    """An order as a client places it; amounts are strings with exactly the currency's decimals."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_CONTENT]})

    total: Money | None = Field(  # type: ignore[assignment]  # the only field that a client may leave to us
        default=None,
        validate_default=True,
        description="Must equal the sum of the lines; computed if left out.",
        examples=["35.64"],
    )

    @field_validator("total", mode="before")
    @classmethod
    def _computed_if_left_out(cls, total: Any, info: ValidationInfo) -> Any:
        """Before the field's own rules, so that a computed sum has to keep them too."""
        if total is None and "lines" in info.data:
            return sum((line.amount for line in info.data["lines"]), Decimal(0))
        return total

    def completed(self) -> OrderContent:
        """The order with its total."""
        return OrderContent.of(self)

    def placed(self, order_id: UUID, placed_at: datetime) -> OrderCreated:
        """The event that announces it; what is valid here is valid there, and not looked at again."""
        return OrderCreated.model_construct(
            **{name: getattr(self, name) for name in OrderContent.model_fields},
            order_id=order_id,
            placed_at=placed_at,
        )


class Accepted(BaseModel):
    """The order is on disk; follow it at `Location`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"order_id": EXAMPLE_ORDER_ID, "status": "received", "total": "35.64", "currency": "GBP"}
            ]
        }
    )

    order_id: UUID = Field(description="Identifies the order everywhere.")
    status: Status = Field(description="Always `received`.")
    total: Money = Field(description="Sum of the lines, before tax.")
    currency: str = Field(description="ISO 4217 code.")


class NewCancellation(BaseModel):
    """Why an order is not wanted any more."""

    model_config = ConfigDict(hide_input_in_errors=True)

    reason: CancellationReason


class Cancellation(BaseModel):
    """Why and when an order was cancelled."""

    reason: CancellationReason
    cancelled_at: datetime = Field(description="When it was cancelled, RFC 3339.")


class Cancelled(Cancellation):
    """The cancellation is on disk; follow it at `Location`."""

    order_id: UUID = Field(description="Identifies the order everywhere.")
    event_id: UUID = Field(description="Identifies the event; the same for every repeat.")


class TimelineEntry(BaseModel):
    """One event in the life of an order."""

    event: str = Field(description="Name of the event.", examples=["OrderValidated"])
    event_id: UUID = Field(description="Identifies the event; the same however often it is delivered.")
    at: datetime = Field(description="When it happened, RFC 3339.")
    detail: str | None = Field(
        default=None,
        description="What else there is to say, such as why a customer could not be told; null if nothing.",
    )


class OpenDeadLetter(BaseModel):
    """A message about an order that could not be handled and waits for an operator."""

    dead_letter_id: UUID = Field(description="Identifies it in the archive of dead letters.")
    queue: str | None = Field(
        description="Queue whose consumer gave it up; null if no queue wanted it.",
        examples=["billing.order-validated"],
    )
    event_type: str | None = Field(
        description="Its routing key, if that is known.", examples=["order.validated.v1"]
    )
    reason: str = Field(description="What was wrong.")
    opened_at: datetime = Field(description="When it was archived, RFC 3339.")


class Resent(BaseModel):
    """OrderCreated is published again, OrderCancelled too if it is cancelled, and RabbitMQ has both."""

    order_id: UUID = Field(description="Identifies the order everywhere.")
    event_id: UUID = Field(
        description="Identifies OrderCreated, or OrderCancelled if only that is known; as the first time."
    )


class OrderSummary(BaseModel):
    """Where an order is; what is not known yet is null."""

    order_id: UUID = Field(description="Identifies the order everywhere.")
    status: Status = Field(description="Where the order is.")
    reference: str | None = Field(description="The shop's own order number.")
    customer_id: str | None = Field(description="The shop's own customer number.")
    currency: str | None = Field(description="ISO 4217 code.")
    total: Money | None = Field(description="Sum of the lines, before tax.")
    invoice_number: str | None = Field(description="Number of the invoice, once issued.")
    credit_note_number: str | None = Field(
        description="Number of the credit note that voids the invoice, if the order was cancelled."
    )
    placed_at: datetime | None = Field(description="When the customer placed it.")
    recorded_at: datetime = Field(description="When Orderflow first knew of it; lists are ordered by it.")
    changed_at: datetime = Field(description="When Orderflow last heard of it; stuck ones are ordered by it.")
    awaits: list[Step] = Field(
        description="What was not heard of yet: `order` (OrderCreated), `stock` (OrderValidated or "
        "OrderRejected), `invoice`, `notification`; once it is cancelled, also `cancellation` "
        "(OrderCancelled) and, if there is an invoice, `credit_note`. Empty once the order is through."
    )
    open_dead_letters: int = Field(description="How many messages about it wait for an operator.")

    @classmethod
    def of(cls, order: Order) -> Self:
        return cls(**_shown(order))


class OrderView(OrderSummary):
    """An order with all that happened to it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "order_id": EXAMPLE_ORDER_ID,
                    "status": "invoiced",
                    "reference": "536365",
                    "customer_id": "17850",
                    "currency": "GBP",
                    "total": "35.64",
                    "invoice_number": "2026-000123",
                    "credit_note_number": None,
                    "placed_at": "2026-11-22T10:15:00Z",
                    "recorded_at": "2026-11-22T10:15:00Z",
                    "changed_at": "2026-11-22T10:15:01Z",
                    "awaits": ["notification"],
                    "open_dead_letters": 0,
                    "lines": EXAMPLE_CONTENT["lines"],
                    "reasons": [],
                    "cancellation": None,
                    "timeline": [
                        {
                            "event": "OrderCreated",
                            "event_id": "965fb694-c150-5b59-8126-9a2316fc20c3",
                            "at": "2026-11-22T10:15:00Z",
                            "detail": None,
                        }
                    ],
                    "dead_letters": [],
                }
            ]
        }
    )

    lines: list[OrderLine] = Field(description="What was ordered.")
    reasons: list[RejectionReason] = Field(description="Why it was rejected, if it was.")
    cancellation: Cancellation | None = Field(
        description="Why and when it was cancelled, if it was; shows before the status does."
    )
    timeline: list[TimelineEntry] = Field(description="Every event seen so far, oldest first.")
    dead_letters: list[OpenDeadLetter] = Field(
        description="Messages about it that wait for an operator, oldest first."
    )

    @classmethod
    def of(cls, order: Order) -> Self:
        timeline = [{"event_id": event_id, **seen} for event_id, seen in order.events.items()]
        return cls(
            **_shown(order),
            lines=(order.content or {}).get("lines", []),
            reasons=order.reasons,
            cancellation=order.cancellation,
            timeline=sorted(timeline, key=lambda entry: (entry["at"], entry["event"])),
            dead_letters=_open_dead_letters(order),
        )


class OrderPage(BaseModel):
    """One page of a list."""

    orders: list[OrderSummary] = Field(description="Orders of this page.")
    next_cursor: str | None = Field(
        description="Hand it back as `cursor` for the next page; null at the end."
    )

    @classmethod
    def of(cls, orders: Sequence[Order], end: Position | None) -> Self:
        """A page of orders that ends at a place in the list, or with the list."""
        return cls(orders=[OrderSummary.of(order) for order in orders], next_cursor=end and end.cursor())


def _shown(order: Order) -> dict[str, Any]:
    content = order.content or {}
    customer_id, reference = order.customer_and_reference
    return {
        "order_id": order.id,
        "status": Status.of_rank(order.rank),
        "reference": reference,
        "customer_id": customer_id,
        "currency": content.get("currency"),
        "total": content.get("total"),
        "invoice_number": order.invoice_number,
        "credit_note_number": order.credit_note_number,
        "placed_at": content.get("placed_at"),
        "recorded_at": order.recorded_at,
        "changed_at": order.changed_at,
        "awaits": order.awaited,
        "open_dead_letters": len(_open_dead_letters(order)),
    }


def _open_dead_letters(order: Order) -> list[dict[str, Any]]:
    occurrences = order.dead_letters.values()
    still_open = [seen["opened"] for seen in occurrences if "opened" in seen and "closed" not in seen]
    return sorted(still_open, key=lambda opened: str(opened["opened_at"]))
