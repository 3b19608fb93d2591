"""An invoice becomes a document, and so does the credit note that cancels it."""

from apps.kit.clock import utc_now
from contracts import InvoiceIssued, InvoiceVoided, OrderCancelled
from tests.flows.conftest import Shop


async def test_cancelled_order_has_both_documents(stocked_shop: Shop) -> None:
    """The invoice stays as it was issued, beside a credit note with the same total."""
    order = await stocked_shop.place()
    (path,) = stocked_shop.press.made
    await stocked_shop.publish(
        OrderCancelled(
            order_id=order.order_id, customer=order.customer, reason="Ordered twice.", cancelled_at=utc_now()
        )
    )

    invoice, credit_note = stocked_shop.press.made.values()
    assert isinstance(invoice, InvoiceIssued)
    assert isinstance(credit_note, InvoiceVoided)
    assert path == f"invoices/{invoice.number}.pdf"
    assert f"invoices/{credit_note.credit_note_number}.pdf" in stocked_shop.press.made
    assert credit_note.number == invoice.number
    assert credit_note.total == invoice.total


async def test_refused_order_has_no_document(shop: Shop) -> None:
    """Nothing is invoiced, so there is nothing to show."""
    await shop.place()

    assert not shop.press.made
