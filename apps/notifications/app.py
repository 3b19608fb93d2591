"""Notifications: the customer is told of the invoice or the refusal, by e-mail or SMS, once."""

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
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
from contracts import InvoiceIssued, NotificationSent, NotificationSkipped, OrderRejected

Notifier = Annotated[application.Notifier, Context("notifier")]


@asynccontextmanager
async def adapters() -> AsyncIterator[Mapping[str, Any]]:
    settings = get_settings()
    async with open_database("notifications", *DOCUMENTS) as engine, aclosing(SmtpMailer(settings)) as mailer:
        log = MongoNotificationLog(engine)
        notifier = application.Notifier(Messages(settings.shop_name), mailer, LogTexter(), log)
        yield {"database": engine, "notifier": notifier}


broker = EventBroker("notifications")
app = worker(broker, "Tells customers of invoices and refusals by e-mail or SMS.", adapters)

# One publisher for both handlers: two of the same event would share a name in the AsyncAPI document.
sent = broker.publisher(**outcome(NotificationSent))
skipped = broker.publisher(**outcome(NotificationSkipped))


@sent
@skipped
@broker.subscriber(inbox("notifications", InvoiceIssued), EVENTS)
async def on_invoice_issued(
    invoice: InvoiceIssued, notifier: Notifier
) -> NotificationSent | NotificationSkipped:
    """Send the customer the invoice."""
    return await notifier.tell(invoice)


@sent
@skipped
@broker.subscriber(inbox("notifications", OrderRejected), EVENTS)
async def on_order_rejected(
    rejection: OrderRejected, notifier: Notifier
) -> NotificationSent | NotificationSkipped:
    """Tell the customer why the order was refused."""
    return await notifier.tell(rejection)
