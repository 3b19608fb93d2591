"""Where there is neither an address nor a number, that nobody was told is said and seen."""

from apps.orders import app as orders
from apps.orders.domain import Status
from tests.flows.conftest import Shop

NOBODY = {"id": "guest-1"}


async def test_order_of_an_unreachable_customer_ends_unreachable(stocked_shop: Shop) -> None:
    """The invoice is issued, nothing is sent, and NotificationSkipped says why."""
    order = await stocked_shop.place(customer=NOBODY)

    [call] = orders.on_notification_skipped.mock.call_args_list
    assert (call.args[0].order_id, call.args[0].reason) == (order.order_id, "no_contact")
    orders.on_notification_sent.mock.assert_not_called()
    assert not stocked_shop.mailer.mails
    assert not stocked_shop.texter.texts
    assert order.order_id in stocked_shop.invoice_book.invoices
    assert stocked_shop.status(order.order_id) is Status.UNREACHABLE


async def test_refusal_of_an_unreachable_customer_ends_rejected(shop: Shop) -> None:
    """That nobody could be told of it does not hide that the order was refused."""
    order = await shop.place(customer=NOBODY)

    assert shop.story(order.order_id) == ["NotificationSkipped", "OrderCreated", "OrderRejected"]
    assert shop.status(order.order_id) is Status.REJECTED
