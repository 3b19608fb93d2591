"""Whatever happens to an order can be had by webhook."""

from contracts import InvoiceIssued, NotificationSent, OrderCreated, OrderValidated
from tests.flows.conftest import Shop


async def test_every_event_of_an_order_is_offered(stocked_shop: Shop) -> None:
    """From its creation to the customer's mail, each event reaches the webhooks once."""
    order = await stocked_shop.place()

    events = [event for event in stocked_shop.webhooks.events if event.correlation_id == str(order.order_id)]
    expected = [OrderCreated, OrderValidated, InvoiceIssued, NotificationSent]
    assert sorted(event.topic for event in events) == sorted(event.topic for event in expected)
