"""Logs and metrics name no customer: what is planted in a run of all apps, at `debug`, shows in neither."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aio_pika
import httpx
import pytest
from conftest import SETTINGS, System, body_of, eventually, new_order
from pymongo import AsyncMongoClient
from receiver import Receiver, answer, receiving
from test_smtp import MailServer
from test_twilio import Provider

from apps.cli.api_client import bearer
from apps.cli.local.ports import LOOPBACK
from apps.cli.local.stack import API, WORKERS, LocalStack
from contracts import OrderCreated

pytestmark = pytest.mark.connected

NAME = "Zqanna Plantwood"
EMAIL = "zqmail.plantwood@planted.example"
PHONE = "+447700900123"
STREET = "7 Zqstreet, Plantham"
REFERENCE = "ZQREF-9931"
CUSTOMER = "ZQCUST-77"
UNSTORABLE = "Zqunstorable Plantwood"
"""A customer whose orders MongoDB refuses: its errors quote the whole document."""
PLANTED = ("zq", "plantwood", "7700900123", "plantham")
"""In small letters, what all of them can be told by: no id of ours is spelled so, and no masked recipient."""

ECHO = f"<{EMAIL}> {NAME} {PHONE} {STREET}"


class Watched(System):
    """A system of its own, whose every app logs all it can."""

    def database(self, app: str) -> Any:
        return self.mongo[f"{self.stack.home.name}_{app}"]

    @property
    def log(self) -> str:
        return "\n".join(file.read_text() for file in sorted(self.stack.logs.glob("*.log")))


def planted(*lines: tuple[str, int], **customer: Any) -> dict[str, Any]:
    """An order as JSON in which every text is a customer's own."""
    order = new_order(*lines, id=CUSTOMER, name=NAME, **customer).model_dump(mode="json")
    for line in order["lines"]:
        line["description"] = STREET
    return order | {"reference": REFERENCE, "shipping_address": STREET}


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as provider:
        thread = threading.Thread(target=provider.serve_forever)
        thread.start()
        yield provider
        provider.shutdown()
        thread.join()


@pytest.fixture
async def mails() -> AsyncIterator[MailServer]:
    server = MailServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def watched(
    system: System, mails: MailServer, provider: Provider, tmp_path: Path
) -> AsyncIterator[Watched]:
    """Every app once more, on a virtual host and databases of its own."""
    name = f"watched_{uuid4().hex[:8]}"
    url = await asyncio.to_thread(system.stack.rabbitmq.create_vhost, name)
    settings = {
        "ORDERFLOW_LOG_LEVEL": "debug",
        "ORDERFLOW_DATABASE_PREFIX": name,
        "ORDERFLOW_SMTP_HOST": LOOPBACK,
        "ORDERFLOW_SMTP_PORT": str(mails.port),
    }
    by_sms = {
        "ORDERFLOW_TWILIO_ACCOUNT_SID": "AC00000000000000000000000000000000",
        "ORDERFLOW_TWILIO_AUTH_TOKEN": "secret-token",
        "ORDERFLOW_TWILIO_FROM": "+15005550006",
        "ORDERFLOW_TWILIO_URL": f"http://{LOOPBACK}:{provider.server_port}",
    }
    stack = LocalStack(
        tmp_path / name,
        environment=SETTINGS | settings,
        environment_of={"notifications": by_sms},
        rabbitmq_url=url,
        mongodb_url=system.stack.mongodb_url,
    )
    async with AsyncExitStack() as undo:
        undo.push_async_callback(asyncio.to_thread, system.stack.rabbitmq.delete_vhost, name)
        await undo.enter_async_context(stack)
        mongo: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
            stack.mongodb_url, tz_aware=True, uuidRepresentation="standard", readConcernLevel="majority"
        )
        undo.push_async_callback(mongo.close)
        connection = await undo.enter_async_context(await aio_pika.connect_robust(url))
        api = await undo.enter_async_context(
            httpx.AsyncClient(base_url=stack.api_url, headers=bearer(stack.api_key), timeout=15)
        )
        yield Watched(stack, api, mongo, await connection.channel(on_return_raises=True))


async def place(watched: Watched, order: dict[str, Any]) -> UUID:
    """An order over HTTP; returns its id."""
    body = {name: value for name, value in order.items() if name not in {"order_id", "placed_at"}}
    placed = await watched.api.post("/v1/orders", json=body, headers={"Idempotency-Key": f"{NAME} {uuid4()}"})
    assert placed.status_code == 202, placed.text
    return UUID(placed.json()["order_id"])


async def dead(watched: Watched, order_id: UUID | str, queue: str) -> None:
    """Wait until a message of an order is archived as dead."""
    letters = watched.database("recovery")["dead_letters"]
    named = {"$or": [{"correlation_id": str(order_id)}, {"message_id": str(order_id)}], "queue": queue}

    async def archived() -> bool:
        return await letters.count_documents(named) > 0

    await eventually(archived, f"dead letter in {queue}", 60)


async def customers_are_told(watched: Watched, mails: MailServer, provider: Provider, sku: str) -> None:
    """Mails and texts that arrive, are put off, and are refused in words that quote the recipient."""
    told = await place(watched, planted((sku, 1), email=EMAIL))
    assert (await watched.settled(told))["status"] == "notified"
    cancelled = await watched.api.post(f"/v1/orders/{told}/cancel", json={"reason": STREET})
    assert cancelled.status_code == 202
    await watched.handled("orders", told, "invoice.voided.v1", times=1)

    mails.answers["RCPT"] = f"550 5.1.1 {ECHO}: no such user"
    refused = await place(watched, planted((sku, 1), email=EMAIL))
    assert (await watched.settled(refused))["status"] == "unreachable"
    mails.answers["RCPT"] = f"450 4.2.1 {ECHO}: try again"
    put_off = await place(watched, planted((sku, 1), email=EMAIL))
    await dead(watched, put_off, "notifications.invoice-issued")
    mails.answers = {"DATA": f"554 5.7.1 {ECHO}: no spam"}
    refused = await place(watched, planted((sku, 1), email=EMAIL))
    assert (await watched.settled(refused))["status"] == "unreachable"
    mails.answers = {}
    mails.after_the_content = "hangs up"
    unanswered = await place(watched, planted((sku, 1), email=EMAIL))
    await dead(watched, unanswered, "notifications.invoice-issued")
    mails.after_the_content = "answers"

    texted = await place(watched, planted((sku, 1), phone=PHONE))
    assert (await watched.settled(texted))["status"] == "notified"
    for code, ends in ((21211, "unreachable"), (99_999, "dead")):
        provider.status = 400
        provider.answer = {"code": code, "message": ECHO, "status": 400}
        order_id = await place(watched, planted((sku, 1), phone=PHONE))
        if ends == "dead":
            await dead(watched, order_id, "notifications.invoice-issued")
        else:
            assert (await watched.settled(order_id))["status"] == ends
    provider.status = 201


async def messages_are_bad(watched: Watched, sku: str) -> None:
    """Bodies that nobody can read, that break the contract in each field, and that no queue wants."""
    good = planted((sku, 1), email=EMAIL)
    bad = {
        "no json": ECHO.encode(),
        "half": json.dumps(good).encode()[:-20],
        "email": json.dumps(good | {"customer": {"id": CUSTOMER, "email": NAME}}).encode(),
        "phone": json.dumps(good | {"customer": {"id": CUSTOMER, "phone": ECHO}}).encode(),
        "locale": json.dumps(good | {"customer": {"id": CUSTOMER, "locale": NAME}}).encode(),
        "customer": json.dumps(good | {"customer": NAME}).encode(),
        "quantity": json.dumps(good | {"lines": [{**good["lines"][0], "quantity": NAME}]}).encode(),
        "total": json.dumps(good | {"total": ECHO}).encode(),
        "placed_at": json.dumps(good | {"placed_at": NAME}).encode(),
        "order_id": json.dumps(good | {"order_id": EMAIL}).encode(),
    }
    topic = OrderCreated.topic
    ids = {what: str(uuid4()) for what in bad}
    for what, body in bad.items():
        headers = {"customer": ECHO, "traceparent": NAME}
        await watched.publish_raw(topic, body, message_id=ids[what], headers=headers)
    contradicted = await place(watched, planted((sku, 1)))
    await watched.settled(contradicted)
    again = planted((sku, 2), email=EMAIL) | {"order_id": str(contradicted)}
    await watched.publish_raw(topic, json.dumps(again).encode())
    await dead(watched, contradicted, "stock.order-created")
    await watched.publish_raw("order.lost.v1", json.dumps(good).encode(), message_id="lost")
    for message_id in ids.values():
        await dead(watched, message_id, "stock.order-created")
        await dead(watched, message_id, "orders.order-created")

    listed = (await watched.api.get("/v1/dead-letters?limit=2")).json()
    first, second = (letter["dead_letter_id"] for letter in listed["dead_letters"])
    replayed = await watched.api.post(f"/v1/dead-letters/{first}/replay?force=true")
    given_up = await watched.api.post(f"/v1/dead-letters/{second}/discard", json={"reason": STREET})
    assert (replayed.status_code, given_up.status_code) == (200, 200), (replayed.text, given_up.text)


async def requests_are_bad(watched: Watched, sku: str) -> None:
    """Problems over HTTP: in the body, in parameters, in headers, and for want of a right."""
    good = body_of(OrderCreated.model_validate(planted((sku, 1), email=EMAIL)))
    key = {"Idempotency-Key": NAME}
    assert (await watched.api.post("/v1/orders", json=good, headers=key)).status_code == 202
    for body in (
        good | {"reference": f"{REFERENCE}-2"},
        good | {"customer": {"id": CUSTOMER, "email": NAME}},
        good | {"customer": NAME},
        good | {"total": ECHO},
        good | {NAME: ECHO},
        ECHO,
    ):
        assert (await watched.api.post("/v1/orders", json=body, headers=key)).status_code < 500
    await watched.api.post("/v1/orders", content=ECHO.encode(), headers={"Content-Type": "application/json"})
    await watched.api.get("/v1/orders", params={"customer_id": CUSTOMER, "reference": REFERENCE})
    await watched.api.get("/v1/orders", params={"cursor": EMAIL, "status": NAME})
    await watched.api.get(f"/v1/orders/{EMAIL}")
    await watched.api.get(f"/{NAME}/{EMAIL}")
    await watched.api.get("/v1/orders", headers={"Authorization": f"Bearer {NAME}", "X-Request-Id": EMAIL})
    for state in (f"{NAME}, {EMAIL}", f"shop={EMAIL}"):  # one that cannot be read, and one that can
        trace = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01", "tracestate": state}
        await watched.api.get("/v1/orders", headers=trace)


async def store_refuses(watched: Watched, sku: str) -> None:
    """MongoDB refuses documents, in errors that quote them, to the ingress and to workers alike."""
    for app, collection, field in (
        ("orders", "orders", "content.customer.name"),
        ("billing", "invoices", "event.customer.name"),
    ):
        await watched.database(app).command(
            "collMod", collection, validator={field: {"$ne": UNSTORABLE}}, validationLevel="strict"
        )
    order = planted((sku, 1), email=EMAIL)
    order["customer"]["name"] = UNSTORABLE
    body = {name: value for name, value in order.items() if name not in {"order_id", "placed_at"}}
    assert (await watched.api.post("/v1/orders", json=body)).status_code >= 500
    await watched.publish_raw(OrderCreated.topic, json.dumps(order).encode())
    await dead(watched, order["order_id"], "orders.order-created")
    await dead(watched, order["order_id"], "billing.order-validated")


async def test_no_customer_in_logs_and_metrics(
    watched: Watched, mails: MailServer, provider: Provider, http_receivers: tuple[Receiver, Receiver]
) -> None:
    """Names, addresses, numbers and references stay out, whatever succeeds, fails or is refused."""
    (sku,) = await watched.stock_up(None)
    takes, refuses = http_receivers
    for receiver in http_receivers:
        registered = await watched.api.post("/v1/webhook-endpoints", json={"url": receiver.url})
        assert registered.status_code == 201, registered.text
    await customers_are_told(watched, mails, provider, sku)
    await messages_are_bad(watched, sku)
    await requests_are_bad(watched, sku)
    await store_refuses(watched, sku)
    await takes.received(10)
    await refuses.received(3)

    assert any(EMAIL in recipient for recipient in mails.recipients), "nothing was planted in mails"
    assert any(NAME.encode() in request.body for request in takes.requests), "nothing was planted in webhooks"
    log = watched.log
    for told in ("will be tried again", "dead letter", "attempted", "refused", "MongoDB did not serve"):
        assert told in log, f"the log does not tell of {told!r}"
    leaks = [line for line in log.splitlines() if any(text in line.lower() for text in PLANTED)]
    assert leaks == []

    async with httpx.AsyncClient(timeout=15, follow_redirects=True, trust_env=False) as http:
        for process in (API, *WORKERS):
            url = watched.stack.supervisor.ready_url(process).replace("/health/ready", "/metrics")
            shown = (await http.get(url)).raise_for_status().text.lower()
            assert not [text for text in PLANTED if text in shown], process


@pytest.fixture
async def http_receivers() -> AsyncIterator[tuple[Receiver, Receiver]]:
    """A customer's system that takes everything, and one that refuses it in words that quote it."""
    async with receiving() as takes, receiving(answer(500, ECHO, X_Echo=EMAIL)) as refuses:
        yield takes, refuses
