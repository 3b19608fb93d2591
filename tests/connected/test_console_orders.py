"""Orders in the console, as a browser without scripts meets them: search, look, cancel, publish again."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from html import unescape
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import httpx
import pytest
from aio_pika.abc import AbstractQueue
from conftest import PREFIX, System, body_of, eventually, names, new_order
from test_console_dead_letters import shown, signed_in, submit
from test_keys import made, with_key

from apps.billing.document import DOCUMENTS as BILLING_DOCUMENTS
from apps.billing.document import Invoice
from apps.billing.statements import MongoStatements
from apps.console.samples import sample_order
from apps.kit.clock import utc_now
from apps.kit.mongo import Database
from apps.kit.paging import Position
from apps.kit.topology import EVENTS
from apps.kit.wording import Language
from apps.orders.application import AcceptedOrder, OrderFilter
from apps.orders.document import received
from apps.orders.domain import Status
from apps.orders.mongo import DOCUMENTS, MongoOrderBook
from contracts import EVENTS as ALL_EVENTS
from contracts import OrderCreated

pytestmark = pytest.mark.connected

_PAYLOAD = re.compile(r'<details id="payload-([^"]+)">.*?<pre[^>]*>(.*?)</pre>', re.DOTALL)
_TOKEN = re.compile(r'name="csrf" value="([^"]+)"')
_ROW = re.compile(r'<tr id="order-([0-9a-f-]{36})"')
_PAGE = 50


@asynccontextmanager
async def wiretap(system: System) -> AsyncIterator[AbstractQueue]:
    """A copy of every event that is published meanwhile."""
    queue = await system.channel.declare_queue(exclusive=True)
    await queue.bind(EVENTS.name, "#")
    yield queue
    await queue.delete(if_unused=False, if_empty=False)


async def heard(tap: AbstractQueue, order_id: str) -> dict[str, Any]:
    """Every body about an order that really went over RabbitMQ, by message id."""
    bodies = {}
    while message := await tap.get(no_ack=True, fail=False):
        try:
            body = json.loads(message.body)
        except ValueError:
            continue
        # What was published broken is no event, and nobody announces it again.
        if body.get("order_id") == order_id and message.app_id != "a test":
            bodies[str(message.message_id)] = body
    return bodies


def payloads(answer: httpx.Response) -> dict[str, Any]:
    """The payloads on an order's page, by the event's id."""
    return {event_id: json.loads(unescape(text)) for event_id, text in _PAYLOAD.findall(answer.text)}


def listed(answer: httpx.Response) -> list[str]:
    """The ids of the orders in a list."""
    assert answer.status_code == 200, answer.text
    return _ROW.findall(answer.text)


async def place(system: System, order: OrderCreated) -> str:
    answer = await system.api.post("/v1/orders", json=body_of(order))
    assert answer.status_code == 202, answer.text
    order_id: str = answer.json()["order_id"]
    return order_id


async def placed(system: System, **given: Any) -> str:
    """An order for an article of its own, once it is through."""
    (sku,) = await system.stock_up(10)
    order = new_order((sku, 2), id=f"c-{uuid4().hex[:8]}", email="ana@example.com", country="BR")
    order_id = await place(system, order.model_copy(update=given))
    assert (await system.settled(order_id))["status"] == "notified"
    return order_id


async def test_every_payload_is_what_was_published(system: System) -> None:
    """What each app keeps is enough to show its events as they went over RabbitMQ, byte for byte as JSON."""
    async with wiretap(system) as tap, signed_in(system) as browser:
        cancelled = await placed(system)
        await system.api.post(f"/v1/orders/{cancelled}/cancel", json={"reason": "Too late."})
        (short,) = await system.stock_up(1)
        refused = await place(system, new_order((short, 2), ("no-such-sku", 1), phone="+5511987654321"))
        unreachable = await place(system, new_order((short, 1)))
        expected = {
            cancelled: {"OrderCreated", "OrderValidated", "InvoiceIssued", "NotificationSent"}
            | {"OrderCancelled", "InvoiceVoided"},
            refused: {"OrderCreated", "OrderRejected", "NotificationSent"},
            unreachable: {"OrderCreated", "OrderValidated", "InvoiceIssued", "NotificationSkipped"},
        }
        for order_id, wanted in expected.items():
            assert wanted <= names(await system.settled(order_id))
        published = {}
        while message := await tap.get(no_ack=True, fail=False):
            published[str(message.message_id)] = json.loads(message.body)

        for order_id in expected:
            order = await system.order(order_id)
            assert order is not None
            shown_payloads = payloads(await browser.get(f"/orders/{order_id}"))
            ids = [entry["event_id"] for entry in order["timeline"]]
            assert shown_payloads == {event_id: published[event_id] for event_id in ids}


async def test_dead_letters_of_an_order_are_shown_with_their_payloads(system: System) -> None:
    """What is open stands on the order's page; once it is dealt with, its two events stay in the timeline."""
    order_id = await placed(system)
    async with wiretap(system) as tap, signed_in(system) as browser:
        broken = {"order_id": order_id, "reason": "", "customer": {"id": "c-1"}}
        body = json.dumps(broken).encode()
        await system.publish_raw("order.cancelled.v1", body, message_id=str(uuid4()), app_id="a test")

        async def opened() -> list[dict[str, Any]]:
            return (await system.order(order_id) or {})["dead_letters"]

        letters = await eventually(opened, "its dead letters are open")
        page = await browser.get(f"/orders/{order_id}")
        assert f"/dead-letters/{letters[0]['dead_letter_id']}" in page.text
        assert letters[0]["reason"] in shown(page)

        async def all_closed() -> bool:
            for letter in await opened():
                address = f"/v1/dead-letters/{letter['dead_letter_id']}/discard"
                await system.api.post(address, json={"reason": "a test"})
            found = await system.database("recovery")["dead_letters"].count_documents(
                {"order_id": UUID(order_id), "state": "open"}
            )
            order = await system.order(order_id) or {}
            said = [entry["event"] for entry in order["timeline"]]
            opens, closes = (said.count(f"DeadLetter{what}") for what in ("Opened", "Closed"))
            return not found and not order["dead_letters"] and opens == closes > 0

        await eventually(all_closed, "its dead letters are closed")
        published = await heard(tap, order_id)
        shown_payloads = payloads(await browser.get(f"/orders/{order_id}"))
        told = {event_id for event_id, body in published.items() if "occurrence_id" in body}
        assert told
        assert {event_id: shown_payloads[event_id] for event_id in told} == {
            event_id: published[event_id] for event_id in told
        }


async def test_order_page_tells_what_every_app_did(system: System) -> None:
    """Lines, reservation, invoice with its PDF, mail, and what cancelling it in the browser undoes."""
    order_id = await placed(system)
    order = await system.order(order_id)
    assert order is not None
    sku, number = order["lines"][0]["sku"], order["invoice_number"]
    async with signed_in(system) as browser:
        page = shown(await browser.get(f"/orders/{order_id}"))
        for word in (sku, number, "£5.85", "reserved", "a***@example.com", "InvoiceIssued", "+"):
            assert word in page

        async def document(kind: str) -> httpx.Response | None:
            answer = await browser.get(f"/orders/{order_id}/{kind}.pdf")
            return answer if answer.status_code == 200 else None

        pdf = await eventually(lambda: document("invoice"), "the invoice as PDF")
        assert pdf.content.startswith(b"%PDF")
        assert pdf.headers["content-security-policy"] == "frame-ancestors 'self'"
        assert (await browser.get(f"/orders/{order_id}/credit-note.pdf")).status_code == 404

        refused = await submit(browser, f"/orders/{order_id}/cancel", reason="  ")
        assert refused.status_code == 422
        assert "Say why" in shown(refused)
        done = await submit(browser, f"/orders/{order_id}/cancel", reason="Ordered by <b>mistake</b>.")
        assert done.status_code == 303
        await eventually(lambda: document("credit-note"), "the credit note as PDF")
        await system.settled(order_id)
        answer = await browser.get(f"/orders/{order_id}")
        assert "Ordered by &lt;b&gt;mistake&lt;/b&gt;." in answer.text
        page = shown(answer)
        for word in ("cancelled", "released", "CN-", "InvoiceVoided"):
            assert word in page
        assert f"/orders/{order_id}/cancel" not in answer.text
        assert "cannot be taken back" not in shown(await browser.get(f"/orders/{order_id}/cancel"))


async def test_order_is_published_again_from_its_page(system: System) -> None:
    """The page says what goes out, and the apps hear it once more."""
    order_id = await placed(system)
    async with signed_in(system) as browser:
        assert "order.created.v1" in shown(await browser.get(f"/orders/{order_id}/resend"))
        done = await submit(browser, f"/orders/{order_id}/resend")

    assert done.status_code == 303
    await system.handled("stock", UUID(order_id), "order.created.v1", times=2)


async def test_search_finds_by_every_number(system: System) -> None:
    """Order id, invoice and credit note lead to the order; reference and customer to the list of theirs."""
    reference = f"R {uuid4().hex[:8]}/ä"
    order_id = await placed(system, reference=reference)
    customer = (await system.order(order_id) or {})["customer_id"]
    namesake = await placed(system, reference=customer)
    await system.api.post(f"/v1/orders/{order_id}/cancel", json={"reason": "any"})
    order = await system.settled(order_id)
    async with signed_in(system) as browser:

        async def found(text: str) -> httpx.Response:
            return await browser.get("/orders", params={"q": text, "status": "", "zone": "UTC"})

        credit_note = order["credit_note_number"].lower()
        for text in (order_id, order_id.upper(), f" {order['invoice_number']} ", credit_note):
            answer = await found(text)
            assert (answer.status_code, answer.headers["location"]) == (303, f"/console/orders/{order_id}")
        assert listed(await found(reference)) == [order_id]
        both = await found(customer)
        assert listed(both) == [namesake]
        assert f"/orders?q={quote(customer)}&amp;kind=customer" in both.text
        assert listed(await browser.get("/orders", params={"q": customer, "kind": "customer"})) == [order_id]
        for text in ("no such order", str(uuid4()), "2026-999999999"):
            answer = await found(text)
            assert listed(answer) == []
            assert "No order is found" in shown(answer)


async def test_list_is_filtered_and_paged(system: System) -> None:
    """By status, by time in a zone, and by what needs attention; each page holds what the others do not."""
    customer = f"c-{uuid4().hex[:8]}"
    order = new_order((f"no-such-sku-{customer}", 1), id=customer)
    ids = [await place(system, order) for _ in range(_PAGE + 3)]
    for order_id in ids:
        assert (await system.settled(order_id))["status"] == "rejected"
    async with signed_in(system) as browser:
        query = {"q": customer, "status": "rejected", "zone": "Asia/Tokyo"}
        query["since"] = f"{utc_now() + timedelta(hours=8):%Y-%m-%dT%H:%M}"
        first = await browser.get("/orders", params=query)
        assert listed(first) == ids[:2:-1]
        (following,) = re.findall(r'<a class="button" href="([^"]+)" rel="next">', first.text)
        second = await browser.get(unescape(following).removeprefix("/console"))
        assert listed(second) == ids[2::-1]
        assert 'rel="next"' not in second.text
        for nothing in ({"status": "notified"}, {"until": query["since"]}, {"stuck": "1"}):
            assert listed(await browser.get("/orders", params=query | nothing)) == []
        assert (await browser.get("/orders", params={"status": "lost"})).status_code == 422


async def test_stuck_orders_need_attention(system: System) -> None:
    """An order that nobody announced is in the list of those, with what it awaits."""
    order = new_order(("any", 1), id=f"c-{uuid4().hex[:8]}")
    book = MongoOrderBook(Database(system.mongo, f"{PREFIX}_orders"))
    late = AcceptedOrder(order, publish_at=utc_now() + timedelta(days=1))
    await book.accept(late)
    query = {"q": order.customer.id, "stuck": "1"}
    async with signed_in(system) as browser:

        async def shows() -> bool:
            answer = await browser.get("/orders", params=query)
            return listed(answer) == [str(order.order_id)] and "message to the customer" in shown(answer)

        await eventually(shows, "it needs attention")
    await system.publish(order)
    await system.settled(order.order_id)


async def test_reader_is_offered_nothing_and_refused_everything(system: System) -> None:
    """A key that may only read sees no button, and the server does not take its forms."""
    order_id = await placed(system)
    key = await made(system, "--scope", "orders:read")
    async with signed_in(system, key) as browser, signed_in(system) as operator:
        for way in ("/orders", f"/orders/{order_id}"):
            page = await browser.get(way)
            # The only form with a token is the one that ends the session.
            assert re.findall(r'<form method="post" action="([^"]*)"', page.text) == ["/console/sign-out"]
            for word in ("/cancel", "/resend", "/sample"):
                assert word not in page.text
        assert (await operator.get(f"/orders/{order_id}")).text.count("/cancel") == 1
        token = _TOKEN.findall((await browser.get("/orders")).text)[0]
        for way in (f"/orders/{order_id}/cancel", f"/orders/{order_id}/resend", "/orders/sample"):
            refused = await browser.post(way, data={"csrf": unescape(token), "reason": "any"})
            assert refused.status_code == 403
            assert "orders:write" in shown(refused)
    assert (await system.order(order_id) or {})["status"] == "notified"


async def test_bound_key_sees_only_its_clients_orders(system: System) -> None:
    """Whatever it looks for, the orders of others are not there, and neither are their PDFs."""
    others = await placed(system)
    other = await system.order(others) or {}
    key = await made(system, "--scope", "orders:read", "--scope", "orders:write", "--client", "acme")
    (sku,) = await system.stock_up(10)
    async with with_key(system, key) as api:
        order = new_order((sku, 1), id=other["customer_id"])
        own = (await api.post("/v1/orders", json=body_of(order))).json()["order_id"]
    await system.settled(own)
    async with signed_in(system, key) as browser:
        assert listed(await browser.get("/orders"))[0] == own
        assert others not in (await browser.get("/orders")).text
        assert listed(await browser.get("/orders", params={"q": other["customer_id"]})) == [own]
        for text in (others, other["invoice_number"]):
            assert listed(await browser.get("/orders", params={"q": text})) == []
        assert (await browser.get(f"/orders/{own}")).status_code == 200
        for way in ("", "/invoice.pdf", "/cancel", "/resend"):
            assert (await browser.get(f"/orders/{others}{way}")).status_code == 404


async def test_sample_order_is_placed_in_development(system: System) -> None:
    """Of what is on the shelves, for a customer who can be told."""
    await system.stock_up(100)
    async with signed_in(system) as browser:
        token = _TOKEN.findall((await browser.get("/orders")).text)[0]
        answer = await browser.post("/orders/sample", data={"csrf": unescape(token)})
        assert answer.status_code == 303
        order_id = answer.headers["location"].rpartition("/")[2]
        order = await system.settled(order_id)
        assert order["reference"].startswith("SAMPLE-")
        assert order["status"] in ("notified", "rejected")  # others may have taken the last one
        assert order["reference"] in shown(await browser.get(f"/orders/{order_id}"))


async def test_no_sample_order_of_empty_shelves(system: System) -> None:
    """Where nothing is available, there is nothing to order."""
    database = Database(system.mongo, f"orderflow_empty_{uuid4().hex[:8]}")

    assert await sample_order(database, Language.ENGLISH) is None


async def test_row_moves_by_itself(system: System) -> None:
    """Who looks at the list gets a new order as a row, and one who looks at an order its parts."""
    (sku,) = await system.stock_up(10)
    order = new_order((sku, 1), email="ana@example.com")
    async with signed_in(system) as browser, browser.stream("GET", "/live/orders", timeout=30) as stream:
        lines = stream.aiter_lines()
        await anext(lines)
        await system.publish(order)
        async for line in lines:
            if f'<tr id="order-{order.order_id}"' in line:
                break
        await system.settled(order.order_id)
        way = f"/live/orders/{order.order_id}"
        async with browser.stream("GET", way, timeout=30) as parts:
            async for line in parts.aiter_lines():
                if 'id="order-invoice"' in line:
                    break


@pytest.fixture
async def book(system: System) -> AsyncIterator[MongoOrderBook]:
    """Orders of the test's own: 2,000 of them, each status, and 200 of each customer."""
    database = Database(system.mongo, f"orderflow_console_{uuid4().hex[:8]}")
    await database.prepare(DOCUMENTS)
    template = new_order(("any", 1))
    documents = []
    for number in range(2000):
        changes = {"order_id": uuid4(), "placed_at": template.placed_at + timedelta(seconds=number)}
        document = received(AcceptedOrder(template.model_copy(update=changes), publish_at=utc_now()))
        document |= {"reference": f"r-{number % 10}", "customer_id": f"c-{number % 10}"}
        documents.append(document | {"rank": number % len(Status)})
    await database.client[database.name]["orders"].insert_many(documents)
    await database.client[database.name].command("profile", 2)
    yield MongoOrderBook(database)
    await system.mongo.drop_database(database.name)


async def profiled(book: MongoOrderBook, wanted: OrderFilter, after: Position | None) -> dict[str, Any]:
    """How MongoDB found a page of the list."""
    profile = book._database.client[book._database.name]["system.profile"]
    queries = {"op": "query", "ns": f"{book._database.name}.orders"}
    before = await profile.count_documents(queries)
    assert await book.list(wanted, after, _PAGE + 1)
    entries: list[dict[str, Any]] = await profile.find(queries).sort("$natural", 1).to_list()
    assert len(entries) == before + 1
    return entries[-1]


TIME = {
    "since": new_order(("any", 1)).placed_at + timedelta(seconds=500),
    "until": new_order(("any", 1)).placed_at + timedelta(seconds=1500),
}


@pytest.mark.parametrize("is_later", [False, True], ids=["first", "later"])
@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (OrderFilter(), "newest"),
        (OrderFilter(**TIME), "newest"),
        (OrderFilter(status=Status.NOTIFIED), "by_status"),
        (OrderFilter(status=Status.NOTIFIED, **TIME), "by_status"),
        (OrderFilter(customer_id="c-7"), "by_customer"),
        (OrderFilter(reference="r-7"), "by_reference"),
        (OrderFilter(customer_id="c-7", **TIME), "by_customer"),
    ],
    ids=["all", "time", "status", "status and time", "customer", "reference", "customer and time"],
)
async def test_a_page_costs_what_it_shows(
    book: MongoOrderBook, wanted: OrderFilter, index: str, *, is_later: bool
) -> None:
    """However many orders there are, and however far into the list: nothing is read but what is shown."""
    after = None
    if is_later:
        page = await book.list(wanted, None, 5)
        after = Position(page[-1].recorded_at, page[-1].id)

    entry = await profiled(book, wanted, after)

    assert index in json.dumps(entry["execStats"], default=str)
    assert "COLLSCAN" not in entry["planSummary"]
    assert not entry.get("hasSortStage")
    assert entry["docsExamined"] <= entry["nreturned"] + 1
    assert entry["keysExamined"] <= entry["nreturned"] + 5


async def test_number_of_an_invoice_is_found_by_its_index(system: System) -> None:
    """Among all invoices, the one is found without looking at others."""
    database = Database(system.mongo, f"orderflow_numbers_{uuid4().hex[:8]}")
    await database.prepare(BILLING_DOCUMENTS)
    invoices = database.collection(Invoice)
    ids = [uuid4() for _ in range(200)]
    await invoices.insert_many(
        [
            {"_id": order_id, "number": f"2026-{number:06}", "credit_note_number": f"CN-2026-{number:06}"}
            for number, order_id in enumerate(ids)
        ]
    )
    await database.client[database.name].command("profile", 2)

    statements = MongoStatements(database)
    assert await statements.order_of("2026-000007") == ids[7]
    assert await statements.order_of("CN-2026-000007") == ids[7]
    assert await statements.order_of("2026-999999") is None

    profile = database.client[database.name]["system.profile"]
    async for entry in profile.find({"op": "query", "ns": f"{database.name}.invoices"}):
        assert entry["docsExamined"] <= 1
    await system.mongo.drop_database(database.name)


def test_every_event_of_an_order_has_a_payload_to_show() -> None:
    """A new event must be looked at here: who announces it, and what is kept of it."""
    assert {event.__name__ for event in ALL_EVENTS if "order_id" in event.model_fields} == {
        "OrderCreated",
        "OrderCancelled",
        "OrderValidated",
        "OrderRejected",
        "InvoiceIssued",
        "InvoiceVoided",
        "NotificationSent",
        "NotificationSkipped",
        "NotificationFailed",
        "DeadLetterOpened",
        "DeadLetterClosed",
    }
