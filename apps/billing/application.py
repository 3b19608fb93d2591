"""The use cases of billing: one invoice for every validated order, and a credit note if it is cancelled."""

from typing import Protocol, runtime_checkable

from apps.billing.domain import Draft
from contracts import InvoiceIssued, InvoiceVoided, OrderCancelled


@runtime_checkable
class InvoiceBook(Protocol):
    """Numbers and keeps invoices and credit notes."""

    async def issue(self, draft: Draft) -> InvoiceIssued | None:
        """Give the draft the next number and store it; returns the stored invoice on a repeat.

        None if the order was cancelled before it had an invoice: it gets none.
        """

    async def void(self, cancellation: OrderCancelled) -> InvoiceVoided | None:
        """Void the order's invoice by a credit note with the next number; the stored one on a repeat.

        None if there is no invoice: there will not be one.
        """
