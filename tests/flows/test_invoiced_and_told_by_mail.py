"""An order that can be served is invoiced, and the customer has the invoice by mail."""

from decimal import Decimal

from apps.billing import app as billing
from apps.notifications import app as notifications
from apps.orders import app as orders
from apps.orders.domain import Status
from apps.stock import app as stock
from tests.flows.conftest import Shop


async def test_order_is_invoiced_and_told_by_mail(stocked_shop: Shop) -> None:
    """One order makes one reservation, one invoice and one mail, and ends as notified."""
    order = await stocked_shop.place()

    stock.on_order_created.mock.assert_called_once_with(order)
    invoice = stocked_shop.invoice_book.invoices[order.order_id]
    notifications.on_invoice_issued.mock.assert_called_once_with(invoice)
    [mail] = stocked_shop.mailer.mails
    assert mail.address == order.customer.email
    assert invoice.number in mail.text
    assert not stocked_shop.texter.texts
    assert (stocked_shop.units("85123A"), stocked_shop.units("71053")) == (4, 4)
    assert stocked_shop.status(order.order_id) is Status.NOTIFIED
    assert stocked_shop.story(order.order_id) == [
        "InvoiceIssued",
        "NotificationSent",
        "OrderCreated",
        "OrderValidated",
    ]


async def test_invoice_bills_what_was_ordered(stocked_shop: Shop) -> None:
    """The invoice has the order's lines and customer, and the tax of the customer's country."""
    order = await stocked_shop.place()

    [invoice] = stocked_shop.invoice_book.invoices.values()
    assert (invoice.order_id, invoice.customer) == (order.order_id, order.customer)
    assert [(line.sku, line.quantity) for line in invoice.lines] == [("85123A", 6), ("71053", 6)]
    assert [str(line.tax) for line in invoice.lines] == ["2.60", "3.46"]
    assert (invoice.subtotal, invoice.tax, invoice.total) == tuple(map(Decimal, ("35.64", "6.06", "41.70")))
    assert stocked_shop.read_model.order(order.order_id).invoice_number == invoice.number


async def test_unlimited_and_repeated_articles(shop: Shop) -> None:
    """Postage is always there, and two lines of one article take from the shelf together."""
    await shop.stock_up("postage", None)
    await shop.stock_up("mug", 5)
    line = {"sku": "mug", "quantity": 2, "unit_price": "1.00"}
    postage = {"sku": "postage", "quantity": 1, "unit_price": "3.00"}
    order = await shop.place(lines=[line, postage, line], total="7.00")

    assert shop.status(order.order_id) is Status.NOTIFIED
    assert (shop.units("mug"), shop.units("postage")) == (1, None)


async def test_events_carry_their_envelope(stocked_shop: Shop) -> None:
    """Each event on its way says what it is, which order it belongs to and under which id it is known."""
    order = await stocked_shop.place()

    for handler, event in (
        (billing.on_order_validated, "order.validated.v1"),
        (notifications.on_invoice_issued, "invoice.issued.v1"),
        (orders.on_notification_sent, "notification.sent.v1"),
    ):
        [call] = handler.mock.call_args_list
        await handler.assert_called_once_with(
            correlation_id=str(order.order_id),
            content_type="application/json",
            headers={
                "cloudEvents:specversion": "1.0",
                "cloudEvents:type": event,
                "cloudEvents:id": str(call.args[0].event_id),
                "cloudEvents:subject": str(order.order_id),
            },
        )
