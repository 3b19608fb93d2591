"""Webhooks: every event goes to the endpoints that want it, signed, and again until they have it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

from faststream import Context

from apps.kit.broker import EventBroker
from apps.kit.mongo import open_database
from apps.kit.publishing import publish
from apps.kit.topology import EVENTS, inbox, outcome
from apps.kit.worker import worker
from apps.webhooks import application
from apps.webhooks.condition import MongoCondition
from apps.webhooks.delivery import Deliverer
from apps.webhooks.destinations import Destinations
from apps.webhooks.mongo import DOCUMENTS, MongoOutbox
from apps.webhooks.sender import Sender
from contracts import (
    Event,
    InvoiceIssued,
    InvoiceVoided,
    NotificationFailed,
    NotificationSent,
    NotificationSkipped,
    OrderCancelled,
    OrderCreated,
    OrderRejected,
    OrderValidated,
    StockAdjusted,
    WebhookEndpointDisabled,
)

Outbox = Annotated[application.Outbox, Context("outbox")]


@asynccontextmanager
async def adapters() -> AsyncIterator[Mapping[str, Any]]:
    async with (
        open_database("webhooks", *DOCUMENTS) as database,
        Sender(Destinations.of_settings()) as sender,
    ):
        outbox = MongoOutbox(database)

        async def announce(event: Event) -> None:
            await publish(broker, event)

        deliverer = Deliverer(outbox, MongoCondition(database), sender, announce)
        async with deliverer.running():
            yield {"database": database, "outbox": outbox, "deliverer": deliverer}


async def stop_claiming() -> None:
    """What is due waits for another process, while this one ends what it has begun."""
    deliverer: Deliverer = broker.context.get("deliverer")
    deliverer.stop_claiming()


broker = EventBroker("webhooks")
app = worker(
    broker,
    "Delivers events to customers' systems over HTTP, signed.",
    adapters,
    on_stop=[stop_claiming],
)
broker.publisher(**outcome(WebhookEndpointDisabled))


@broker.subscriber(inbox("webhooks", OrderCreated), EVENTS)
async def on_order_created(event: OrderCreated, outbox: Outbox) -> None:
    """Tell whoever wants it that an order is placed."""
    await outbox.add(event)


@broker.subscriber(inbox("webhooks", OrderCancelled), EVENTS)
async def on_order_cancelled(event: OrderCancelled, outbox: Outbox) -> None:
    """Tell whoever wants it that an order is cancelled."""
    await outbox.add(event)


@broker.subscriber(inbox("webhooks", OrderValidated), EVENTS)
async def on_order_validated(event: OrderValidated, outbox: Outbox) -> None:
    """Tell whoever wants it that its lines are reserved."""
    await outbox.add(event)


@broker.subscriber(inbox("webhooks", OrderRejected), EVENTS)
async def on_order_rejected(event: OrderRejected, outbox: Outbox) -> None:
    """Tell whoever wants it that it is refused, and why."""
    await outbox.add(event)


@broker.subscriber(inbox("webhooks", InvoiceIssued), EVENTS)
async def on_invoice_issued(event: InvoiceIssued, outbox: Outbox) -> None:
    """Tell whoever wants it that its invoice has a number."""
    await outbox.add(event)


@broker.subscriber(inbox("webhooks", InvoiceVoided), EVENTS)
async def on_invoice_voided(event: InvoiceVoided, outbox: Outbox) -> None:
    """Tell whoever wants it that its invoice is void."""
    await outbox.add(event)


@broker.subscriber(inbox("webhooks", NotificationSent), EVENTS)
async def on_notification_sent(event: NotificationSent, outbox: Outbox) -> None:
    """Tell whoever wants it that its customer was told."""
    await outbox.add(event)


@broker.subscriber(inbox("webhooks", NotificationSkipped), EVENTS)
async def on_notification_skipped(event: NotificationSkipped, outbox: Outbox) -> None:
    """Tell whoever wants it that there was no way to tell its customer."""
    await outbox.add(event)


@broker.subscriber(inbox("webhooks", NotificationFailed), EVENTS)
async def on_notification_failed(event: NotificationFailed, outbox: Outbox) -> None:
    """Tell whoever wants it that its customer could not be told."""
    await outbox.add(event)


@broker.subscriber(inbox("webhooks", StockAdjusted), EVENTS)
async def on_stock_adjusted(event: StockAdjusted, outbox: Outbox) -> None:
    """Tell whoever wants it that an article was counted, received or written off."""
    await outbox.add(event)


@broker.subscriber(inbox("webhooks", WebhookEndpointDisabled), EVENTS)
async def on_webhook_endpoint_disabled(event: WebhookEndpointDisabled, outbox: Outbox) -> None:
    """Tell whoever wants it that another endpoint is disabled."""
    await outbox.add(event)
