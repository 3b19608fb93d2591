"""Stock: reserves all lines of an order or none, releases them once, and follows the warehouse's counts."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

from faststream import Context

from apps.kit.broker import EventBroker
from apps.kit.mongo import open_database
from apps.kit.topology import EVENTS, inbox, outcome
from apps.kit.worker import worker
from apps.stock import application
from apps.stock.document import DOCUMENTS
from apps.stock.mongo import MongoWarehouse
from contracts import OrderCancelled, OrderCreated, OrderRejected, OrderValidated, StockAdjusted

Warehouse = Annotated[application.Warehouse, Context("warehouse")]


@asynccontextmanager
async def adapters() -> AsyncIterator[Mapping[str, Any]]:
    async with open_database("stock", *DOCUMENTS) as database:
        yield {"database": database, "warehouse": MongoWarehouse(database)}


broker = EventBroker("stock")
app = worker(broker, "Reserves all lines of an order or none; follows the warehouse's counts.", adapters)


@broker.publisher(**outcome(OrderValidated))
@broker.publisher(**outcome(OrderRejected))
@broker.subscriber(inbox("stock", OrderCreated), EVENTS)
async def on_order_created(order: OrderCreated, warehouse: Warehouse) -> OrderValidated | OrderRejected:
    """Reserve every line of the order, or refuse it with all reasons."""
    return await application.decide(order, warehouse)


@broker.subscriber(inbox("stock", OrderCancelled), EVENTS)
async def on_order_cancelled(cancellation: OrderCancelled, warehouse: Warehouse) -> None:
    """Give back what the order has reserved, or refuse it before it comes."""
    await warehouse.release(cancellation)


@broker.subscriber(inbox("stock", StockAdjusted), EVENTS)
async def on_stock_adjusted(adjustment: StockAdjusted, warehouse: Warehouse) -> None:
    """Apply a count, a delivery or a write-off once."""
    await warehouse.adjust(adjustment)
