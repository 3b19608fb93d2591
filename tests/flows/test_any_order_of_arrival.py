"""Queues are independent, so events overtake each other; what they tell ends the same."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from apps.kit.clock import utc_now
from contracts import OrderCreated, StockAdjusted
from tests.flows.conftest import Shop

SOLD_OUT = {"lines": [{"sku": "85123A", "quantity": 11, "unit_price": "1.00"}], "total": "11.00"}


@pytest.mark.parametrize("changes", [{}, SOLD_OUT], ids=["invoiced", "sold out"])
async def test_reversed_events_end_the_same(stocked_shop: Shop, changes: dict[str, Any]) -> None:
    """A read model that hears of an order backwards knows the same of it."""
    order = await stocked_shop.place(**changes)
    events, known = list(stocked_shop.read_model.arrived), stocked_shop.read_model.facts(order.order_id)
    stocked_shop.read_model.documents.clear()

    for event in reversed(events):
        await stocked_shop.publish(event)

    assert stocked_shop.read_model.facts(order.order_id) == known


async def test_notification_overtakes_the_order(stocked_shop: Shop) -> None:
    """An order that is first heard of by its last event is already at its end."""
    order = await stocked_shop.place()
    first, *_, last = stocked_shop.read_model.arrived
    assert isinstance(first, OrderCreated)
    stocked_shop.read_model.documents.clear()

    await stocked_shop.publish(last)
    assert stocked_shop.read_model.order(order.order_id).content is None
    status = stocked_shop.status(order.order_id)
    await stocked_shop.publish(first)

    assert stocked_shop.read_model.order(order.order_id).content is not None
    assert stocked_shop.status(order.order_id) is status


async def test_delivery_overtakes_the_count_before_it(shop: Shop) -> None:
    """A count that arrives late has the units added since on top."""
    now = utc_now()
    changes: list[tuple[str, int]] = [("set", 10), ("add", 5), ("add", -3)]
    day = [
        StockAdjusted.model_validate(
            {
                "adjustment_id": uuid4(),
                "sku": "85123A",
                "mode": mode,
                "quantity": quantity,
                "adjusted_at": now + timedelta(minutes=minute),
            }
        )
        for minute, (mode, quantity) in enumerate(changes)
    ]
    for position in (1, 2, 0):
        await shop.publish(day[position])
    assert shop.units("85123A") == 12
