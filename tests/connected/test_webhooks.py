"""Webhooks against real receivers: signed, repeated, put off, given up, and never in each other's way."""

import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext
from typing import Any
from uuid import UUID, uuid4

import pytest
from conftest import System, eventually, new_order
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from receiver import HANG, Receiver, answer, receiving
from standardwebhooks import Webhook, WebhookVerificationError
from test_commands import orderflow

from contracts import OrderCreated, OrderRejected, WebhookEndpointDisabled

pytestmark = pytest.mark.connected

ENDPOINTS = "/v1/webhook-endpoints"


@asynccontextmanager
async def endpoint(system: System, receiver: Receiver, *event_types: str) -> AsyncIterator[dict[str, Any]]:
    """The receiver registered for as long as the context is open."""
    body = {"url": receiver.url, "event_types": list(event_types)}
    registered = await system.api.post(ENDPOINTS, json=body)
    assert registered.status_code == 201, registered.text
    try:
        yield registered.json()
    finally:
        await system.api.delete(f"{ENDPOINTS}/{registered.json()['endpoint_id']}")


async def log_of(system: System, registered: dict[str, Any], **query: Any) -> list[dict[str, Any]]:
    answered = await system.api.get(f"{ENDPOINTS}/{registered['endpoint_id']}/deliveries", params=query)
    assert answered.status_code == 200, answered.text
    found: list[dict[str, Any]] = answered.json()["deliveries"]
    return found


async def ended(system: System, registered: dict[str, Any], state: str, attempts: int) -> dict[str, Any]:
    """The only delivery of an endpoint, once it is in that state after so many attempts."""

    async def check() -> dict[str, Any] | None:
        found = await log_of(system, registered)
        is_there = len(found) == 1 and (found[0]["state"], len(found[0]["attempts"])) == (state, attempts)
        return found[0] if is_there else None

    delivery: dict[str, Any] = await eventually(check, f"{state} after {attempts} attempts")
    return delivery


def self_signed(directory: Path) -> SSLContext:
    """The TLS settings of a server with a certificate of its own making."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .sign(key, SHA256())
    )
    pem = directory / "server.pem"
    pem.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + certificate.public_bytes(Encoding.PEM)
    )
    tls = SSLContext(PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pem)
    return tls


async def send_test(system: System, registered: dict[str, Any]) -> dict[str, Any]:
    sent = await system.api.post(f"{ENDPOINTS}/{registered['endpoint_id']}/test")
    assert sent.status_code == 202, sent.text
    delivery: dict[str, Any] = sent.json()
    return delivery


async def test_event_is_delivered_signed_and_only_to_who_wants_it(system: System) -> None:
    """A receiver gets what it asked for under the event's id, and the standard's own library verifies it."""
    order = new_order((f"unknown-{uuid4().hex}", 1))
    async with (
        receiving(answer(200, "x" * 5000)) as wants_rejected,
        receiving() as wants_all,
        endpoint(system, wants_rejected, OrderRejected.topic) as registered,
        endpoint(system, wants_all),
    ):
        await system.publish(order)
        (request,) = await wants_rejected.received(1)
        everything = await wants_all.received(2)

        event = Webhook(registered["secret"]).verify(request.body, dict(request.headers))
        assert (event["type"], event["data"]["order_id"]) == (OrderRejected.topic, str(order.order_id))
        assert request.headers["content-type"] == "application/json"
        ids = {one.content["type"]: one.headers["webhook-id"] for one in everything}
        assert ids[OrderCreated.topic] == str(order.event_id)
        delivery = await ended(system, registered, "delivered", 1)
        (attempt,) = delivery["attempts"]
        assert (attempt["status"], attempt["error"], attempt["answer"]) == (200, None, "x" * 1024)
        assert delivery["webhook_id"] == request.headers["webhook-id"]
        assert "secret" not in (await system.api.get(f"{ENDPOINTS}/{registered['endpoint_id']}")).json()


async def test_repeated_event_is_delivered_once(system: System) -> None:
    """RabbitMQ delivers at least once; a receiver sees the event under one id and one delivery."""
    order = new_order((f"unknown-{uuid4().hex}", 1))
    async with receiving() as receiver, endpoint(system, receiver, OrderCreated.topic) as registered:
        for _ in range(3):
            await system.publish(order)
        await system.handled("webhooks", order.order_id, OrderCreated.topic, times=3)

        await ended(system, registered, "delivered", 1)
        assert len(receiver.requests) == 1


async def test_failure_is_tried_again_with_the_same_id_and_bytes(system: System) -> None:
    """A redirection and a 500 are failures; each attempt has the same id and body, and its own signature."""
    async with receiving() as elsewhere, receiving() as receiver, endpoint(system, receiver) as registered:
        receiver.answers = [answer(302, Location=elsewhere.url), answer(500, "out of order")]

        await send_test(system, registered)
        delivery = await ended(system, registered, "delivered", 3)

        assert [attempt["status"] for attempt in delivery["attempts"]] == [302, 500, 204]
        assert delivery["attempts"][1]["answer"] == "out of order"
        assert len({(request.headers["webhook-id"], request.body) for request in receiver.requests}) == 1
        for request in receiver.requests:
            Webhook(registered["secret"]).verify(request.body, dict(request.headers))
        assert elsewhere.requests == []


async def test_retry_after_puts_the_next_attempt_off(system: System) -> None:
    """A receiver that asks for two seconds is left alone for two seconds."""
    async with receiving() as receiver, endpoint(system, receiver) as registered:
        receiver.answers = [answer(429, Retry_After="2")]

        await send_test(system, registered)
        first, second = await receiver.received(2)

        assert second.at - first.at >= 1.9


async def test_410_disables_and_other_endpoints_hear_of_it(system: System) -> None:
    """Who is gone gets nothing more, until it is enabled again; WebhookEndpointDisabled is published."""
    async with (
        receiving(answer(410)) as gone,
        receiving() as watcher,
        endpoint(system, watcher, "webhook.endpoint-disabled.v1"),
        endpoint(system, gone, OrderCreated.topic) as registered,
    ):
        await send_test(system, registered)
        (request,) = await watcher.received(1)

        told = request.content["data"]
        assert (told["endpoint_id"], told["reason"]) == (registered["endpoint_id"], "gone")
        assert told["last_error"] == "answered 410"
        path = f"{ENDPOINTS}/{registered['endpoint_id']}"
        shown = (await system.api.get(path)).json()
        assert (shown["enabled"], shown["disabled_reason"]) == (False, "gone")
        await ended(system, registered, "failed", 1)
        assert (await system.api.post(f"{path}/test")).status_code == 409

        gone.always = answer(200)
        enabled = (await system.api.patch(path, json={"enabled": True})).json()
        assert (enabled["enabled"], enabled["disabled_reason"], enabled["last_error"]) == (True, None, None)
        (failed,) = await log_of(system, registered, state="failed")
        resent = await system.api.post(f"/v1/webhook-deliveries/{failed['delivery_id']}/resend")
        assert resent.status_code == 202
        await ended(system, registered, "delivered", 2)
        assert {one.headers["webhook-id"] for one in gone.requests} == {failed["webhook_id"]}


async def test_what_happens_while_an_endpoint_is_disabled_can_be_resent(system: System) -> None:
    """Disabled for its failures it misses nothing for good; disabled by hand it is told nothing."""
    async with (
        receiving(answer(410)) as receiver,
        endpoint(system, receiver, OrderCreated.topic) as registered,
    ):
        path = f"{ENDPOINTS}/{registered['endpoint_id']}"
        await send_test(system, registered)
        await ended(system, registered, "failed", 1)
        missed = new_order((f"unknown-{uuid4().hex}", 1))
        await system.publish(missed)

        async def is_kept() -> dict[str, Any] | None:
            latest = (await log_of(system, registered))[0]
            is_missed = latest["webhook_id"] == str(missed.event_id) and latest["state"] == "failed"
            return latest if is_missed else None

        kept = await eventually(is_kept, "the order that it missed is in its log")
        assert [attempt["error"] for attempt in kept["attempts"]] == ["the endpoint is disabled"]
        assert len(receiver.requests) == 1

        receiver.always = answer(200)
        await system.api.patch(path, json={"enabled": True})
        resent = await system.api.post(f"/v1/webhook-deliveries/{kept['delivery_id']}/resend")
        assert resent.status_code == 202
        *_, request = await receiver.received(2)
        assert request.headers["webhook-id"] == str(missed.event_id)

        await system.api.patch(path, json={"enabled": False})
        unwanted = new_order((f"unknown-{uuid4().hex}", 1))
        await system.publish(unwanted)
        await system.handled("webhooks", unwanted.order_id, OrderCreated.topic, times=1)
        log = await log_of(system, registered)
        assert str(unwanted.event_id) not in {delivery["webhook_id"] for delivery in log}


async def test_five_days_of_failure_disable(system: System) -> None:
    """One more failure after five days without any success is the last; one after a success is not."""
    stored = system.database("webhooks")["endpoints"]
    async with (
        receiving() as receiver,
        receiving() as watcher,
        endpoint(system, watcher, "webhook.endpoint-disabled.v1"),
        endpoint(system, receiver) as registered,
    ):
        mine = {"_id": UUID(registered["endpoint_id"])}
        now = datetime.now(UTC)
        since = {
            "failing_since": now - timedelta(days=5, seconds=1),
            "last_failed_at": now - timedelta(hours=12),
        }
        long_ago = {"$set": since}
        await stored.update_one(mine, long_ago)
        await send_test(system, registered)
        await ended(system, registered, "delivered", 1)
        assert (await stored.find_one(mine))["failing_since"] is None

        receiver.always = answer(503)
        await stored.update_one(mine, long_ago)
        await send_test(system, registered)

        (request,) = await watcher.received(1)
        assert request.content["data"]["reason"] == "failing"
        document = await stored.find_one(mine)
        assert (document["enabled"], document["last_error"]) == (False, "answered 503")


async def test_hanging_endpoint_delays_no_other(system: System) -> None:
    """While thirty deliveries to one receiver time out, one after another, a healthy one has its events."""
    async with (
        receiving(HANG) as hanging,
        receiving() as healthy,
        endpoint(system, hanging) as stuck,
        endpoint(system, healthy, OrderCreated.topic),
    ):
        for _ in range(30):
            await send_test(system, stuck)
        await hanging.received(1)

        for _ in range(20):
            await system.publish(new_order((f"unknown-{uuid4().hex}", 1)))
        await healthy.received(20)

        assert len(hanging.requests) < 10, "a healthy one waited for a third of the hanging one's backlog"
        latest = (await log_of(system, stuck, limit=200))[-1]

        async def timed_out() -> bool:
            found = await log_of(system, stuck, limit=200)
            errors = [attempt["error"] for one in found for attempt in one["attempts"]]
            return "no answer within 2 s" in errors

        await eventually(timed_out, "the hanging receiver's attempts time out")
        assert latest["state"] == "pending"


async def test_announcement_that_a_crash_left_behind_is_published(system: System) -> None:
    """Disabled and killed before RabbitMQ had it: the endpoint's document keeps the event until it has."""
    stored = system.database("webhooks")["endpoints"]
    async with (
        receiving() as receiver,
        receiving() as watcher,
        endpoint(system, watcher, WebhookEndpointDisabled.topic),
        endpoint(system, receiver) as registered,
    ):
        left = WebhookEndpointDisabled.example | {
            "disabling_id": str(uuid4()),
            "endpoint_id": registered["endpoint_id"],
        }
        mine = {"_id": UUID(registered["endpoint_id"])}
        await stored.update_one(mine, {"$set": {"enabled": False, "announcements": [left]}})

        (request,) = await watcher.received(1)

        assert request.content["data"]["disabling_id"] == left["disabling_id"]

        async def is_cleared() -> bool:
            return (await stored.find_one(mine))["announcements"] == []

        await eventually(is_cleared, "the announcement is confirmed")


async def test_certificate_that_nobody_trusts_is_refused(system: System, tmp_path: Path) -> None:
    """Whoever stands in for the receiver without its certificate is sent nothing."""
    async with receiving(tls=self_signed(tmp_path)) as receiver, endpoint(system, receiver) as registered:
        delivery = await send_test(system, registered)

        async def refused() -> bool:
            (found,) = await log_of(system, registered)
            return bool(found["attempts"])

        await eventually(refused, "the first attempt")
        (found,) = await log_of(system, registered)
        assert found["delivery_id"] == delivery["delivery_id"]
        assert "CERTIFICATE_VERIFY_FAILED" in found["attempts"][0]["error"]
        assert receiver.requests == []


async def test_rotation_signs_with_both_secrets(system: System) -> None:
    """A receiver that still has the old secret and one that has the new both accept what is sent."""
    async with receiving() as receiver, endpoint(system, receiver) as registered:
        rotated = await system.api.post(f"{ENDPOINTS}/{registered['endpoint_id']}/rotate-secret")
        assert rotated.json()["secret"] != registered["secret"]

        await send_test(system, registered)
        (request,) = await receiver.received(1)

        for secret in (registered["secret"], rotated.json()["secret"]):
            Webhook(secret).verify(request.body, dict(request.headers))
        with pytest.raises(WebhookVerificationError):
            Webhook("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").verify(request.body, dict(request.headers))


async def test_worker_killed_in_an_attempt_delivers_again(system: System) -> None:
    """Kill -9 while a receiver has the request: the lease lapses, and the same id and bytes come again."""
    supervisor = system.stack.supervisor
    restarts = supervisor.restarts("webhooks")
    async with receiving() as receiver, endpoint(system, receiver) as registered:
        receiver.answers = [HANG]
        await send_test(system, registered)
        await receiver.received(1)

        os.kill(supervisor.pid("webhooks"), signal.SIGKILL)
        first, second = await receiver.received(2, 60)

        assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)
        await ended(system, registered, "delivered", 1)
    assert supervisor.restarts("webhooks") == restarts + 1
    await supervisor.wait_ready(60)


async def test_log_does_not_read_the_bodies_that_it_does_not_show(system: System) -> None:
    """A page holds up to 200 deliveries, each with a body of up to 100 kB and more."""
    async with receiving() as receiver, endpoint(system, receiver) as registered:
        sent = await send_test(system, registered)
        await ended(system, registered, "delivered", 1)
        deliveries = system.database("webhooks")["deliveries"]
        await deliveries.update_one({"_id": UUID(sent["delivery_id"])}, {"$unset": {"body": ""}})

        (found,) = await log_of(system, registered)

        assert found["delivery_id"] == sent["delivery_id"]


async def test_log_is_paged_and_refuses_a_cursor_of_another(system: System) -> None:
    """Newest first, page by page, each delivery once."""
    async with receiving() as receiver, endpoint(system, receiver) as registered:
        sent = [(await send_test(system, registered))["delivery_id"] for _ in range(5)]
        path = f"{ENDPOINTS}/{registered['endpoint_id']}/deliveries"
        found, cursor = [], None
        while True:
            query = {"limit": 2, **({"cursor": cursor} if cursor else {})}
            page = (await system.api.get(path, params=query)).json()
            found += [delivery["delivery_id"] for delivery in page["deliveries"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break

        assert found == sent[::-1]
        wrong = await system.api.get(path, params={"cursor": str(uuid4())})
        assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "cursor")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"url": "https://169.254.169.254/latest"}, "url"),
        ({"url": "http://shop.example/hook"}, "url"),
        ({"url": "https://shop.example/hook", "event_types": ["order.create.v1"]}, "event_types"),
        ({"url": "https://shop.example/hook", "secret": "mine"}, "secret"),
    ],
)
async def test_bad_endpoint_is_refused_by_field(system: System, body: dict[str, Any], field: str) -> None:
    """What cannot be delivered to is not registered, and the answer says which field is wrong."""
    refused = await system.api.post(ENDPOINTS, json=body)
    assert refused.status_code == 422
    assert [error["field"] for error in refused.json()["errors"]] == [field]


async def test_endpoint_is_managed_from_the_command_line(system: System) -> None:
    """From `add` to `remove`, with a test event, its log and a new secret in between."""
    async with receiving() as receiver:
        added = await orderflow(
            system, "webhooks", "add", receiver.url, "--event-type", OrderCreated.topic, "--json"
        )
        assert added.code == 0, added.err
        registered = json.loads(added.out)
        endpoint_id = registered["endpoint_id"]
        assert (await orderflow(system, "webhooks", "test", endpoint_id)).code == 0
        await receiver.received(1)
        delivery = await ended(system, registered, "delivered", 1)

        listed = await orderflow(system, "webhooks", "deliveries", endpoint_id)
        assert delivery["delivery_id"] in listed.out
        assert (await orderflow(system, "webhooks", "resend", delivery["delivery_id"])).code == 0
        await receiver.received(2)
        rotated = await orderflow(system, "webhooks", "rotate-secret", endpoint_id)
        assert rotated.out.splitlines()[-1].startswith("whsec_")
        updated = await orderflow(system, "webhooks", "update", endpoint_id, "--disable", "--json")
        assert json.loads(updated.out)["enabled"] is False
        assert endpoint_id in (await orderflow(system, "webhooks", "list")).out
        assert (await orderflow(system, "webhooks", "remove", endpoint_id)).code == 0
        gone = await orderflow(system, "webhooks", "show", endpoint_id)
        assert (gone.code, gone.err) == (2, f"orderflow: There is no webhook endpoint {endpoint_id}\n")
