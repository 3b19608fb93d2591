"""Every app at once, joined by a broker in memory, with a shop's view of what comes of it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest
from faststream.rabbit import TestRabbitBroker

from apps.billing import app as billing
from apps.cli.system import BROKERS
from apps.documents import app as documents
from apps.ingress import api as ingress
from apps.kit.clock import utc_now
from apps.kit.publishing import publish
from apps.kit.settings import get_settings
from apps.notifications import app as notifications
from apps.notifications.application import Notifier
from apps.notifications.messages import Messages
from apps.orders import app as orders
from apps.orders.domain import Status
from apps.stock import app as stock
from apps.webhooks import app as webhooks
from contracts import Event, OrderCreated, StockAdjusted
from tests.flows.fakes import (
    InvoiceBookInMemory,
    NotificationLogInMemory,
    PostedMails,
    PressInMemory,
    ReadModelInMemory,
    SentTexts,
    StoredEvents,
    WarehouseInMemory,
)


@dataclass
class Shop:
    """The whole system, its stores in memory."""

    warehouse: WarehouseInMemory = field(default_factory=WarehouseInMemory)
    invoice_book: InvoiceBookInMemory = field(default_factory=InvoiceBookInMemory)
    read_model: ReadModelInMemory = field(default_factory=ReadModelInMemory)
    mailer: PostedMails = field(default_factory=PostedMails)
    texter: SentTexts = field(default_factory=SentTexts)
    notification_log: NotificationLogInMemory = field(default_factory=NotificationLogInMemory)
    webhooks: StoredEvents = field(default_factory=StoredEvents)
    press: PressInMemory = field(default_factory=PressInMemory)

    async def publish(self, event: Event) -> None:
        """Publish an event and all that follows from it."""
        await publish(ingress.broker, event)

    async def stock_up(self, sku: str, quantity: int | None) -> None:
        """Count an article; None is for what is never used up."""
        count = {"mode": "set", "quantity": quantity, "unlimited": quantity is None, "adjusted_at": utc_now()}
        await self.publish(StockAdjusted.model_validate({"adjustment_id": uuid4(), "sku": sku, **count}))

    async def place(self, **changes: Any) -> OrderCreated:
        """Place the order of the contract's example, with changes and under a new id."""
        body = OrderCreated.example | {"order_id": uuid4(), **changes}
        order = OrderCreated.model_validate(body)
        await self.publish(order)
        return order

    def status(self, order_id: UUID) -> Status:
        """Where an order is."""
        return Status.of_rank(self.read_model.order(order_id).rank)

    def story(self, order_id: UUID) -> list[str]:
        """The names of the events that an order has seen."""
        return sorted(seen["event"] for seen in self.read_model.order(order_id).events.values())

    def units(self, sku: str) -> int | None:
        """What is left of an article."""
        return self.warehouse.levels[sku].available


@pytest.fixture
async def shop(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shop]:
    """A shop that sells its example order in Brazil at a tax of 17 %, and has counted nothing yet."""
    monkeypatch.setenv("ORDERFLOW_TAX_RATES", '{"BR": "0.17"}')
    get_settings.cache_clear()
    shop = Shop()
    notifier = Notifier(Messages("Corner Shop"), shop.mailer, shop.texter, shop.notification_log)
    ports = (
        (stock.broker, "warehouse", shop.warehouse),
        (billing.broker, "invoice_book", shop.invoice_book),
        (orders.broker, "read_model", shop.read_model),
        (notifications.broker, "notifier", notifier),
        (webhooks.broker, "outbox", shop.webhooks),
        (documents.broker, "press", shop.press),
    )
    for broker, name, port in ports:
        broker.context.set_global(name, port)
    async with TestRabbitBroker(*BROKERS):
        yield shop
    for broker, name, _ in ports:
        broker.context.reset_global(name)
    get_settings.cache_clear()


@pytest.fixture
async def stocked_shop(shop: Shop) -> Shop:
    """A shop with ten of each article in the example order."""
    for sku in ("85123A", "71053"):
        await shop.stock_up(sku, 10)
    return shop
