"""Cancellation on the real system: whenever it comes, stock, invoices and numbers end as if nothing was."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest
from conftest import System, body_of, eventually, names, new_order
from test_commands import orderflow

from apps.kit.clock import utc_now
from contracts import OrderCancelled, OrderCreated, StockAdjusted

pytestmark = pytest.mark.connected

UNITS = 100
REASON = "Ordered by mistake."


def cancellation(order: OrderCreated) -> OrderCancelled:
    """That the order is not wanted any more."""
    return OrderCancelled(
        order_id=order.order_id, customer=order.customer, reason=REASON, cancelled_at=utc_now()
    )


async def cancelled(system: System, *order_ids: UUID) -> None:
    """Wait until stock and billing know that the orders are cancelled, and the read model shows it."""
    by_id = {"_id": {"$in": list(order_ids)}}

    async def check() -> bool:
        released = {**by_id, "released_at": {"$ne": None}}
        ended = {**by_id, "$or": [{"voided": {"$ne": None}}, {"event": None}]}
        orders = [await system.order(order_id) for order_id in order_ids]
        return (
            await system.database("stock")["reservations"].count_documents(released) == len(order_ids)
            and await system.database("billing")["invoices"].count_documents(ended) == len(order_ids)
            and all(order and order["status"] == "cancelled" for order in orders)
            and not any(
                {"order", "stock", "invoice", "credit_note"} & set(order["awaits"])
                for order in orders
                if order
            )
        )

    await eventually(check, "cancelled")


async def balanced(system: System, skus: Sequence[str]) -> None:
    """Nothing of the articles is reserved any more, and numbers have no gaps."""
    async for level in system.database("stock")["levels"].find({"_id": {"$in": list(skus)}}):
        assert (level["available"], level["reserved"], level["owed"]) == (UNITS, 0, 0)
    series = {one["_id"]: one["last_number"] async for one in system.database("billing")["series"].find()}
    for field in ("number", "credit_note_number"):
        found = system.database("billing")["invoices"].find({field: {"$type": "string"}}).sort(field)
        given = [one[field] async for one in found]
        assert all(int(later[-6:]) == int(earlier[-6:]) + 1 for earlier, later in pairwise(given))
        if given:
            assert given[0].endswith("-000001")
            assert int(given[-1][-6:]) == series[given[-1][:-7]]


async def cancel(system: System, order_id: UUID | str, reason: str = REASON) -> dict[str, Any]:
    answer = await system.api.post(f"/v1/orders/{order_id}/cancel", json={"reason": reason})
    assert answer.status_code == 202, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_order_that_is_through_is_undone_once(system: System) -> None:
    """Over HTTP, after the invoice: all is undone, and a second cancellation gives the first answer."""
    (sku,) = await system.stock_up(UNITS)
    order = new_order((sku, 3))
    await system.publish(order)
    invoiced = await system.settled(order.order_id)

    first = await cancel(system, order.order_id)
    await cancelled(system, order.order_id)
    assert await cancel(system, order.order_id, "Another reason.") == first

    shown = await system.order(order.order_id)
    assert shown is not None
    assert shown["cancellation"] == {"reason": REASON, "cancelled_at": first["cancelled_at"]}
    assert shown["invoice_number"] == invoiced["invoice_number"]
    assert shown["credit_note_number"].startswith("CN-")
    assert first["event_id"] in {entry["event_id"] for entry in shown["timeline"]}
    assert {"OrderCancelled", "InvoiceVoided"} <= names(shown)
    await balanced(system, [sku])


async def test_cancellation_right_after_the_order(system: System) -> None:
    """Over HTTP, as soon as the order is accepted: before, between or after its own events."""
    skus = await system.stock_up(UNITS)
    ids = []
    for number in range(20):
        placed = await system.api.post("/v1/orders", json=body_of(new_order((skus[0], 1 + number % 3))))
        ids.append(UUID(placed.json()["order_id"]))
        await asyncio.sleep(number / 200)  # reaches every step of its way
        await cancel(system, ids[-1])
    await cancelled(system, *ids)
    await balanced(system, skus)


async def test_cancellation_that_overtakes_its_order(system: System) -> None:
    """Straight from RabbitMQ, before the order: it is refused, nothing is reserved or invoiced."""
    (sku,) = await system.stock_up(UNITS)
    order = new_order((sku, 3))
    await system.publish(cancellation(order))
    await cancelled(system, order.order_id)
    await system.publish(order)
    await system.handled("billing", order.order_id, OrderCancelled.topic, times=1)

    async def refused() -> dict[str, Any] | None:
        shown = await system.order(order.order_id)
        return shown if shown and "OrderRejected" in names(shown) else None

    shown = await eventually(refused, "refused")
    assert shown["status"] == "cancelled"
    assert [reason["code"] for reason in shown["reasons"]] == ["cancelled"]
    assert shown["invoice_number"] is None
    await balanced(system, [sku])


async def test_cancellations_and_orders_in_one_crowd(system: System) -> None:
    """Sixty orders and their cancellations, each twice and at once, straight from RabbitMQ."""
    skus = await system.stock_up(UNITS)
    orders = [new_order((skus[0], 1 + number % 3)) for number in range(60)]
    events = [event for order in orders for event in (order, cancellation(order))] * 2
    await asyncio.gather(*(system.publish(event) for event in events))
    await cancelled(system, *(order.order_id for order in orders))
    for order in orders:
        await system.handled("stock", order.order_id, OrderCreated.topic, times=2)
    await balanced(system, skus)


async def _available_after_count(system: System, sku: str, counted_at: datetime) -> int:
    adjustment = StockAdjusted(
        adjustment_id=uuid4(), sku=sku, mode="set", quantity=50, adjusted_at=counted_at
    )
    await system.publish(adjustment)
    adjustments = system.database("stock")["adjustments"]
    await eventually(lambda: adjustments.find_one({"_id": adjustment.adjustment_id}), "counted")
    available: int = (await system.database("stock")["levels"].find_one({"_id": sku}))["available"]
    return available


async def test_late_counts_know_of_reservation_and_release(system: System) -> None:
    """A count from between the two has the units on top, one from before or after has them as they are."""
    for is_between, expected in ((False, 50), (True, 53)):
        (sku,) = await system.stock_up(UNITS)
        before = utc_now()
        order = new_order((sku, 3))
        await system.publish(order)
        await system.settled(order.order_id)
        between = utc_now()
        await cancel(system, order.order_id)
        await cancelled(system, order.order_id)
        assert await _available_after_count(system, sku, between if is_between else before) == expected
    assert await _available_after_count(system, sku, utc_now()) == 50


async def test_command_cancels_an_order(system: System) -> None:
    """`orderflow order cancel` says what is stored; `order show` tells why; a rejected order is refused."""
    (sku,) = await system.stock_up(UNITS)
    order, refused = new_order((sku, 3)), new_order(("unknown-to-all", 1))
    for each in (order, refused):
        await system.publish(each)
        await system.settled(each.order_id)
    answer = await orderflow(system, "order", "cancel", str(order.order_id), "--reason", REASON)
    assert (answer.code, REASON in answer.out) == (0, True)
    await cancelled(system, order.order_id)
    shown = await orderflow(system, "order", "show", str(order.order_id))
    assert REASON in shown.out
    assert "CN-" in shown.out
    answer = await orderflow(system, "order", "cancel", str(refused.order_id), "--reason", REASON)
    assert answer.code == 2
    assert "is rejected" in answer.err


async def test_contact_that_the_cancellation_lacked_is_used(system: System) -> None:
    """A cancellation that says no address tells nobody; the refusal of the order, which has one, does."""
    (sku,) = await system.stock_up(UNITS)
    order = new_order((sku, 1), email="late@example.com")
    nobody = order.customer.model_copy(update={"email": None, "phone": None})
    await system.publish(cancellation(order).model_copy(update={"customer": nobody}))
    log = system.database("notifications")["notifications"]

    async def logged(event: str) -> bool:
        entries = await log.find({"order_id": order.order_id}).to_list(None)
        return [f"{event}_at" in entry["event"] for entry in entries] == [True]

    await eventually(lambda: logged("skipped"), "nobody was told")
    await system.publish(order)
    await eventually(lambda: logged("sent"), "the customer was told")
    await system.publish(cancellation(order).model_copy(update={"customer": nobody}))
    await system.handled("orders", order.order_id, "notification.sent.v1", times=2)
    assert await logged("sent")
