"""The documents of billing: number series, and under each order's id its invoice or that there is none."""

from decimal import Decimal
from typing import Any
from uuid import UUID

from odmantic import Field, Model
from pydantic import AwareDatetime
from pymongo import ASCENDING, IndexModel

from contracts import InvoiceIssued, InvoiceVoided


class Series(Model):
    """The last number given out in one series; its id is the year, `CN-<year>` for credit notes."""

    model_config = {"collection": "series"}

    id: str = Field(primary_field=True)
    last_number: int


def _unique(field: str) -> IndexModel:
    # Partial, since not every document has a number of each kind.
    return IndexModel(
        [(field, ASCENDING)],
        name=f"unique_{field}",
        unique=True,
        partialFilterExpression={field: {"$type": "string"}},
    )


class Invoice(Model):
    """An invoice under its order's id: fields to look it up by, and events as they are published again."""

    model_config = {
        "collection": "invoices",
        "indexes": lambda: [_unique("number"), _unique("credit_note_number")],
    }

    id: UUID = Field(primary_field=True)
    number: str
    customer_id: str = Field(index=True)
    currency: str
    total: Decimal
    issued_at: AwareDatetime
    event: dict[str, Any]
    credit_note_number: str | None = None
    voided: dict[str, Any] | None = None
    """InvoiceVoided, once the order is cancelled."""


class NoInvoice(Model):
    """In the place of an invoice: the order was cancelled before it had one, and gets none."""

    model_config = {"collection": "invoices"}

    id: UUID = Field(primary_field=True)


DOCUMENTS = (Series, Invoice)


def document_of(invoice: InvoiceIssued) -> Invoice:
    """The document of a new invoice."""
    return Invoice(
        id=invoice.order_id,
        number=invoice.number,
        customer_id=invoice.customer.id,
        currency=invoice.currency,
        total=invoice.total,
        issued_at=invoice.issued_at,
        event=invoice.model_dump(mode="json"),
    )


def issued_in(document: dict[str, Any]) -> InvoiceIssued | None:
    """The invoice in a document, as it was published and will be again; None if there is none."""
    event = document.get("event")
    return event and InvoiceIssued.model_validate(event)


def voided_in(document: dict[str, Any]) -> InvoiceVoided | None:
    """Likewise, what voids it."""
    event = document.get("voided")
    return event and InvoiceVoided.model_validate(event)
