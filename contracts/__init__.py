"""Every event that Orderflow publishes or accepts, one module per owner."""

from contracts.billing import InvoiceIssued, InvoiceLine
from contracts.event import Event
from contracts.notifications import NotificationSent, NotificationSkipped
from contracts.orders import Customer, OrderContent, OrderCreated, OrderLine
from contracts.recovery import DeadLetterClosed, DeadLetterOpened
from contracts.stock import OrderRejected, OrderValidated, RejectionCode, RejectionReason, StockAdjusted

EVENTS: tuple[type[Event], ...] = (
    OrderCreated,
    OrderValidated,
    OrderRejected,
    InvoiceIssued,
    NotificationSent,
    NotificationSkipped,
    StockAdjusted,
    DeadLetterOpened,
    DeadLetterClosed,
)

__all__ = [
    "EVENTS",
    "Customer",
    "DeadLetterClosed",
    "DeadLetterOpened",
    "Event",
    "InvoiceIssued",
    "InvoiceLine",
    "NotificationSent",
    "NotificationSkipped",
    "OrderContent",
    "OrderCreated",
    "OrderLine",
    "OrderRejected",
    "OrderValidated",
    "RejectionCode",
    "RejectionReason",
    "StockAdjusted",
]
