"""Every event may come twice: nothing happens twice, and what follows has the ids it had."""

from copy import deepcopy
from typing import Any
from uuid import uuid4

import pytest

from apps.kit.clock import utc_now
from contracts import OrderCancelled, OrderCreated, StockAdjusted
from tests.flows.conftest import Shop


def kept(shop: Shop) -> Any:
    """All that any store keeps, but for when an order was last heard of, and all that went out."""
    orders = shop.read_model.documents.items()
    return deepcopy(
        {
            "levels": shop.warehouse.levels,
            "decisions": shop.warehouse.decisions,
            "taken": shop.warehouse.taken,
            "invoices": shop.invoice_book.invoices,
            "credit notes": shop.invoice_book.credit_notes,
            "notifications": shop.notification_log.outcomes,
            "orders": {key: {**order, "changed_at": None} for key, order in orders},
            "mails": shop.mailer.mails,
            "texts": shop.texter.texts,
        }
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"lines": [{"sku": "85123A", "quantity": 11, "unit_price": "1.00"}], "total": "11.00"},
        {"customer": {"id": "1", "phone": "+5511987654321"}},
        {"customer": {"id": "1"}},
    ],
    ids=["mailed", "sold out", "phone only", "nobody to reach"],
)
async def test_a_repeat_of_every_event_changes_nothing(stocked_shop: Shop, changes: dict[str, Any]) -> None:
    """Whichever event of a finished order comes again, every store stays, and the same events follow."""
    await stocked_shop.place(**changes)
    before, events = kept(stocked_shop), list(stocked_shop.read_model.arrived)
    assert len(events) >= 3

    for event in events:
        await stocked_shop.publish(event)

    assert kept(stocked_shop) == before
    assert set(stocked_shop.read_model.arrived) == set(events)
    assert {event.event_id for event in stocked_shop.read_model.arrived} == {
        event.event_id for event in events
    }


@pytest.mark.parametrize("comes_first", [False, True], ids=["afterwards", "beforehand"])
async def test_a_repeat_of_every_event_of_a_cancelled_order_changes_nothing(
    stocked_shop: Shop,
    comes_first: bool,  # noqa: FBT001  # pytest gives it
) -> None:
    """Whatever of it comes again, nothing is reserved, given back, invoiced, credited or told anew."""
    order = OrderCreated.model_validate(OrderCreated.example | {"order_id": uuid4()})
    cancelled = OrderCancelled.model_validate(OrderCancelled.example | {"order_id": order.order_id})
    for event in (cancelled, order) if comes_first else (order, cancelled):
        await stocked_shop.publish(event)
    before, events = kept(stocked_shop), list(stocked_shop.read_model.arrived)

    for event in events:
        await stocked_shop.publish(event)

    assert kept(stocked_shop) == before
    assert set(stocked_shop.read_model.arrived) == set(events)


async def test_a_repeated_order_is_answered_with_the_stored_decision(stocked_shop: Shop) -> None:
    """An order that was refused stays refused when it comes again after a delivery."""
    await stocked_shop.stock_up("71053", 0)
    order = await stocked_shop.place()
    await stocked_shop.stock_up("71053", 100)
    before = kept(stocked_shop)

    await stocked_shop.publish(order)

    assert kept(stocked_shop) == before
    assert not stocked_shop.invoice_book.invoices


async def test_a_repeated_delivery_is_counted_once(stocked_shop: Shop) -> None:
    """Units that are announced twice under one id are there once."""
    delivery = StockAdjusted(
        adjustment_id=uuid4(), sku="85123A", mode="add", quantity=5, adjusted_at=utc_now()
    )
    await stocked_shop.publish(delivery)
    await stocked_shop.publish(delivery)
    assert stocked_shop.units("85123A") == 15


async def test_two_orders_with_the_same_content_are_two(stocked_shop: Shop) -> None:
    """The order's id tells a repeat from a customer who wants the same again."""
    line = OrderCreated.example["lines"][0] | {"quantity": 1}
    for _ in range(2):
        await stocked_shop.place(lines=[line], total="2.55")
    assert stocked_shop.units("85123A") == 8
    assert sorted(invoice.number[5:] for invoice in stocked_shop.invoice_book.invoices.values()) == [
        "000001",
        "000002",
    ]
