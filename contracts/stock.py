"""Stock: whether an order can be served, and what is on the shelf."""

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, Self
from uuid import UUID

from pydantic import ConfigDict, Field, model_validator

from contracts.amounts import Timestamp
from contracts.event import MOST_ITEMS, Bounded, Change, Contract, Event
from contracts.orders import (
    EXAMPLE_CONTENT,
    EXAMPLE_CUSTOMER,
    EXAMPLE_ORDER_ID,
    Customer,
    OrderContent,
    OrderId,
    Reference,
    Sku,
)


class OrderValidated(OrderContent, Event):
    """All lines of an order are reserved."""

    topic: ClassVar[str] = "order.validated.v1"
    version: ClassVar[int] = 1
    owner: ClassVar[str] = "stock"
    time_field: ClassVar[str] = "validated_at"
    history: ClassVar[tuple[Change, ...]] = (Change("0.1.0", "Introduced."),)
    example: ClassVar[dict[str, Any]] = {
        "order_id": EXAMPLE_ORDER_ID,
        **EXAMPLE_CONTENT,
        "placed_at": "2026-11-22T10:15:00Z",
        "validated_at": "2026-11-22T10:15:00.120Z",
    }
    model_config = ConfigDict(json_schema_extra={"examples": [example]})

    order_id: OrderId
    placed_at: Timestamp = Field(description="When the customer placed it, RFC 3339.")
    validated_at: Timestamp = Field(description="When all lines were reserved, RFC 3339.")


class RejectionCode(StrEnum):
    """Why an order, or one of its articles, was refused."""

    OUT_OF_STOCK = "out_of_stock"
    UNKNOWN_SKU = "unknown_sku"
    CANCELLED = "cancelled"


class RejectionReason(Contract):
    """One article that stood in the way, with what was wanted and what there was."""

    code: RejectionCode = Field(description="`out_of_stock`, `unknown_sku` or `cancelled`.")
    sku: Sku | None = Field(default=None, description="The article, null when the whole order was cancelled.")
    requested: int | None = Field(default=None, ge=0, description="Units wanted over all lines.")
    available: int | None = Field(default=None, ge=0, description="Units that were left.")


class OrderRejected(Event):
    """Nothing of an order was reserved, and why."""

    topic: ClassVar[str] = "order.rejected.v1"
    version: ClassVar[int] = 1
    owner: ClassVar[str] = "stock"
    time_field: ClassVar[str] = "rejected_at"
    history: ClassVar[tuple[Change, ...]] = (Change("0.1.0", "Introduced."),)
    example: ClassVar[dict[str, Any]] = {
        "order_id": EXAMPLE_ORDER_ID,
        "reference": "536365",
        "customer": EXAMPLE_CUSTOMER,
        "rejected_at": "2026-11-22T10:15:00.120Z",
        "reasons": [{"code": "out_of_stock", "sku": "71053", "requested": 6, "available": 2}],
    }
    model_config = ConfigDict(json_schema_extra={"examples": [example]})

    order_id: OrderId
    reference: Reference = None
    customer: Customer = Field(description="Who ordered.")
    rejected_at: Timestamp = Field(description="When it was refused, RFC 3339.")
    reasons: Annotated[tuple[RejectionReason, ...], Bounded] = Field(
        min_length=1, max_length=MOST_ITEMS, description="Every article that stood in the way."
    )


class StockAdjusted(Event):
    """A warehouse counted, received or wrote off units of one article.

    `set` states what is available now; `add` changes it by `quantity`, which may be negative.
    """

    topic: ClassVar[str] = "stock.adjusted.v1"
    version: ClassVar[int] = 1
    owner: ClassVar[str] = "warehouse"
    from_outside: ClassVar[bool] = True
    identity_field: ClassVar[str] = "adjustment_id"
    time_field: ClassVar[str] = "adjusted_at"
    history: ClassVar[tuple[Change, ...]] = (Change("0.1.0", "Introduced."),)
    example: ClassVar[dict[str, Any]] = {
        "adjustment_id": "0b7f2a0e-33a1-5f0c-9f2d-6f3a51f1c0de",
        "sku": "71053",
        "mode": "set",
        "quantity": 120,
        "adjusted_at": "2026-11-22T08:00:00Z",
    }
    model_config = ConfigDict(json_schema_extra={"examples": [example]})

    adjustment_id: UUID = Field(description="Identifies the adjustment; each is applied once.")
    sku: Sku
    mode: Literal["set", "add"] = Field(
        description="`set` replaces what is available, `add` changes it by `quantity`."
    )
    quantity: int | None = Field(
        default=None,
        strict=True,
        ge=-1_000_000_000,
        le=1_000_000_000,
        description="Units; null when `unlimited`.",
        examples=[120],
    )
    unlimited: bool = Field(default=False, description="True for what is not a good, such as postage.")
    adjusted_at: Timestamp = Field(description="When it was counted or moved, RFC 3339.")

    @model_validator(mode="after")
    def _quantity_fits_mode(self) -> Self:
        if self.unlimited:
            if self.mode != "set" or self.quantity is not None:
                raise ValueError("unlimited: goes with mode set and without a quantity")
        elif self.quantity is None:
            raise ValueError("quantity: is required unless unlimited is true")
        elif self.mode == "set" and self.quantity < 0:
            raise ValueError("quantity: must be 0 or more with mode set")
        return self
