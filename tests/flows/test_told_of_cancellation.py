"""The customer of a cancelled order is told of it once, and of the credit note; or it is said why not."""

from typing import Any

from apps.orders import app as orders
from apps.orders.domain import Status
from contracts import OrderCancelled, OrderCreated
from tests.flows.conftest import Shop

PHONELESS = OrderCreated.example["customer"] | {"phone": None, "locale": "en-GB"}


def cancellation(order: OrderCreated, **changes: Any) -> OrderCancelled:
    body = OrderCancelled.example | {"order_id": order.order_id, "customer": order.customer} | changes
    return OrderCancelled.model_validate(body)


async def test_customer_gets_invoice_cancellation_and_credit_note(stocked_shop: Shop) -> None:
    """After the invoice come two mails, both saying that nothing is to be paid."""
    order = await stocked_shop.place(customer=PHONELESS)
    await stocked_shop.publish(cancellation(order))

    invoice, *after = sorted(stocked_shop.mailer.mails, key=lambda mail: mail.template)
    assert invoice.template == "invoice-issued"
    assert [mail.template for mail in after] == ["invoice-voided", "order-cancelled"]
    assert all("There is nothing to pay" in mail.text for mail in after)
    number = stocked_shop.invoice_book.credit_notes[order.order_id].credit_note_number
    assert number in after[0].subject


async def test_cancellation_that_comes_first_is_told_once(stocked_shop: Shop) -> None:
    """The refusal that follows from it is the same message, and is not sent again."""
    order = OrderCreated.model_validate(OrderCreated.example | {"customer": PHONELESS})
    await stocked_shop.publish(cancellation(order))
    await stocked_shop.publish(order)

    [mail] = stocked_shop.mailer.mails
    assert mail.subject == "Your order 536365 was cancelled"
    assert OrderCancelled.example["reason"] in mail.text


async def test_refused_mail_shows_in_the_timeline(stocked_shop: Shop) -> None:
    """NotificationFailed says why, without the address; the order's customer is unreachable."""
    stocked_shop.mailer.refusals = 1
    order = await stocked_shop.place(customer=PHONELESS)

    [call] = orders.on_notification_failed.mock.call_args_list
    assert (call.args[0].template, call.args[0].recipient) == ("invoice-issued", "a***@example.com")
    assert "550" in call.args[0].reason
    assert "NotificationFailed" in stocked_shop.story(order.order_id)
    assert stocked_shop.status(order.order_id) is Status.UNREACHABLE
