"""Orders, read model: every event leaves its mark on the order that it is about."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

from faststream import Context

from apps.kit.broker import EventBroker
from apps.kit.mongo import open_database
from apps.kit.topology import EVENTS, inbox
from apps.kit.worker import worker
from apps.orders import application
from apps.orders.mongo import DOCUMENTS, MongoOrderBook
from apps.orders.progress import begin_counting
from contracts import (
    DeadLetterClosed,
    DeadLetterOpened,
    InvoiceIssued,
    InvoiceVoided,
    NotificationFailed,
    NotificationSent,
    NotificationSkipped,
    OrderCancelled,
    OrderCreated,
    OrderRejected,
    OrderValidated,
)

ReadModel = Annotated[application.ReadModel, Context("read_model")]


@asynccontextmanager
async def adapters() -> AsyncIterator[Mapping[str, Any]]:
    begin_counting()
    async with open_database("orders", *DOCUMENTS) as database:
        yield {"database": database, "read_model": MongoOrderBook(database)}


broker = EventBroker("orders")
app = worker(broker, "Keeps the status and the timeline of every order.", adapters)


@broker.subscriber(inbox("orders", OrderCreated), EVENTS)
async def on_order_created(event: OrderCreated, read_model: ReadModel) -> None:
    """Show what was ordered; an order that the ingress accepted is now known to be published."""
    await read_model.record(event)


@broker.subscriber(inbox("orders", OrderCancelled), EVENTS)
async def on_order_cancelled(event: OrderCancelled, read_model: ReadModel) -> None:
    """Show that the order was cancelled, and why."""
    await read_model.record(event)


@broker.subscriber(inbox("orders", OrderValidated), EVENTS)
async def on_order_validated(event: OrderValidated, read_model: ReadModel) -> None:
    """Show that all lines are reserved."""
    await read_model.record(event)


@broker.subscriber(inbox("orders", OrderRejected), EVENTS)
async def on_order_rejected(event: OrderRejected, read_model: ReadModel) -> None:
    """Show that the order was refused, and why."""
    await read_model.record(event)


@broker.subscriber(inbox("orders", InvoiceIssued), EVENTS)
async def on_invoice_issued(event: InvoiceIssued, read_model: ReadModel) -> None:
    """Show the invoice's number."""
    await read_model.record(event)


@broker.subscriber(inbox("orders", InvoiceVoided), EVENTS)
async def on_invoice_voided(event: InvoiceVoided, read_model: ReadModel) -> None:
    """Show the credit note's number."""
    await read_model.record(event)


@broker.subscriber(inbox("orders", NotificationSent), EVENTS)
async def on_notification_sent(event: NotificationSent, read_model: ReadModel) -> None:
    """Show that the customer was told."""
    await read_model.record(event)


@broker.subscriber(inbox("orders", NotificationSkipped), EVENTS)
async def on_notification_skipped(event: NotificationSkipped, read_model: ReadModel) -> None:
    """Show that there was no way to tell the customer."""
    await read_model.record(event)


@broker.subscriber(inbox("orders", NotificationFailed), EVENTS)
async def on_notification_failed(event: NotificationFailed, read_model: ReadModel) -> None:
    """Show that the customer could not be told, and why."""
    await read_model.record(event)


@broker.subscriber(inbox("orders", DeadLetterOpened), EVENTS)
async def on_dead_letter_opened(event: DeadLetterOpened, read_model: ReadModel) -> None:
    """Show that a message about the order waits for an operator."""
    await read_model.record(event)


@broker.subscriber(inbox("orders", DeadLetterClosed), EVENTS)
async def on_dead_letter_closed(event: DeadLetterClosed, read_model: ReadModel) -> None:
    """Show that an operator has dealt with it."""
    await read_model.record(event)
