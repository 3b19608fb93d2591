"""An order that cannot be served in full is refused, takes nothing, and the customer is told why."""

from apps.orders.domain import Status
from contracts import RejectionCode
from tests.flows.conftest import Shop


async def test_sold_out_order_is_rejected_and_told_why(shop: Shop) -> None:
    """What is short and what is unknown is named, in the mail as in the order's view."""
    await shop.stock_up("85123A", 2)
    order = await shop.place()

    assert shop.status(order.order_id) is Status.REJECTED
    assert [
        (reason["code"], reason["sku"], reason["requested"], reason["available"])
        for reason in shop.read_model.order(order.order_id).reasons
    ] == [(RejectionCode.OUT_OF_STOCK, "85123A", 6, 2), (RejectionCode.UNKNOWN_SKU, "71053", 6, 0)]
    [mail] = shop.mailer.mails
    assert mail.address == order.customer.email
    assert all(sku in mail.text for sku in ("85123A", "71053"))
    assert not shop.invoice_book.invoices


async def test_rejected_order_takes_nothing(stocked_shop: Shop) -> None:
    """The articles that were there stay for the next customer, who gets them."""
    await stocked_shop.stock_up("71053", 0)
    refused = await stocked_shop.place()
    assert stocked_shop.status(refused.order_id) is Status.REJECTED
    assert stocked_shop.units("85123A") == 10

    await stocked_shop.stock_up("71053", 6)
    served = await stocked_shop.place()
    assert stocked_shop.status(served.order_id) is Status.NOTIFIED


async def test_second_of_two_orders_finds_the_shelf_empty(stocked_shop: Shop) -> None:
    """Ten of each serve one order of six, and the level never goes below zero."""
    first, second = await stocked_shop.place(), await stocked_shop.place()

    assert stocked_shop.status(first.order_id) is Status.NOTIFIED
    assert stocked_shop.status(second.order_id) is Status.REJECTED
    assert stocked_shop.units("85123A") == 4


async def test_mail_about_a_refusal_leaves_it_rejected(shop: Shop) -> None:
    """The order has been told of, and still ends as what it is."""
    order = await shop.place()

    assert shop.story(order.order_id) == ["NotificationSent", "OrderCreated", "OrderRejected"]
    assert shop.status(order.order_id) is Status.REJECTED
