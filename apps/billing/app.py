"""Billing: one numbered invoice for every validated order, and a credit note once it is cancelled."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

from faststream import Context

from apps.billing import application
from apps.billing.document import DOCUMENTS
from apps.billing.domain import draft
from apps.billing.mongo import MongoInvoiceBook
from apps.kit.broker import EventBroker
from apps.kit.mongo import open_database
from apps.kit.settings import get_settings
from apps.kit.topology import EVENTS, inbox, outcome
from apps.kit.worker import worker
from contracts import InvoiceIssued, InvoiceVoided, OrderCancelled, OrderValidated

InvoiceBook = Annotated[application.InvoiceBook, Context("invoice_book")]


@asynccontextmanager
async def adapters() -> AsyncIterator[Mapping[str, Any]]:
    async with open_database("billing", *DOCUMENTS) as database:
        yield {"database": database, "invoice_book": MongoInvoiceBook(database)}


broker = EventBroker("billing")
app = worker(
    broker, "Numbers, stores and announces one invoice for every validated order; voids it.", adapters
)


@broker.publisher(**outcome(InvoiceIssued))
@broker.subscriber(inbox("billing", OrderValidated), EVENTS)
async def on_order_validated(order: OrderValidated, invoice_book: InvoiceBook) -> InvoiceIssued | None:
    """Give the order an invoice under the next number of its series, unless it is cancelled."""
    return await invoice_book.issue(draft(order, get_settings().tax_rates))


@broker.publisher(**outcome(InvoiceVoided))
@broker.subscriber(inbox("billing", OrderCancelled), EVENTS)
async def on_order_cancelled(cancellation: OrderCancelled, invoice_book: InvoiceBook) -> InvoiceVoided | None:
    """Void the order's invoice by a credit note; without one, see to it that none is issued."""
    return await invoice_book.void(cancellation)
