"""Billing: what a customer owes."""

from decimal import Decimal
from typing import Annotated, Any, ClassVar, Self
from uuid import UUID

from pydantic import ConfigDict, Field, model_validator

from contracts.amounts import Currency, Money, Rate, Timestamp, check_decimals
from contracts.event import MOST_ITEMS, Bounded, Change, Contract, Event
from contracts.orders import (
    EXAMPLE_CONTENT,
    EXAMPLE_CUSTOMER,
    EXAMPLE_ORDER_ID,
    CancellationReason,
    Customer,
    OrderId,
    OrderLine,
    Reference,
)


class InvoiceLine(OrderLine):
    """An order line with its tax, rounded half up to the currency's decimals."""

    tax_rate: Rate = Field(description="Share of the line's amount, `0.20` for 20 %.", examples=["0.20"])
    tax: Money = Field(description="Tax of the line.", examples=["4.07"])


_EXAMPLE_INVOICE: dict[str, Any] = {
    "invoice_id": "c61f0d1c-8dd6-5b7e-a7ad-5d6c3a1f3a10",
    "number": "2026-000123",
    "order_id": EXAMPLE_ORDER_ID,
    "reference": "536365",
    "customer": EXAMPLE_CUSTOMER,
    "currency": "GBP",
    "lines": [
        {**EXAMPLE_CONTENT["lines"][0], "tax_rate": "0.20", "tax": "3.06"},
        {**EXAMPLE_CONTENT["lines"][1], "tax_rate": "0.20", "tax": "4.07"},
    ],
    "subtotal": "35.64",
    "tax": "7.13",
    "total": "42.77",
    "issued_at": "2026-11-22T10:15:00.180Z",
}


class Invoice(Contract):
    """What an invoice says; a credit note says it too, about the invoice that it cancels."""

    invoice_id: UUID = Field(description="Identifies the invoice.")
    number: str = Field(
        pattern=r"^\d{4}-\d{6,15}$",
        description="Year and number within it; unique, increasing, without gaps.",
        examples=["2026-000123"],
    )
    order_id: OrderId
    reference: Reference = None
    customer: Customer = Field(description="Who is billed.")
    currency: Currency
    lines: Annotated[tuple[InvoiceLine, ...], Bounded] = Field(
        min_length=1, max_length=MOST_ITEMS, description="What is billed, with the tax of each line."
    )
    subtotal: Money = Field(description="Sum of the lines before tax.", examples=["35.64"])
    tax: Money = Field(description="Sum of the lines' taxes.", examples=["7.13"])
    total: Money = Field(description="What is to be paid: subtotal and tax.", examples=["42.77"])
    issued_at: Timestamp = Field(description="When it got its number, RFC 3339.")

    @model_validator(mode="after")
    def _sums_add_up(self) -> Self:
        for name in ("subtotal", "tax", "total"):
            check_decimals(getattr(self, name), self.currency, name)
        subtotal = sum((line.amount for line in self.lines), Decimal(0))
        tax = sum((line.tax for line in self.lines), Decimal(0))
        if (self.subtotal, self.tax, self.total) != (subtotal, tax, subtotal + tax):
            raise ValueError(f"subtotal, tax, total: must be {subtotal}, {tax}, {subtotal + tax}")
        return self


class InvoiceIssued(Invoice, Event):
    """An invoice got its number and was stored."""

    topic: ClassVar[str] = "invoice.issued.v1"
    version: ClassVar[int] = 1
    owner: ClassVar[str] = "billing"
    time_field: ClassVar[str] = "issued_at"
    history: ClassVar[tuple[Change, ...]] = (Change("0.1.0", "Introduced."),)
    example: ClassVar[dict[str, Any]] = _EXAMPLE_INVOICE
    model_config = ConfigDict(json_schema_extra={"examples": [example]})


class InvoiceVoided(Invoice, Event):
    """An invoice is void, since its order was cancelled: its number stays taken, a credit note cancels it."""

    topic: ClassVar[str] = "invoice.voided.v1"
    version: ClassVar[int] = 1
    owner: ClassVar[str] = "billing"
    time_field: ClassVar[str] = "voided_at"
    history: ClassVar[tuple[Change, ...]] = (Change("0.1.0", "Introduced."),)
    example: ClassVar[dict[str, Any]] = {
        **_EXAMPLE_INVOICE,
        "credit_note_number": "CN-2026-000007",
        "reason": "Ordered by mistake.",
        "voided_at": "2026-11-22T11:02:41.030Z",
    }
    model_config = ConfigDict(json_schema_extra={"examples": [example]})

    credit_note_number: str = Field(
        pattern=r"^CN-\d{4}-\d{6,15}$",
        description="Number of the credit note, in a series of its own; unique, increasing, without gaps.",
        examples=["CN-2026-000007"],
    )
    reason: CancellationReason
    voided_at: Timestamp = Field(description="When the credit note got its number, RFC 3339.")
