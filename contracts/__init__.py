"""Every event that Orderflow publishes or accepts, one module per owner."""

from contracts.billing import Invoice, InvoiceIssued, InvoiceLine, InvoiceVoided
from contracts.event import Event
from contracts.notifications import NotificationFailed, NotificationSent, NotificationSkipped
from contracts.orders import Customer, OrderCancelled, OrderContent, OrderCreated, OrderLine
from contracts.recovery import DeadLetterClosed, DeadLetterOpened
from contracts.stock import OrderRejected, OrderValidated, RejectionCode, RejectionReason, StockAdjusted
from contracts.webhooks import DisabledReason, WebhookEndpointDisabled

EVENTS: tuple[type[Event], ...] = (
    OrderCreated,
    OrderCancelled,
    OrderValidated,
    OrderRejected,
    InvoiceIssued,
    InvoiceVoided,
    NotificationSent,
    NotificationSkipped,
    NotificationFailed,
    StockAdjusted,
    DeadLetterOpened,
    DeadLetterClosed,
    WebhookEndpointDisabled,
)

__all__ = [
    "EVENTS",
    "Customer",
    "DeadLetterClosed",
    "DeadLetterOpened",
    "DisabledReason",
    "Event",
    "Invoice",
    "InvoiceIssued",
    "InvoiceLine",
    "InvoiceVoided",
    "NotificationFailed",
    "NotificationSent",
    "NotificationSkipped",
    "OrderCancelled",
    "OrderContent",
    "OrderCreated",
    "OrderLine",
    "OrderRejected",
    "OrderValidated",
    "RejectionCode",
    "RejectionReason",
    "StockAdjusted",
    "WebhookEndpointDisabled",
]
