"""Whatever is repeated, raced or contradicted, its effect happens once."""

import asyncio
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from conftest import System, body_of, eventually, names, new_order

from contracts import OrderCreated, StockAdjusted

pytestmark = pytest.mark.connected


async def test_same_order_published_many_times_is_handled_once(system: System) -> None:
    """Ten copies, also with ids of their own, make one reservation, one invoice and one notification."""
    (sku,) = await system.stock_up(100)
    order = new_order((sku, 3), email="dup@example.com")

    await asyncio.gather(
        *(
            system.publish_raw(order.topic, order.model_dump_json().encode(), message_id=str(uuid4()))
            for _ in range(10)
        )
    )

    shown = await system.settled(order.order_id)
    assert names(shown) == {"OrderCreated", "OrderValidated", "InvoiceIssued", "NotificationSent"}
    await system.handled("orders", order.order_id, "notification.sent.v1", times=10)
    assert await system.database("billing")["invoices"].count_documents({"_id": order.order_id}) == 1
    log = system.database("notifications")["notifications"]
    assert await log.count_documents({"order_id": order.order_id}) == 1
    level = await system.database("stock")["levels"].find_one({"_id": sku})
    assert (level["available"], level["reserved"]) == (97, 3)
    assert len((await system.order(order.order_id) or {})["timeline"]) == 4


async def test_other_order_under_a_used_id_is_a_dead_letter(system: System) -> None:
    """Who reuses an order id for other lines changes nothing and finds the reason with the dead letter."""
    (sku,) = await system.stock_up(100)
    order = new_order((sku, 1))
    await system.publish(order)
    await system.settled(order.order_id)
    other = new_order((sku, 50)).model_copy(update={"order_id": order.order_id})

    await system.publish_bare(other)

    letter = await system.dead_letter(str(order.event_id))
    assert letter["error_type"] == "OrderContradictedError"
    assert letter["queue"] == "stock.order-created"
    level = await system.database("stock")["levels"].find_one({"_id": sku})
    assert level["reserved"] == 1


async def test_hundred_orders_race_for_ten_units(system: System) -> None:
    """Exactly ten of a hundred orders get the last ten units; the level ends at zero, never below."""
    (sku,) = await system.stock_up(10)
    orders = [new_order((sku, 1)) for _ in range(100)]

    await asyncio.gather(*(system.publish(order) for order in orders))

    ends = [(await system.settled(order.order_id))["status"] for order in orders]
    assert (ends.count("unreachable"), ends.count("rejected")) == (10, 90)
    level = await system.database("stock")["levels"].find_one({"_id": sku})
    assert (level["available"], level["reserved"]) == (0, 10)


async def test_fifty_parallel_posts_with_one_key_make_one_order(system: System) -> None:
    """Clients that retry in parallel all get the same answer, and one order exists."""
    (sku,) = await system.stock_up(None)
    customer = f"c-{sku}"
    body = body_of(new_order((sku, 2), id=customer))
    key = {"Idempotency-Key": f"key-{sku}"}

    answers = await asyncio.gather(
        *(system.api.post("/v1/orders", json=body, headers=key) for _ in range(50))
    )

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.text for answer in answers}) == 1
    assert len({answer.headers["location"] for answer in answers}) == 1
    listed = (await system.api.get("/v1/orders", params={"customer_id": customer})).json()["orders"]
    assert len(listed) == 1


async def test_one_key_with_two_bodies_in_parallel_accepts_one_and_refuses_the_other(system: System) -> None:
    """The first body wins; every request with the other one is told 422 and changes nothing."""
    (sku,) = await system.stock_up(None)
    customer = f"c-{sku}"
    bodies = [body_of(new_order((sku, quantity), id=customer)) for quantity in (1, 2)]
    key = {"Idempotency-Key": f"key-{sku}"}

    answers = await asyncio.gather(
        *(system.api.post("/v1/orders", json=bodies[turn % 2], headers=key) for turn in range(20))
    )

    codes = [answer.status_code for answer in answers]
    assert (codes.count(202), codes.count(422)) == (10, 10)
    refused = next(answer for answer in answers if answer.status_code == 422)
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["errors"][0]["field"] == "Idempotency-Key"
    listed = (await system.api.get("/v1/orders", params={"customer_id": customer})).json()["orders"]
    assert len(listed) == 1


async def test_stock_adjustment_is_applied_once_each_in_any_order(system: System) -> None:
    """A delivery that overtakes the count before it, and copies of both, end at the same level."""
    sku = f"sku-{uuid4().hex[:12]}"
    count = StockAdjusted(
        adjustment_id=uuid4(), sku=sku, mode="set", quantity=10, adjusted_at="2026-11-01T08:00:00Z"
    )
    delivery = StockAdjusted(
        adjustment_id=uuid4(), sku=sku, mode="add", quantity=5, adjusted_at="2026-11-01T09:00:00Z"
    )
    for event in (delivery, count, delivery, count):
        await system.publish(event)

    await system.handled("stock", count.adjustment_id, count.topic, times=2)
    await system.handled("stock", delivery.adjustment_id, delivery.topic, times=2)

    level = await system.database("stock")["levels"].find_one({"_id": sku})
    assert level["available"] == 15


async def test_count_that_arrives_late_does_not_sell_again_what_was_reserved_since(system: System) -> None:
    """Orders that were served after the time of a count are taken off it when it comes at last."""
    (sku,) = await system.stock_up(20)
    before = datetime.now(UTC)
    order = new_order((sku, 5))
    await system.publish(order)
    await system.settled(order.order_id)
    late = StockAdjusted(adjustment_id=uuid4(), sku=sku, mode="set", quantity=10, adjusted_at=before)

    await system.publish(late)

    await system.handled("stock", late.adjustment_id, late.topic, times=1)
    level = await system.database("stock")["levels"].find_one({"_id": sku})
    assert (level["available"], level["reserved"]) == (5, 5)


async def test_order_created_by_hand_keeps_the_contract_of_its_outcome(system: System) -> None:
    """What stock, billing and notifications published is what their contracts say, properties included."""
    queue = await system.channel.declare_queue(exclusive=True)
    await queue.bind("events", "order.validated.v1")
    (sku,) = await system.stock_up(None)
    order: OrderCreated = new_order((sku, 1))

    await system.publish(order)

    async def announced() -> object:
        message = await queue.get(no_ack=True, fail=False)
        return message if message and message.correlation_id == str(order.order_id) else None

    message = await eventually(announced, "OrderValidated")
    assert message.type == "order.validated.v1"
    assert message.content_type == "application/json"
    assert message.app_id == "orderflow.stock"
    assert message.delivery_mode == 2
    assert message.headers["cloudEvents:id"] == message.message_id
    assert message.headers["cloudEvents:type"] == "order.validated.v1"
    assert message.headers["cloudEvents:source"] == "/orderflow/stock"
    assert message.headers["cloudEvents:specversion"] == "1.0"
