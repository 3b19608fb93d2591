"""The use case of billing: one invoice for every validated order."""

from typing import Protocol, runtime_checkable

from apps.billing.domain import Draft
from contracts import InvoiceIssued


@runtime_checkable
class InvoiceBook(Protocol):
    """Numbers and keeps invoices."""

    async def issue(self, draft: Draft) -> InvoiceIssued:
        """Give the draft the next number and store it; returns the stored invoice on a repeat."""
