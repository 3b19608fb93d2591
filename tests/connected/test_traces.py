"""One trace from the request to the customer's mail, over every detour, as a collector receives it."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import aio_pika
import pytest
from conftest import body_of, eventually, new_order
from otlp_receiver import OtlpReceiver, Span, receiving_otlp
from receiver import Receiver, receiving

from contracts import OrderCreated, StockAdjusted
from tests.faults.mail_server import MailServer
from tests.faults.proxy import Proxy
from tests.faults.services import running_services
from tests.faults.system import System, running_system

pytestmark = pytest.mark.connected

# Whatever begins outside decides about sampling; what begins here is not sampled, but for stock's own traces.
SAMPLING = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}
SAMPLED, UNSAMPLED = "01", "00"

CREATED = "ingress PRODUCER publish events:order.created.v1"
VALIDATED = "stock PRODUCER publish events:order.validated.v1"
INVOICED = "billing PRODUCER publish events:invoice.issued.v1"
NOTIFIED = "notifications PRODUCER publish events:notification.sent.v1"
POST = "ingress SERVER POST /v1/orders"
STOCK = "stock CONSUMER process stock.order-created"
BILLING = "billing CONSUMER process billing.order-validated"
NOTIFICATIONS = "notifications CONSUMER process notifications.invoice-issued"

BETWEEN_SERVICES = {
    ("client", POST),
    (CREATED, STOCK),
    (CREATED, "orders CONSUMER process orders.order-created"),
    (CREATED, "webhooks CONSUMER process webhooks.order-created"),
    (VALIDATED, BILLING),
    (VALIDATED, "orders CONSUMER process orders.order-validated"),
    (VALIDATED, "webhooks CONSUMER process webhooks.order-validated"),
    (INVOICED, NOTIFICATIONS),
    (INVOICED, "documents CONSUMER process documents.invoice-issued"),
    (INVOICED, "orders CONSUMER process orders.invoice-issued"),
    (INVOICED, "webhooks CONSUMER process webhooks.invoice-issued"),
    (NOTIFIED, "orders CONSUMER process orders.notification-sent"),
    (NOTIFIED, "webhooks CONSUMER process webhooks.notification-sent"),
}
WITHIN_SERVICES = {
    (POST, "ingress INTERNAL commit accepted-orders"),
    ("ingress INTERNAL commit accepted-orders", "ingress CLIENT insert orders"),
    (POST, CREATED),
    (STOCK, "stock INTERNAL commit reservations"),
    ("stock INTERNAL commit reservations", "stock CLIENT update levels"),
    ("stock INTERNAL commit reservations", "stock CLIENT insert reservations"),
    ("stock INTERNAL commit reservations", "stock CLIENT commitTransaction admin"),
    (STOCK, VALIDATED),
    (BILLING, "billing INTERNAL commit invoices"),
    ("billing INTERNAL commit invoices", "billing CLIENT findAndModify series"),
    ("billing INTERNAL commit invoices", "billing CLIENT insert invoices"),
    (BILLING, INVOICED),
    (NOTIFICATIONS, "notifications INTERNAL commit known-notifications"),
    ("notifications INTERNAL commit known-notifications", "notifications CLIENT find notifications"),
    (NOTIFICATIONS, "notifications CLIENT SMTP send"),
    (NOTIFICATIONS, "notifications INTERNAL commit notifications"),
    (NOTIFICATIONS, NOTIFIED),
    ("documents CONSUMER process documents.invoice-issued", "documents CLIENT findAndModify documents"),
    ("orders CONSUMER process orders.notification-sent", "orders INTERNAL commit read-model"),
    ("orders INTERNAL commit read-model", "orders CLIENT update orders"),
    ("webhooks CONSUMER process webhooks.order-created", "webhooks INTERNAL commit deliveries"),
    ("webhooks INTERNAL commit deliveries", "webhooks CLIENT insert deliveries"),
    ("webhooks CONSUMER process webhooks.order-created", "webhooks CLIENT POST"),
}


class ReluctantMailServer(MailServer):
    """Puts off as many mails as it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.reluctance = 0

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802  # aiosmtpd's
        if self.reluctance > 0:
            self.reluctance -= 1
            return "451 4.3.2 Try again later"
        return await super().handle_DATA(server, session, envelope)


@dataclass
class Traced:
    """The running system, the collector that it exports to, and what a test does to it."""

    system: System
    collector: OtlpReceiver
    proxy: Proxy
    mail_server: ReluctantMailServer

    async def place(self, order: OrderCreated, traceparent: str | None = None) -> str:
        """Place an order over HTTP, in a client's trace if one is given; returns its id."""
        headers = {"traceparent": traceparent} if traceparent else {}
        async with self.system.operator as api:
            answer = await api.post("/v1/orders", json=body_of(order), headers=headers)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["order_id"])

    async def publish(self, *orders: OrderCreated, traceparents: list[str | None]) -> None:
        """Publish orders straight to RabbitMQ, all at once."""
        async with await aio_pika.connect(self.system.rabbitmq_url) as connection:
            exchange = await (await connection.channel()).get_exchange("events", ensure=False)
            messages = [
                aio_pika.Message(
                    order.model_dump_json().encode(), headers={"traceparent": trace} if trace else {}
                )
                for order, trace in zip(orders, traceparents, strict=True)
            ]
            await asyncio.gather(*(exchange.publish(one, OrderCreated.topic) for one in messages))

    async def spans(self, trace_id: str, *names: str) -> dict[str, list[Span]]:
        """The spans of a trace by service, kind and name, once it has all of these."""

        async def check() -> dict[str, list[Span]] | None:
            found: dict[str, list[Span]] = {}
            for span in self.collector.of(trace_id):
                found.setdefault(str(span), []).append(span)
            return found if found.keys() >= set(names) else None

        try:
            complete: dict[str, list[Span]] = await eventually(check, "all spans", 60)
        except AssertionError as late:
            seen = sorted({str(span) for span in self.collector.of(trace_id)})
            raise AssertionError(f"trace {trace_id} lacks {sorted(set(names) - set(seen))}: {seen}") from late
        return complete

    @asynccontextmanager
    async def listening(self, topic: str) -> AsyncIterator[Callable[[str], Any]]:
        """Wait for the headers with which an order's event is published."""
        async with await aio_pika.connect(self.system.rabbitmq_url) as connection:
            queue = await (await connection.channel()).declare_queue(exclusive=True)
            await queue.bind("events", topic)

            async def headers_of(order_id: str) -> dict[str, Any]:
                async with asyncio.timeout(60), queue.iterator() as messages:
                    async for message in messages:
                        await message.ack()
                        if message.correlation_id == order_id:
                            return dict(message.headers)
                raise AssertionError(f"no {topic} of order {order_id}")

            yield headers_of


@pytest.fixture(scope="module")
async def traced(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Traced]:
    """Every app as a process of its own, RabbitMQ behind a proxy, all spans sent here."""
    home: Path = tmp_path_factory.mktemp("traced")
    async with running_services(home / "services") as services, ReluctantMailServer() as mail_server:
        port = int(services.rabbitmq.url.rpartition(":")[2].partition("/")[0])
        async with Proxy(port) as proxy:
            with receiving_otlp() as collector:
                settings = SAMPLING | {
                    "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
                    "OTEL_BSP_SCHEDULE_DELAY": "100",
                }
                async with running_system(
                    services,
                    home / "system",
                    "traces",
                    settings=settings,
                    settings_of={"stock": {"OTEL_TRACES_SAMPLER_ARG": "1"}},
                    rabbitmq_port=proxy.port,
                    mail_server=mail_server,
                ) as system:
                    yield Traced(system, collector, proxy, mail_server)


@pytest.fixture
def trace_id() -> str:
    """A trace of the test's own."""
    return secrets.token_hex(16)


async def order_in_stock(traced: Traced, **customer: Any) -> OrderCreated:
    """An order that can be fulfilled."""
    sku = f"sku-{uuid4().hex[:12]}"
    counted = StockAdjusted(
        adjustment_id=uuid4(), sku=sku, mode="set", quantity=1000, adjusted_at="2026-11-01T00:00:00Z"
    )
    async with await aio_pika.connect(traced.system.rabbitmq_url) as connection:
        exchange = await (await connection.channel()).get_exchange("events", ensure=False)
        await exchange.publish(aio_pika.Message(counted.model_dump_json().encode()), StockAdjusted.topic)
    levels = traced.system.database("stock")["levels"]

    async def known() -> bool:
        return bool(await levels.count_documents({"_id": sku}))

    await eventually(known, "stock level", 60)
    return new_order((sku, 1), **({"email": "ana.souza@example.com"} | customer))


def edges_of(spans: list[Span], client_span_id: str) -> set[tuple[str, str]]:
    """Each span with its parent; a parent that is not there is named so."""
    names = {span.span_id: str(span) for span in spans} | {client_span_id: "client"}
    return {(names.get(span.parent_id, "unknown"), str(span)) for span in spans}


def is_sampled(traceparent: str) -> bool:
    """The lowest bit of its flags; the next one says that the id was chosen at random."""
    return bool(int(traceparent.split("-")[3], 16) & 1)


def between_services(edges: set[tuple[str, str]]) -> set[tuple[str, str]]:
    return {(parent, child) for parent, child in edges if parent.split()[0] != child.split()[0]}


@asynccontextmanager
async def registered(traced: Traced, receiver: Receiver, *event_types: str) -> AsyncIterator[None]:
    """The receiver as an endpoint, for as long as the context is open."""
    async with traced.system.operator as api:
        body = {"url": f"{receiver.url}?token=planted-token", "event_types": list(event_types)}
        answer = await api.post("/v1/webhook-endpoints", json=body)
        assert answer.status_code == 201, answer.text
        yield
        await api.delete(f"/v1/webhook-endpoints/{answer.json()['endpoint_id']}")


async def test_one_trace_from_the_request_to_the_mail_edge_by_edge(traced: Traced, trace_id: str) -> None:
    """Every service's spans hang together as the table says, and no attribute says whose order it is."""
    planted = {
        "id": "planted-customer",
        "name": "Planted Name",
        "email": "planted@example.com",
        "phone": "+5511900112233",
    }
    order = await order_in_stock(traced, **planted)
    client_span_id = secrets.token_hex(8)
    async with receiving() as receiver, registered(traced, receiver, "order.created.v1"):
        order_id = await traced.place(order, f"00-{trace_id}-{client_span_id}-{SAMPLED}")
        (delivered,) = await receiver.received(1, 60)

    expected = BETWEEN_SERVICES | WITHIN_SERVICES

    async def complete() -> bool:
        return edges_of(traced.collector.of(trace_id), client_span_id) >= expected

    try:
        await eventually(complete, "all edges", 60)
    except AssertionError as late:
        missing = expected - edges_of(traced.collector.of(trace_id), client_span_id)
        raise AssertionError(f"no such edges: {sorted(missing)}") from late
    spans = traced.collector.of(trace_id)
    edges = edges_of(spans, client_span_id)
    assert between_services(edges) == BETWEEN_SERVICES
    assert not {str(span) for span in spans if span.has_failed}
    assert "traceparent" not in delivered.headers
    handled = next(span for span in spans if str(span) == STOCK)
    assert handled.attributes["messaging.message.conversation_id"] == order_id
    exported = b"".join(traced.collector.bodies)
    for secret in (*planted.values(), "planted-token", order.lines[0].sku):
        assert secret.encode() not in exported, f"{secret} was exported"


async def test_logs_name_the_trace_and_the_span(traced: Traced, trace_id: str) -> None:
    """Whoever has a trace finds the lines of every app, each with the span that it belongs to."""
    order = await order_in_stock(traced)

    await traced.place(order, f"00-{trace_id}-{secrets.token_hex(8)}-{SAMPLED}")
    spans = await traced.spans(trace_id, STOCK, "orders CONSUMER process orders.notification-sent")

    (line,) = [one for one in traced.system.entries("stock") if one.get("trace_id") == trace_id]
    assert line["event"] == "handled"
    assert line["span_id"] == spans[STOCK][0].span_id


async def test_order_published_after_an_outage_stays_in_the_trace_of_its_request(
    traced: Traced, trace_id: str
) -> None:
    """With RabbitMQ away the order keeps its trace, and the relay publishes it there."""
    order = await order_in_stock(traced)
    await traced.proxy.cut()
    try:
        await traced.place(order, f"00-{trace_id}-{secrets.token_hex(8)}-{SAMPLED}")
        spans = await traced.spans(trace_id, POST, "ingress INTERNAL commit accepted-orders")
        assert STOCK not in spans
    finally:
        await traced.proxy.heal()

    spans = await traced.spans(trace_id, CREATED, STOCK, NOTIFIED)
    (request,) = spans[POST]
    published = [span for span in spans[CREATED] if not span.has_failed]
    assert {span.parent_id for span in published} == {request.span_id}
    assert {span.parent_id for span in spans[STOCK]} <= {span.span_id for span in published}


async def test_retry_is_the_next_step_of_the_same_trace(traced: Traced, trace_id: str) -> None:
    """A failed attempt leads to its copy in the retry queue, and that to the next attempt."""
    order = await order_in_stock(traced)
    traced.mail_server.reluctance = 1

    await traced.place(order, f"00-{trace_id}-{secrets.token_hex(8)}-{SAMPLED}")
    retry = "notifications PRODUCER publish retry.300ms:notifications.invoice-issued"
    spans = await traced.spans(trace_id, retry, NOTIFIED)

    first, second = sorted(spans[NOTIFICATIONS], key=lambda span: not span.has_failed)
    (copied,), (notified,) = spans[retry], spans[NOTIFIED]
    assert (first.has_failed, first.attributes["error.type"]) == (True, "MailDeferred")
    assert (copied.parent_id, second.parent_id) == (first.span_id, copied.span_id)
    assert (second.has_failed, notified.parent_id) == (False, second.span_id)


async def test_replayed_dead_letter_continues_its_own_trace(traced: Traced, trace_id: str) -> None:
    """Given up, archived and replayed, an order is still in one trace; the operator's is linked to it."""
    order = await order_in_stock(traced)
    traced.mail_server.reluctance = 5
    order_id = await traced.place(order, f"00-{trace_id}-{secrets.token_hex(8)}-{SAMPLED}")
    letters = traced.system.database("recovery")["dead_letters"]

    async def given_up() -> Any:
        return await letters.find_one({"correlation_id": order_id, "state": "open"})

    letter = await eventually(given_up, "dead letter", 60)
    assert letter["trace_id"] == trace_id
    operator_trace_id = secrets.token_hex(16)
    async with traced.system.operator as api:
        answer = await api.post(
            f"/v1/dead-letters/{letter['_id']}/replay",
            headers={"traceparent": f"00-{operator_trace_id}-{secrets.token_hex(8)}-{SAMPLED}"},
        )
    assert answer.status_code == 200, answer.text

    replay = "ingress PRODUCER publish replay:notifications.invoice-issued"
    dead = "notifications PRODUCER publish dead:notifications.invoice-issued"
    spans = await traced.spans(trace_id, dead, "recovery CONSUMER process dead", replay, NOTIFIED)
    request = "ingress SERVER POST /v1/dead-letters/{dead_letter_id}/replay"
    of_operator = await traced.spans(operator_trace_id, request)
    (died,), (replayed,), (notified,) = spans[dead], spans[replay], spans[NOTIFIED]
    assert replayed.parent_id == died.span_id
    assert replayed.links == [of_operator[request][0].span_id]
    (again,) = [span for span in spans[NOTIFICATIONS] if span.parent_id == replayed.span_id]
    assert notified.parent_id == again.span_id


async def test_directly_published_order_continues_its_publisher_s_trace(
    traced: Traced, trace_id: str
) -> None:
    """The publisher's own span is the parent of each first consumer's."""
    order = await order_in_stock(traced)
    publisher_span_id = secrets.token_hex(8)

    await traced.publish(order, traceparents=[f"00-{trace_id}-{publisher_span_id}-{SAMPLED}"])

    spans = await traced.spans(trace_id, STOCK, NOTIFIED, "orders CONSUMER process orders.order-created")
    assert spans[STOCK][0].parent_id == publisher_span_id
    assert spans["orders CONSUMER process orders.order-created"][0].parent_id == publisher_span_id


async def test_order_without_a_trace_begins_one_at_its_first_consumer(traced: Traced) -> None:
    """Where a publisher has no trace, stock begins one, and all that follows belongs to it."""
    order = await order_in_stock(traced)

    await traced.publish(order, traceparents=[None])

    async def begun() -> Span | None:
        mine = {"messaging.message.conversation_id": str(order.order_id)}.items()
        found = [
            one for one in traced.collector.spans if str(one) == STOCK and mine <= one.attributes.items()
        ]
        return found[0] if found else None

    first: Span = await eventually(begun, "stock's span", 60)
    assert first.parent_id == ""
    spans = await traced.spans(first.trace_id, VALIDATED, INVOICED, NOTIFIED)
    assert spans[VALIDATED][0].parent_id == first.span_id


async def test_unsampled_trace_is_handed_on_and_not_exported(traced: Traced, trace_id: str) -> None:
    """Who began a trace has decided not to record it: its id travels on, and nothing is exported of it."""
    order = await order_in_stock(traced)
    async with traced.listening("notification.sent.v1") as headers_of:
        order_id = await traced.place(order, f"00-{trace_id}-{secrets.token_hex(8)}-{UNSAMPLED}")
        traceparent = (await headers_of(order_id))["traceparent"]
    assert traceparent.split("-")[1] == trace_id
    assert not is_sampled(traceparent)

    # What is exported later than this order has left nothing of it behind.
    sampled = secrets.token_hex(16)
    await traced.place(order, f"00-{sampled}-{secrets.token_hex(8)}-{SAMPLED}")
    await traced.spans(sampled, NOTIFIED, "orders CONSUMER process orders.notification-sent")
    assert traced.collector.of(trace_id) == []


async def test_ratio_decides_where_the_client_does_not(traced: Traced) -> None:
    """An order that comes without a trace gets one from the ingress, sampled by its settings: here never."""
    order = await order_in_stock(traced)
    async with traced.listening("notification.sent.v1") as headers_of:
        order_id = await traced.place(order)
        traceparent = (await headers_of(order_id))["traceparent"]

    assert not is_sampled(traceparent)
    assert traced.collector.of(traceparent.split("-")[1]) == []


async def test_orders_that_share_a_commit_are_linked_with_it(traced: Traced) -> None:
    """A commit for several orders lies in the trace of one and links all; the others link it."""
    orders = [await order_in_stock(traced)] * 30
    orders = [order.model_copy(update={"order_id": uuid4()}) for order in orders]
    traces = [secrets.token_hex(16) for _ in orders]

    await traced.publish(
        *orders, traceparents=[f"00-{one}-{secrets.token_hex(8)}-{SAMPLED}" for one in traces]
    )
    handled = {}
    for trace in traces:
        (span,) = (await traced.spans(trace, STOCK))[STOCK]
        handled[span.span_id] = span

    commits = [
        span
        for span in traced.collector.spans
        if str(span) == "stock INTERNAL commit reservations" and set(span.links) & handled.keys()
    ]
    shared = max(commits, key=lambda span: len(span.links))
    members = [handled[span_id] for span_id in shared.links]
    assert shared.attributes["orderflow.group.size"] == len(members) > 1
    assert shared.parent_id in shared.links
    for member in members:
        assert member.span_id == shared.parent_id or shared.span_id in member.links
