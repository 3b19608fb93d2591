"""An order's way through the whole system, whichever way it came in."""

import email
import json
from email.policy import default
from uuid import UUID

import pytest
from conftest import System, body_of, eventually, names, new_order

pytestmark = pytest.mark.connected


async def test_order_over_http_is_invoiced_and_mailed(system: System) -> None:
    """POST answers 202 at once; the order is reserved, invoiced, mailed and shown with all its events."""
    (sku,) = await system.stock_up(10)
    order = new_order((sku, 4), email="ana@example.com", name="Ana Souza", locale="pt-BR", country="BR")

    answer = await system.api.post("/v1/orders", json=body_of(order))

    assert answer.status_code == 202
    assert answer.json() == {
        "order_id": answer.json()["order_id"],
        "status": "received",
        "total": "10.00",
        "currency": "GBP",
    }
    order_id = answer.json()["order_id"]
    assert answer.headers["location"] == f"/v1/orders/{order_id}"
    shown = await system.settled(order_id)
    assert shown["status"] == "notified"
    assert names(shown) == {"OrderCreated", "OrderValidated", "InvoiceIssued", "NotificationSent"}
    assert shown["lines"][0]["quantity"] == 4
    invoice = await system.database("billing")["invoices"].find_one({"_id": UUID(order_id)})
    assert invoice["number"] == shown["invoice_number"]
    assert (invoice["event"]["subtotal"], invoice["event"]["tax"], invoice["event"]["total"]) == (
        "10.00",
        "1.70",
        "11.70",
    )
    level = await system.database("stock")["levels"].find_one({"_id": sku})
    assert (level["available"], level["reserved"]) == (6, 4)
    mails = [
        email.message_from_bytes(file.read_bytes(), policy=default)
        for file in system.stack.mails.glob("*.eml")
    ]
    (mail,) = [mail for mail in mails if shown["invoice_number"] in mail["Subject"]]
    assert mail["To"] == "Ana Souza <ana@example.com>"
    assert "11,70" in mail.get_body(("plain",)).get_content()


async def test_order_published_to_rabbitmq_needs_only_body_and_routing_key(system: System) -> None:
    """A direct publish without any property goes the same way and shows in the API like any other."""
    (sku,) = await system.stock_up(10)
    order = new_order((sku, 1), email="bo@example.com")

    await system.publish_bare(order)

    shown = await system.settled(order.order_id)
    assert shown["status"] == "notified"
    assert {entry["event"]: entry["event_id"] for entry in shown["timeline"]}["OrderCreated"] == str(
        order.event_id
    )


async def test_rejected_order_says_why_and_reserves_nothing(system: System) -> None:
    """One short and one unknown article refuse the whole order, and the customer is told."""
    (short,), (plenty,) = await system.stock_up(3), await system.stock_up(100)
    order = new_order((plenty, 5), (short, 2), (short, 2), ("no-such-sku", 1), email="cy@example.com")

    await system.publish(order)

    shown = await system.settled(order.order_id)
    assert shown["status"] == "rejected"
    assert shown["reasons"] == [
        {"code": "out_of_stock", "sku": short, "requested": 4, "available": 3},
        {"code": "unknown_sku", "sku": "no-such-sku", "requested": 1, "available": 0},
    ]
    assert names(shown) == {"OrderCreated", "OrderRejected", "NotificationSent"}
    levels = system.database("stock")["levels"]
    assert [level["reserved"] async for level in levels.find({"_id": {"$in": [short, plenty]}})] == [0, 0]


async def test_customer_with_a_phone_only_gets_an_sms(system: System) -> None:
    """Without an e-mail address the customer is told by SMS, and no number is stored in the log."""
    (sku,) = await system.stock_up(None)
    order = new_order((sku, 1), phone="+5511987654321")

    await system.publish(order)

    assert (await system.settled(order.order_id))["status"] == "notified"
    entry = await system.database("notifications")["notifications"].find_one({"order_id": order.order_id})
    assert entry["channel"] == "sms"
    assert "5511987654321" not in json.dumps(entry, default=str)


async def test_customer_without_contact_ends_as_unreachable(system: System) -> None:
    """An order that nobody can be told of still reaches a final status, and says so."""
    (sku,) = await system.stock_up(None)
    order = new_order((sku, 1))

    await system.publish(order)

    shown = await system.settled(order.order_id)
    assert shown["status"] == "unreachable"
    assert "NotificationSkipped" in names(shown)


async def test_no_personal_data_in_any_log(system: System) -> None:
    """Names, addresses and numbers of customers, valid or not, stand in no log of any app."""
    (sku,) = await system.stock_up(None)
    planted = {"email": "planted.address@example.com", "name": "Planted Name"}
    good = new_order((sku, 1), **planted)
    bad = json.loads(good.model_dump_json()) | {"total": "999.99"}
    await system.publish_raw("order.created.v1", json.dumps(bad).encode(), message_id=str(good.event_id))
    await system.publish(good)
    await system.settled(good.order_id)
    await system.dead_letters(str(good.event_id), 2)

    logs = "".join(log.read_text() for log in system.stack.logs.glob("*.log"))

    assert str(good.order_id) in logs
    assert "planted" not in logs.lower()


async def test_lists_page_through_all_orders_of_a_customer(system: System) -> None:
    """The cursor of each page leads to the next: every order once, newest first, also while more come in."""
    (sku,) = await system.stock_up(None)
    customer = f"c-{sku}"
    for _ in range(7):
        answer = await system.api.post("/v1/orders", json=body_of(new_order((sku, 1), id=customer)))
        assert answer.status_code == 202
    seen: list[str] = []
    cursor = None
    while True:
        query = {"customer_id": customer, "limit": 3} | ({"cursor": cursor} if cursor else {})
        page = (await system.api.get("/v1/orders", params=query)).json()
        seen += [order["order_id"] for order in page["orders"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        await system.api.post("/v1/orders", json=body_of(new_order((sku, 1), id=customer)))

    assert len(seen) == len(set(seen)) == 7

    async def filtered() -> bool:
        query = {"customer_id": customer, "status": "unreachable", "limit": 200}
        return len((await system.api.get("/v1/orders", params=query)).json()["orders"]) == 9

    await eventually(filtered, "all orders of the customer final")
