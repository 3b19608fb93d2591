"""What a document is: one invoice and at most one credit note per order, each under its number."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias
from uuid import UUID

from contracts import InvoiceIssued, InvoiceVoided

Statement: TypeAlias = InvoiceIssued | InvoiceVoided
"""What a document states."""


class Kind(StrEnum):
    """The documents that an order may have."""

    INVOICE = "invoice"
    CREDIT_NOTE = "credit-note"


@dataclass(frozen=True, slots=True)
class Paper:
    """The identity of a document."""

    order_id: UUID
    kind: Kind
    number: str
    """Its own: a credit note's is not that of the invoice which it cancels."""
    issued_at: datetime
    """When it got its number; a PDF says that it was made then, whenever that really happens."""

    @property
    def path(self) -> str:
        """Where it lies in the store."""
        return f"invoices/{self.number}.pdf"


def paper_of(statement: Statement) -> Paper:
    """The document that states this."""
    if isinstance(statement, InvoiceVoided):
        return Paper(statement.order_id, Kind.CREDIT_NOTE, statement.credit_note_number, statement.voided_at)
    return Paper(statement.order_id, Kind.INVOICE, statement.number, statement.issued_at)
