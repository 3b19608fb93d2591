"""Documents: every invoice and every credit note as PDF, rendered beside billing and never in its way."""

from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Annotated, Any

from faststream import Context
from faststream.rabbit import Channel

from apps.documents import application
from apps.documents.mongo import DOCUMENTS, MongoCatalogue
from apps.documents.store import DocumentStore
from apps.kit.broker import EventBroker
from apps.kit.mongo import open_database
from apps.kit.settings import get_settings
from apps.kit.topology import EVENTS, inbox
from apps.kit.worker import worker
from contracts import InvoiceIssued, InvoiceVoided

Press = Annotated[application.Press, Context("press")]


@asynccontextmanager
async def adapters() -> AsyncIterator[Mapping[str, Any]]:
    settings = get_settings()
    # One at a time: the largest document takes 600 MB while it is rendered. More speed is more processes.
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="render") as threads:
        async with open_database("documents", *DOCUMENTS) as database:
            store = DocumentStore(settings.documents_url)
            press = application.Press(MongoCatalogue(database), store, threads, settings)
            yield {"database": database, "press": press}


broker = EventBroker("documents")
app = worker(broker, "Renders invoices and credit notes as PDF and stores them.", adapters)
few = Channel(prefetch_count=4, on_return_raises=True)
"""Enough to store one document while the next is rendered; a crash redelivers few."""


@broker.subscriber(inbox("documents", InvoiceIssued), EVENTS, channel=few)
async def on_invoice_issued(invoice: InvoiceIssued, press: Press) -> None:
    """Render and store the invoice."""
    await press.make(invoice)


@broker.subscriber(inbox("documents", InvoiceVoided), EVENTS, channel=few)
async def on_invoice_voided(credit_note: InvoiceVoided, press: Press) -> None:
    """Render and store the credit note that cancels an invoice."""
    await press.make(credit_note)
