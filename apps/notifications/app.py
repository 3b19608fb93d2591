"""Notifications: the customer is told what became of the order, by e-mail or SMS, once."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Annotated, Any

from faststream import Context

from apps.kit.broker import EventBroker
from apps.kit.mongo import open_database
from apps.kit.settings import get_settings
from apps.kit.topology import EVENTS, inbox, outcome
from apps.kit.worker import worker
from apps.notifications import application
from apps.notifications.messages import Messages
from apps.notifications.mongo import DOCUMENTS, MongoNotificationLog
from apps.notifications.sms import LogTexter
from apps.notifications.smtp import SmtpMailer
from apps.notifications.twilio import TwilioTexter
from contracts import (
    InvoiceIssued,
    InvoiceVoided,
    NotificationFailed,
    NotificationSent,
    NotificationSkipped,
    OrderCancelled,
    OrderRejected,
)

Notifier = Annotated[application.Notifier, Context("notifier")]


@asynccontextmanager
async def adapters() -> AsyncIterator[Mapping[str, Any]]:
    settings = get_settings()
    messages = Messages(settings.shop_name, settings.templates_directory)
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database("notifications", *DOCUMENTS))
        mailer = await stack.enter_async_context(aclosing(SmtpMailer(settings)))
        texter: application.Texter | None = None
        if settings.twilio_account_sid:
            texter = await stack.enter_async_context(TwilioTexter(settings))
        elif settings.environment == "development":
            texter = LogTexter()
        log = MongoNotificationLog(database)
        notifier = application.Notifier(messages, mailer, texter, log, settings.notifications)
        yield {"database": database, "notifier": notifier}


broker = EventBroker("notifications")
app = worker(broker, "Tells customers what became of their orders, by e-mail or SMS.", adapters)

# One publisher for all handlers: two of the same event would share a name in the AsyncAPI document.
sent = broker.publisher(**outcome(NotificationSent))
skipped = broker.publisher(**outcome(NotificationSkipped))
failed = broker.publisher(**outcome(NotificationFailed))


@sent
@skipped
@failed
@broker.subscriber(inbox("notifications", InvoiceIssued), EVENTS)
async def on_invoice_issued(
    invoice: InvoiceIssued, notifier: Notifier
) -> NotificationSent | NotificationSkipped | NotificationFailed:
    """Send the customer the invoice."""
    return await notifier.tell(invoice)


@sent
@skipped
@failed
@broker.subscriber(inbox("notifications", InvoiceVoided), EVENTS)
async def on_invoice_voided(
    voided: InvoiceVoided, notifier: Notifier
) -> NotificationSent | NotificationSkipped | NotificationFailed:
    """Send the customer the credit note."""
    return await notifier.tell(voided)


@sent
@skipped
@failed
@broker.subscriber(inbox("notifications", OrderRejected), EVENTS)
async def on_order_rejected(
    rejection: OrderRejected, notifier: Notifier
) -> NotificationSent | NotificationSkipped | NotificationFailed:
    """Tell the customer why the order was refused."""
    return await notifier.tell(rejection)


@sent
@skipped
@failed
@broker.subscriber(inbox("notifications", OrderCancelled), EVENTS)
async def on_order_cancelled(
    cancellation: OrderCancelled, notifier: Notifier
) -> NotificationSent | NotificationSkipped | NotificationFailed:
    """Tell the customer that the order was cancelled."""
    return await notifier.tell(cancellation)
