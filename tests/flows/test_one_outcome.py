"""A handler with two possible outcomes announces the one that it returns, and not the other."""

from uuid import uuid4

from apps.billing import app as billing
from apps.notifications import app as notifications
from apps.orders import app as orders
from apps.stock import app as stock
from contracts import OrderCreated, OrderRejected, OrderValidated, StockAdjusted
from tests.flows.conftest import Shop
from tests.flows.fakes import WarehouseInMemory


async def test_validated_order_is_not_rejected_too(stocked_shop: Shop) -> None:
    """OrderValidated goes out once, and OrderRejected to nobody."""
    order = await stocked_shop.place()

    validated = OrderValidated.of(
        order,
        order_id=order.order_id,
        placed_at=order.placed_at,
        validated_at=stocked_shop.warehouse.decisions[order.order_id].decided_at,
    )
    for handler in (orders.on_order_validated, billing.on_order_validated):
        handler.mock.assert_called_once_with(validated)
    for other in (orders.on_order_rejected, notifications.on_order_rejected):
        other.mock.assert_not_called()


async def test_rejected_order_is_not_validated_too(shop: Shop) -> None:
    """OrderRejected goes out once, and OrderValidated to nobody."""
    order = await shop.place()

    for handler in (orders.on_order_rejected, notifications.on_order_rejected):
        handler.mock.assert_called_once()
        assert handler.mock.call_args.args[0].order_id == order.order_id
    for other in (orders.on_order_validated, billing.on_order_validated, orders.on_invoice_issued):
        other.mock.assert_not_called()


async def test_told_customer_is_not_skipped_too(stocked_shop: Shop) -> None:
    """NotificationSent goes out once, and NotificationSkipped not at all."""
    await stocked_shop.place()

    orders.on_notification_sent.mock.assert_called_once()
    orders.on_notification_skipped.mock.assert_not_called()


async def test_handler_without_outcome_announces_nothing(shop: Shop) -> None:
    """A count changes the shelf and starts no event, not even an empty one."""
    await shop.stock_up("85123A", 10)

    stock.on_stock_adjusted.mock.assert_called_once()
    assert not shop.read_model.arrived


async def test_handler_is_a_plain_function() -> None:
    """Without any broker, an event goes in and its outcome comes out."""
    warehouse = WarehouseInMemory()
    order = OrderCreated.model_validate(OrderCreated.example)
    refused = await stock.on_order_created(order, warehouse)
    assert isinstance(refused, OrderRejected)
    assert [reason.sku for reason in refused.reasons] == ["85123A", "71053"]

    for line in order.lines:
        count = {"adjustment_id": uuid4(), "sku": line.sku, "quantity": 6}
        await stock.on_stock_adjusted(StockAdjusted.model_validate(StockAdjusted.example | count), warehouse)
    again = await stock.on_order_created(order.model_copy(update={"order_id": uuid4()}), warehouse)
    assert isinstance(again, OrderValidated)
    assert again.lines == order.lines
