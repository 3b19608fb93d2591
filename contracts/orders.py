"""Orders: what a customer wants."""

from decimal import Decimal
from typing import Annotated, Any, ClassVar, Self
from uuid import UUID

from pydantic import ConfigDict, Field, field_validator

from contracts.amounts import Currency, Money, Timestamp, check_decimals
from contracts.event import MOST_ITEMS, Bounded, Change, Contract, Event

Sku = Annotated[
    str,
    Field(min_length=1, max_length=64, description="Stock-keeping unit.", examples=["85123A"]),
]
OrderId = Annotated[UUID, Field(description="Identifies the order everywhere.")]
Reference = Annotated[
    str | None,
    Field(
        min_length=1, max_length=128, description="The shop's own order number, if any.", examples=["536365"]
    ),
]
CancellationReason = Annotated[
    str,
    Field(
        min_length=1,
        max_length=500,
        description="Why the order was cancelled, as the customer may read it.",
        examples=["Ordered by mistake."],
    ),
]

EXAMPLE_CUSTOMER: dict[str, Any] = {
    "id": "17850",
    "name": "Ana Souza",
    "email": "ana.souza@example.com",
    "phone": "+5511987654321",
    "locale": "pt-BR",
    "country": "BR",
}
EXAMPLE_CONTENT: dict[str, Any] = {
    "reference": "536365",
    "customer": EXAMPLE_CUSTOMER,
    "currency": "GBP",
    "lines": [
        {
            "sku": "85123A",
            "description": "WHITE HANGING HEART T-LIGHT HOLDER",
            "quantity": 6,
            "unit_price": "2.55",
        },
        {"sku": "71053", "description": "WHITE METAL LANTERN", "quantity": 6, "unit_price": "3.39"},
    ],
    "total": "35.64",
}
EXAMPLE_ORDER_ID = "7d2c2f3e-6e0a-5c1b-9a43-0f6a2b6a1c55"


class Customer(Contract):
    """Who ordered, and how to reach them; only `id` is required."""

    id: str = Field(
        min_length=1, max_length=128, description="The shop's own customer number.", examples=["17850"]
    )
    name: str | None = Field(
        default=None, max_length=200, description="Full name, for greetings.", examples=["Ana Souza"]
    )
    email: str | None = Field(
        default=None,
        max_length=254,
        pattern=r"^[^@\s]+@[^@\s]+$",
        description="Where invoices and refusals are mailed.",
        examples=["ana.souza@example.com"],
    )
    phone: str | None = Field(
        default=None,
        pattern=r"^\+[1-9]\d{6,14}$",
        description="E.164 number; told by SMS when there is no e-mail address.",
        examples=["+5511987654321"],
    )
    locale: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*$",
        description="BCP 47 language of messages; English if absent or not translated.",
        examples=["pt-BR"],
    )
    country: str | None = Field(
        default=None,
        pattern=r"^[A-Z]{2}$",
        description="ISO 3166-1 alpha-2 code; decides the tax rate.",
        examples=["BR"],
    )


class OrderLine(Contract):
    """A quantity of one article at one price; the same sku may stand in several lines."""

    sku: Sku
    description: str = Field(
        default="",
        max_length=500,
        description="What the customer reads.",
        examples=["WHITE METAL LANTERN"],
    )
    quantity: int = Field(strict=True, ge=1, le=1_000_000, description="Units ordered.", examples=[6])
    unit_price: Money = Field(description="Price of one unit, before tax.", examples=["3.39"])

    @property
    def amount(self) -> Decimal:
        """Price of the whole line, before tax."""
        return self.unit_price * self.quantity


class OrderContent(Contract):
    """What an order says, whichever way it comes in; amounts have exactly the currency's decimals."""

    reference: Reference = None
    customer: Customer = Field(description="Who ordered.")
    currency: Currency
    lines: Annotated[tuple[OrderLine, ...], Bounded] = Field(
        min_length=1, max_length=MOST_ITEMS, description="What was ordered, 1 to 1,000 lines."
    )
    total: Money = Field(
        description="Sum of quantity times unit price over all lines, before tax.", examples=["35.64"]
    )

    @field_validator("lines")
    @classmethod
    def _prices_in_currency(cls, lines: tuple[OrderLine, ...], info: Any) -> tuple[OrderLine, ...]:
        if currency := info.data.get("currency"):
            for position, line in enumerate(lines):
                check_decimals(line.unit_price, currency, f"[{position}].unit_price")
        return lines

    @field_validator("total")
    @classmethod
    def _total_adds_up(cls, total: Decimal | None, info: Any) -> Decimal | None:
        if total is None or not {"currency", "lines"} <= info.data.keys():
            return total
        check_decimals(total, info.data["currency"], "total")
        expected = sum((line.amount for line in info.data["lines"]), Decimal(0))
        if total != expected:
            raise ValueError(f"total {total} differs from the sum of the lines, {expected}")
        return total

    @classmethod
    def of(cls, content: "OrderContent", **identity: Any) -> Self:
        """The same order as another kind of message, with what identifies that."""
        return cls(**{name: getattr(content, name) for name in OrderContent.model_fields}, **identity)

    def quantities(self) -> dict[str, int]:
        """Units wanted of each sku, over all lines."""
        wanted: dict[str, int] = {}
        for line in self.lines:
            wanted[line.sku] = wanted.get(line.sku, 0) + line.quantity
        return wanted


class OrderCreated(OrderContent, Event):
    """A customer placed an order."""

    topic: ClassVar[str] = "order.created.v1"
    version: ClassVar[int] = 1
    owner: ClassVar[str] = "orders"
    from_outside: ClassVar[bool] = True
    time_field: ClassVar[str] = "placed_at"
    history: ClassVar[tuple[Change, ...]] = (Change("0.1.0", "Introduced."),)
    example: ClassVar[dict[str, Any]] = {
        "order_id": EXAMPLE_ORDER_ID,
        **EXAMPLE_CONTENT,
        "placed_at": "2026-11-22T10:15:00Z",
    }
    model_config = ConfigDict(json_schema_extra={"examples": [example]})

    order_id: OrderId
    placed_at: Timestamp = Field(description="When the customer placed it, RFC 3339.")


class OrderCancelled(Event):
    """An order is not wanted any more: what was done for it is undone, what was not will not be done."""

    topic: ClassVar[str] = "order.cancelled.v1"
    version: ClassVar[int] = 1
    owner: ClassVar[str] = "orders"
    from_outside: ClassVar[bool] = True
    time_field: ClassVar[str] = "cancelled_at"
    history: ClassVar[tuple[Change, ...]] = (Change("0.1.0", "Introduced."),)
    example: ClassVar[dict[str, Any]] = {
        "order_id": EXAMPLE_ORDER_ID,
        "reference": "536365",
        "customer": EXAMPLE_CUSTOMER,
        "reason": "Ordered by mistake.",
        "cancelled_at": "2026-11-22T11:02:41Z",
    }
    model_config = ConfigDict(json_schema_extra={"examples": [example]})

    order_id: OrderId
    reference: Reference = None
    customer: Customer = Field(description="Who ordered, and is told of the cancellation.")
    reason: CancellationReason
    cancelled_at: Timestamp = Field(description="When it was cancelled, RFC 3339.")
