"""A cancelled order gives back its stock, its invoice is void, and the read model says so."""

from uuid import uuid4

from apps.orders import app as orders
from apps.orders.domain import Status
from contracts import OrderCancelled, OrderCreated, RejectionCode
from tests.flows.conftest import Shop


def cancellation(order: OrderCreated) -> OrderCancelled:
    """That the order is not wanted any more."""
    body = OrderCancelled.example | {"order_id": order.order_id, "customer": order.customer}
    return OrderCancelled.model_validate(body)


async def test_invoiced_order_is_undone(stocked_shop: Shop) -> None:
    """The units are back, the invoice keeps its number, and a credit note cancels it."""
    order = await stocked_shop.place()
    await stocked_shop.publish(cancellation(order))

    assert (stocked_shop.units("85123A"), stocked_shop.units("71053")) == (10, 10)
    invoice = stocked_shop.invoice_book.invoices[order.order_id]
    note = stocked_shop.invoice_book.credit_notes[order.order_id]
    assert (note.number, note.total) == (invoice.number, invoice.total)
    assert note.credit_note_number == f"CN-{note.voided_at:%Y}-000001"
    assert stocked_shop.status(order.order_id) is Status.CANCELLED
    shown = stocked_shop.read_model.order(order.order_id)
    assert (shown.invoice_number, shown.credit_note_number) == (invoice.number, note.credit_note_number)


async def test_order_that_comes_after_its_cancellation_is_refused(stocked_shop: Shop) -> None:
    """Nothing is reserved, no invoice is issued and no empty message goes out, whatever comes later."""
    order = OrderCreated.model_validate(OrderCreated.example | {"order_id": uuid4()})
    await stocked_shop.publish(cancellation(order))
    await stocked_shop.publish(order)

    [call] = orders.on_order_rejected.mock.call_args_list
    assert [reason.code for reason in call.args[0].reasons] == [RejectionCode.CANCELLED]
    assert (stocked_shop.units("85123A"), stocked_shop.units("71053")) == (10, 10)
    assert not stocked_shop.invoice_book.invoices
    orders.on_invoice_issued.mock.assert_not_called()
    orders.on_invoice_voided.mock.assert_not_called()
    assert stocked_shop.status(order.order_id) is Status.CANCELLED


async def test_cancelling_twice_undoes_once(stocked_shop: Shop) -> None:
    """The second cancellation gives nothing back and takes no second number."""
    order = await stocked_shop.place()
    for _ in range(2):
        await stocked_shop.publish(cancellation(order))
    await stocked_shop.place(lines=OrderCreated.example["lines"][:1], total="15.30")

    assert stocked_shop.units("85123A") == 4
    assert len(stocked_shop.invoice_book.credit_notes) == 1


async def test_unlimited_article_stays_unlimited(shop: Shop) -> None:
    """Giving back what is never used up does not turn it into a stock of some units."""
    await shop.stock_up("postage", None)
    line = {"sku": "postage", "quantity": 1, "unit_price": "3.00"}
    order = await shop.place(lines=[line], total="3.00")
    await shop.publish(cancellation(order))
    assert shop.units("postage") is None
