"""An order that one consumer missed while others got it is found, sent again, and ends as if nothing was."""

import email
import json
import re
from collections.abc import Awaitable
from email.policy import default
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from conftest import System, body_of, eventually, names, new_order
from test_commands import orderflow

from apps.kit.topology import EVENTS, inbox
from contracts import (
    DeadLetterClosed,
    DeadLetterOpened,
    Event,
    InvoiceIssued,
    InvoiceVoided,
    NotificationSent,
    OrderCancelled,
    OrderCreated,
    OrderRejected,
    OrderValidated,
)

pytestmark = pytest.mark.connected


async def _is_bound(system: System, queue: str) -> bool:
    """Whether events still reach a queue, as RabbitMQ itself says."""
    node = system.stack.rabbitmq
    async with httpx.AsyncClient(base_url=node.management_url, auth=node.login) as http:
        bindings = (await http.get(f"/api/queues/%2F/{queue}/bindings")).json()
    return any(binding["source"] == EVENTS.name for binding in bindings)


async def _is_missed(
    system: System, app: str, event: type[Event], order: OrderCreated, cause: Awaitable[Any]
) -> bool:
    """Let the order's event pass while the app's queue is not bound for it; whether that came about."""
    queue = await system.channel.get_queue(inbox(app, event).name, ensure=False)
    tap = await system.channel.declare_queue(exclusive=True)
    await tap.bind(EVENTS.name, event.topic)
    await queue.unbind(EVENTS.name, event.topic)
    await cause

    async def passed() -> bool:
        while message := await tap.get(no_ack=True, fail=False):
            if json.loads(message.body)["order_id"] == str(order.order_id):
                return True
        return False

    await eventually(passed, f"{event.topic} passed")
    # Only the app itself binds its queue again, and nobody but us unbinds it: unbound now, unbound then.
    is_missed = not await _is_bound(system, queue.name)
    await queue.bind(EVENTS.name, event.topic)
    await tap.delete()
    return is_missed


async def _new_order(system: System, *, available: int = 100) -> OrderCreated:
    """An order for 3 units of its own article, of a customer of its own."""
    (sku,) = await system.stock_up(available)
    return new_order((sku, 3), id=f"c-{uuid4()}", email=f"{uuid4()}@example.com")


async def _place_missed(
    system: System, app: str, event: type[Event], *, available: int = 100
) -> OrderCreated:
    """An order of which the event did not reach the app."""
    while True:
        order = await _new_order(system, available=available)
        if await _is_missed(system, app, event, order, system.publish(order)):
            return order


async def _cancel_missed(system: System, app: str, event: type[Event]) -> OrderCreated:
    """An order that was through and is cancelled, of which the event did not reach the app."""
    while True:
        order = await _new_order(system)
        await system.publish(order)
        await system.settled(order.order_id)
        cancel = system.api.post(f"/v1/orders/{order.order_id}/cancel", json={"reason": "Too late."})
        if await _is_missed(system, app, event, order, cancel):
            return order


async def _stuck(system: System, order: OrderCreated, awaits: list[str]) -> None:
    """Wait until the order is in the list of stuck orders, and awaits just that."""

    async def listed() -> bool:
        query = {"stuck": True, "customer_id": order.customer.id}
        found = (await system.api.get("/v1/orders", params=query)).json()["orders"]
        return [(one["order_id"], one["awaits"]) for one in found] == [(str(order.order_id), awaits)]

    await eventually(listed, f"order {order.order_id} stuck without {awaits}")


def _mails_to(system: System, address: str | None) -> int:
    mails = [
        email.message_from_bytes(file.read_bytes(), policy=default)
        for file in system.stack.mails.glob("*.eml")
    ]
    return sum(mail["To"] == address for mail in mails)


@pytest.mark.parametrize(
    ("app", "event", "awaits"),
    [
        ("stock", OrderCreated, ["stock", "invoice", "notification"]),
        ("billing", OrderValidated, ["invoice", "notification"]),
        ("notifications", InvoiceIssued, ["notification"]),
        ("notifications", OrderRejected, ["notification"]),
        ("orders", OrderCreated, ["order"]),
        ("orders", OrderValidated, ["stock"]),
        ("orders", OrderRejected, ["stock", "invoice"]),
        ("orders", InvoiceIssued, ["invoice"]),
        ("orders", NotificationSent, ["notification"]),
    ],
    ids=lambda value: getattr(value, "__name__", value if isinstance(value, str) else ""),
)
async def test_order_that_a_consumer_missed_is_found_and_sent_again(
    system: System, app: str, event: type[Event], awaits: list[str]
) -> None:
    """Whoever missed an event gets it by a resend; nothing is reserved, invoiced or mailed twice."""
    is_refused = event is OrderRejected
    order = await _place_missed(system, app, event, available=0 if is_refused else 100)
    await _stuck(system, order, awaits)

    answer = await system.api.post(f"/v1/orders/{order.order_id}/resend")

    assert answer.status_code == 202
    assert answer.json()["event_id"] == str(order.event_id)
    shown = await system.settled(order.order_id)
    outcomes = {"OrderRejected"} if is_refused else {"OrderValidated", "InvoiceIssued"}
    assert names(shown) == {"OrderCreated", *outcomes, "NotificationSent"}
    assert shown["status"] == ("rejected" if is_refused else "notified")
    assert [line["quantity"] for line in shown["lines"]] == [3]
    # Where the whole flow had passed, it passes again: only then is it known that nothing came of that.
    news = OrderRejected if is_refused else InvoiceIssued
    await system.handled("notifications", order.order_id, news.topic, times=2 if app == "orders" else 1)
    assert _mails_to(system, order.customer.email) == 1
    invoices = system.database("billing")["invoices"]
    assert await invoices.count_documents({"_id": order.order_id}) == (0 if is_refused else 1)
    log = system.database("notifications")["notifications"]
    assert await log.count_documents({"order_id": order.order_id}) == 1
    level = await system.database("stock")["levels"].find_one({"_id": order.lines[0].sku})
    assert (level["available"], level["reserved"]) == ((0, 0) if is_refused else (97, 3))
    query = {"stuck": True, "customer_id": order.customer.id}
    assert (await system.api.get("/v1/orders", params=query)).json()["orders"] == []


@pytest.mark.parametrize(
    ("app", "event", "awaits"),
    [
        ("billing", OrderCancelled, ["credit_note"]),
        ("notifications", OrderCancelled, ["notification"]),
        ("notifications", InvoiceVoided, ["notification"]),
        ("orders", OrderCancelled, ["cancellation"]),
        ("orders", InvoiceVoided, ["credit_note"]),
    ],
    ids=lambda value: getattr(value, "__name__", value if isinstance(value, str) else ""),
)
async def test_cancellation_that_a_consumer_missed_is_found_and_sent_again(
    system: System, app: str, event: type[Event], awaits: list[str]
) -> None:
    """Whoever missed it hears of it by a resend: one credit note, and one mail of each kind."""
    order = await _cancel_missed(system, app, event)
    await _stuck(system, order, awaits)

    answer = await system.api.post(f"/v1/orders/{order.order_id}/resend")

    assert answer.status_code == 202
    shown = await system.settled(order.order_id)
    assert shown["status"] == "cancelled"
    assert shown["credit_note_number"].startswith("CN-")
    assert {"OrderCancelled", "InvoiceVoided"} <= names(shown)
    # Where notifications heard of the credit note before, it hears of it again: only then is it known that
    # nothing came of that.
    first_time = app == "billing" or (app, event) == ("notifications", InvoiceVoided)
    times = 1 if first_time else 2
    await system.handled("notifications", order.order_id, InvoiceVoided.topic, times=times)
    assert _mails_to(system, order.customer.email) == len(["invoice", "cancellation", "credit note"])
    invoice = await system.database("billing")["invoices"].find_one({"_id": order.order_id})
    assert invoice["credit_note_number"] == shown["credit_note_number"]
    level = await system.database("stock")["levels"].find_one({"_id": order.lines[0].sku})
    assert (level["available"], level["reserved"]) == (100, 0)


async def test_stuck_orders_are_listed_and_sent_again_from_the_command_line(system: System) -> None:
    """`order list --stuck` says what each order awaits; `order resend` heals one, or all at once."""
    one = await _place_missed(system, "billing", OrderValidated)
    other = await _place_missed(system, "notifications", InvoiceIssued)
    await _stuck(system, one, ["invoice", "notification"])
    await _stuck(system, other, ["notification"])
    metrics = (await system.api.get("/metrics")).text
    (stuck,) = re.findall(r"^orderflow_stuck_orders (\S+)$", metrics, re.MULTILINE)
    assert float(stuck) >= 2

    listed = await orderflow(system, "order", "list", "--stuck", "--customer", one.customer.id)
    assert str(one.order_id) in listed.out
    assert "invoice, notification" in listed.out
    resent = await orderflow(system, "order", "resend", str(one.order_id), "no-such-order")
    assert (resent.code, resent.out) == (2, "1 order published again\n")
    assert "no-such-order: order_id: " in resent.err
    await system.settled(one.order_id)

    resent = await orderflow(system, "order", "resend", "--stuck")
    assert re.fullmatch(r"[1-9]\d* orders? published again\n", resent.out), resent.err
    assert (await system.settled(other.order_id))["status"] == "notified"
    assert (await orderflow(system, "order", "resend")).code == 2


async def test_order_that_is_not_known_by_its_content_is_not_sent_again(system: System) -> None:
    """Of an order whose dead letter is all that was heard of, there is nothing to publish again."""
    order_id = uuid4()
    changes = {"order_id": order_id, "occurrence_id": uuid4()}
    await system.publish(DeadLetterOpened.model_validate(DeadLetterOpened.example | changes))

    async def known() -> bool:
        return await system.order(order_id) is not None

    await eventually(known, "order known by its dead letter")
    answer = await system.api.post(f"/v1/orders/{order_id}/resend")
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    assert (await system.api.post(f"/v1/orders/{uuid4()}/resend")).status_code == 404
    # So that it stays in no later test's list.
    await system.publish(DeadLetterClosed.model_validate(DeadLetterClosed.example | changes))
    await _dead_letters(system, order_id, 0)


async def test_order_shows_its_open_dead_letters(system: System) -> None:
    """What waits for an operator stands in the order itself until it is dealt with; the status stays."""
    (sku,) = await system.stock_up(None)
    answer = await system.api.post("/v1/orders", json=body_of(new_order((sku, 1))))
    order_id = UUID(answer.json()["order_id"])
    status = (await system.settled(order_id))["status"]
    deaths = [{"order_id": order_id, "occurrence_id": uuid4()} for _ in range(2)]

    for death in deaths:
        await system.publish(DeadLetterOpened.model_validate(DeadLetterOpened.example | death))

    await _dead_letters(system, order_id, 2)
    shown = await orderflow(system, "order", "show", str(order_id))
    assert DeadLetterOpened.example["dead_letter_id"] in shown.out
    assert "billing.order-validated" in shown.out
    await system.publish(DeadLetterClosed.model_validate(DeadLetterClosed.example | deaths[0]))
    await _dead_letters(system, order_id, 1)
    order = await system.order(order_id)
    assert order is not None
    assert order["status"] == status
    assert order["awaits"] == []
    await system.publish(DeadLetterClosed.model_validate(DeadLetterClosed.example | deaths[1]))
    await _dead_letters(system, order_id, 0)


async def _dead_letters(system: System, order_id: UUID, count: int) -> None:
    """Wait until the order has so many open dead letters, in its view and in its summary."""

    async def check() -> bool:
        order = await system.order(order_id)
        return order is not None and order["open_dead_letters"] == len(order["dead_letters"]) == count

    await eventually(check, f"{count} open dead letters of order {order_id}")
