"""Invoices and credit notes, for who only looks: by their order, or by their number."""

from dataclasses import dataclass
from uuid import UUID

from apps.billing.document import Invoice, issued_in, voided_in
from apps.kit.mongo import Database
from contracts import InvoiceIssued, InvoiceVoided

_NUMBERS = ("number", "credit_note_number")


@dataclass(frozen=True)
class Statements:
    """What was announced of an order's invoice, so far."""

    issued: InvoiceIssued | None = None
    voided: InvoiceVoided | None = None


class MongoStatements:
    """Invoices and credit notes over MongoDB."""

    def __init__(self, database: Database) -> None:
        self._invoices = database.collection(Invoice)

    async def find(self, order_id: UUID) -> Statements:
        """Those of an order."""
        document = await self._invoices.find_one({"_id": order_id})
        return Statements(issued_in(document), voided_in(document)) if document else Statements()

    async def order_of(self, number: str) -> UUID | None:
        """The order that has an invoice or a credit note of that number."""
        # The type too: the unique indexes hold only texts, and serve only who asks for such.
        exactly = {"$eq": number, "$type": "string"}
        query = {"$or": [{field: exactly} for field in _NUMBERS]}
        found = await self._invoices.find_one(query, {"_id": 1})
        return None if found is None else UUID(str(found["_id"]))
