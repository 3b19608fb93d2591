"""A customer without an e-mail address is told by SMS."""

from apps.orders import app as orders
from apps.orders.domain import Status
from contracts import OrderCreated
from tests.flows.conftest import Shop

CUSTOMER = OrderCreated.example["customer"] | {"email": None}


async def test_phone_only_customer_gets_an_sms(stocked_shop: Shop) -> None:
    """One text with the invoice's number goes to the phone, and no mail anywhere."""
    order = await stocked_shop.place(customer=CUSTOMER)

    [(number, text, _)] = stocked_shop.texter.texts
    assert number == order.customer.phone
    assert stocked_shop.invoice_book.invoices[order.order_id].number in text
    assert not stocked_shop.mailer.mails
    assert stocked_shop.status(order.order_id) is Status.NOTIFIED


async def test_announcement_masks_the_number(stocked_shop: Shop) -> None:
    """Who listens to NotificationSent learns that it was an SMS, and not to which number."""
    await stocked_shop.place(customer=CUSTOMER)

    [call] = orders.on_notification_sent.mock.call_args_list
    assert (call.args[0].channel, call.args[0].recipient) == ("sms", "+55*******4321")


async def test_refusal_is_told_by_sms_too(shop: Shop) -> None:
    """A sold-out order of a customer with nothing but a phone is explained in a text."""
    order = await shop.place(customer=CUSTOMER)

    [(number, text, _)] = shop.texter.texts
    assert number == order.customer.phone
    assert order.reference is not None
    assert order.reference in text
