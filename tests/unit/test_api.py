"""The ingress: what it accepts, what it answers, and how it says what is wrong."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Sequence
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, cast
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import Request
from pymongo.errors import NotPrimaryError, ServerSelectionTimeoutError

from apps.access.mongo import AuditEntry
from apps.ingress.api import BODY_LIMIT_BYTES, api
from apps.kit.access import Caller, Scope
from apps.kit.clock import utc_now
from apps.kit.metrics import OLDEST_UNPUBLISHED, STUCK_ORDERS
from apps.kit.paging import Position
from apps.kit.publishing import PublishFailed
from apps.kit.settings import get_settings
from apps.orders.application import AcceptedOrder, Announcement, OrderFilter
from apps.orders.backlog import oldest_unpublished_seconds, stuck_orders, unpublished_check
from apps.orders.document import Order
from apps.orders.domain import Status, Step, cancellation_of
from apps.orders.mongo import MongoOrderBook
from contracts import OrderCancelled, OrderCreated
from contracts.orders import EXAMPLE_CONTENT

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


class OrderBookInMemory:
    """Accepted orders, the first under each idempotency key, and documents to show."""

    def __init__(self) -> None:
        self.accepted: list[AcceptedOrder] = []
        self.documents: list[Order] = []
        self.failure: Exception | None = None

    async def accept(self, order: AcceptedOrder) -> AcceptedOrder:
        await asyncio.sleep(0)  # gives way, as a store would, so that a rival may come in between
        if self.failure is not None:
            raise self.failure
        for earlier in self.accepted:
            if order.idempotency_key and order.idempotency_key == earlier.idempotency_key:
                return earlier
        self.accepted.append(order)
        return order

    async def cancel(self, cancellation: OrderCancelled, publish_at: datetime) -> Order | None:
        if self.failure is not None:
            raise self.failure
        order = await self.find(cancellation.order_id)
        if order and order.rank != Status.REJECTED.rank and order.cancellation is None:
            order.cancellation = cancellation_of(cancellation)
            order.awaits |= {Step.CANCELLATION: True}
            order.cancel_publish_at = publish_at
        return order

    async def find(self, order_id: UUID) -> Order | None:
        return next((order for order in self.documents if order.id == order_id), None)

    async def list(self, wanted: OrderFilter, after: Position | None, limit: int) -> list[Order]:
        newest_first = sorted(self.documents, key=lambda order: (order.recorded_at, order.id), reverse=True)
        return [
            order
            for order in newest_first
            if (wanted.status is None or order.rank == wanted.status.rank)
            and wanted.customer_id in (None, order.customer_id)
            and wanted.reference in (None, order.reference)
            and (after is None or (order.recorded_at, order.id) < (after.at, after.id))
        ][:limit]

    async def list_stuck(
        self, unchanged_for: timedelta, wanted: OrderFilter, after: Position | None, limit: int
    ) -> Sequence[Order]:
        stuck = [one for one in self.documents if one.awaited and one.changed_at < NOON - unchanged_for]
        return [
            order
            for order in sorted(stuck, key=lambda order: (order.changed_at, order.id))
            if wanted.status is None or order.rank == wanted.status.rank
            if after is None or (order.changed_at, order.id) > (after.at, after.id)
        ][:limit]

    async def count_stuck(self, unchanged_for: timedelta, limit: int) -> int:
        if self.failure is not None:
            raise self.failure
        return len(await self.list_stuck(unchanged_for, OrderFilter(), None, limit))

    async def oldest_unpublished(self) -> datetime | None:
        return min((order.recorded_at for order in self.documents if order.publish_at), default=None)


class RelayInMemory:
    """Remembers what it was given to announce and to publish again."""

    def __init__(self) -> None:
        self.announced: list[Announcement] = []
        self.published: list[Announcement] = []
        self.failure: Exception | None = None

    def announce(self, event: Announcement, publish_at: datetime) -> None:
        assert publish_at > event.occurred_at
        self.announced.append(event)

    async def publish(self, event: Announcement) -> None:
        if self.failure is not None:
            raise self.failure
        self.published.append(event)


class AuditInMemory:
    """Remembers what was done, and how it was answered."""

    def __init__(self) -> None:
        self.answers: dict[str, int | None] = {}

    async def begin(self, entry: AuditEntry) -> None:
        self.answers[entry.action] = None

    async def end(self, entry: AuditEntry, status: int) -> None:
        self.answers[entry.action] = status


async def anybody(_request: Request) -> Caller:
    """Whoever calls may do everything: keys are put to the test in test_access.py."""
    return Caller("anybody", frozenset(Scope))


@pytest.fixture
def book() -> OrderBookInMemory:
    return OrderBookInMemory()


@pytest.fixture
def relay() -> RelayInMemory:
    return RelayInMemory()


@pytest.fixture
async def client(book: OrderBookInMemory, relay: RelayInMemory) -> AsyncIterator[httpx.AsyncClient]:
    api.state.orders = book
    api.state.relay = relay
    api.state.authenticate = anybody
    api.state.audit = AuditInMemory()
    orders = cast("MongoOrderBook", book)
    api.state.readings = {
        STUCK_ORDERS: partial(stuck_orders, orders),
        OLDEST_UNPUBLISHED: partial(oldest_unpublished_seconds, orders),
    }
    # The server answers a failure with 500 where the transport would raise it into the test.
    transport = httpx.ASGITransport(api, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://orders") as client:
        yield client


def content(**changes: Any) -> dict[str, Any]:
    return deepcopy(EXAMPLE_CONTENT) | changes


def line(**changes: Any) -> dict[str, Any]:
    first: dict[str, Any] = EXAMPLE_CONTENT["lines"][0]
    return first | changes


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The body of an answer that says what is wrong, after checking that it is one."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert body["title"] not in {"", "Error"}
    assert body["detail"]
    return body


def shown(**changes: Any) -> Order:
    created = OrderCreated.model_validate(OrderCreated.example)
    known: dict[str, Any] = {
        "id": uuid4(),
        "rank": Status.CREATED.rank,
        "recorded_at": NOON,
        "changed_at": NOON,
        "content": created.model_dump(mode="json", exclude={"order_id", "reference"}),
        "reference": created.reference,
        "customer_id": created.customer.id,
    }
    return Order(**(known | changes))


@pytest.mark.parametrize("content_type", ["application/json", "application/json;charset=UTF-8"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
async def test_one_order_however_it_is_written(
    client: httpx.AsyncClient, book: OrderBookInMemory, content_type: str, bom: bytes
) -> None:
    """What the direct way does not take, FastAPI does: the same order, and the same answer."""
    body, key = json.dumps(content()).encode(), {"Idempotency-Key": "checkout-7f3a"}
    first = await client.post("/v1/orders", json=content(), headers=key)
    again = await client.post("/v1/orders", content=bom + body, headers={**key, "Content-Type": content_type})
    assert (again.status_code, again.json()) == (202, first.json())
    assert again.headers["location"] == first.headers["location"]
    assert len(book.accepted) == 1


async def test_order_is_accepted(
    client: httpx.AsyncClient, book: OrderBookInMemory, relay: RelayInMemory
) -> None:
    """202 says where to follow the order, and by then it is stored; after that it is announced."""
    answer = await client.post("/v1/orders", json=content())

    assert answer.status_code == 202
    [accepted] = book.accepted
    order_id = str(accepted.event.order_id)
    assert answer.headers["location"] == f"/v1/orders/{order_id}"
    assert answer.json() == {
        "order_id": order_id,
        "status": "received",
        "total": "35.64",
        "currency": "GBP",
    }
    assert relay.announced == [accepted.event]
    assert accepted.publish_at > accepted.event.placed_at


async def test_total_may_be_left_out(client: httpx.AsyncClient) -> None:
    """The sum is computed where the client does not state it."""
    body = content()
    del body["total"]
    answer = await client.post("/v1/orders", json=body)
    assert (answer.status_code, answer.json()["total"]) == (202, "35.64")


async def test_stated_and_computed_total_are_one_request(client: httpx.AsyncClient) -> None:
    """A repeat may state the total that the first request left to be computed."""
    key = {"Idempotency-Key": "checkout-1"}
    answers = [
        await client.post("/v1/orders", json=content(total=total), headers=key) for total in (None, "35.64")
    ]
    assert answers[0].json() == answers[1].json()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "customer"),
        ({name: value for name, value in EXAMPLE_CONTENT.items() if name != "lines"}, "lines"),
        (content(customer={"name": "Ana Souza"}), "customer.id"),
        (content(customer={"id": "1", "email": "nowhere"}), "customer.email"),
        (content(currency="XXX"), "currency"),
        (content(lines=[]), "lines"),
        (content(lines=[line(quantity=0)]), "lines.0.quantity"),
        (content(lines=[line(), line(quantity="six")]), "lines.1.quantity"),
        (content(lines=[line(unit_price=2.55)]), "lines.0.unit_price"),
        (content(lines=[line(unit_price="2.5")]), "lines"),
        (content(lines=[line()] * 1001), "lines"),
        (content(total="35.65"), "total"),
        (content(total=35.64), "total"),
        (content(lines=[line(unit_price="9" * 22 + ".99")], total=None), "total"),
        ([], "body"),
        ("order", "body"),
    ],
)
async def test_bad_field_is_named(
    client: httpx.AsyncClient, book: OrderBookInMemory, body: Any, field: str
) -> None:
    """422 names the field as the client wrote it, and nothing is stored."""
    answer = problem(await client.post("/v1/orders", json=body), 422)
    assert field in [error["field"] for error in answer["errors"]]
    assert answer["detail"].startswith(answer["errors"][0]["field"])
    assert not book.accepted


async def test_every_bad_field_is_named(client: httpx.AsyncClient) -> None:
    """A client learns of all its mistakes at once."""
    body = content(currency="XXX", customer={}, lines=[line(quantity=0, sku="")])
    answer = problem(await client.post("/v1/orders", json=body), 422)
    assert {error["field"] for error in answer["errors"]} >= {
        "currency",
        "customer.id",
        "lines.0.quantity",
        "lines.0.sku",
    }


@pytest.mark.parametrize(
    "body", [b"", b"{", b"not json", b'{"currency": }', b"\xff\xfe{}"], ids=lambda body: repr(body)[:12]
)
async def test_body_that_is_no_json(client: httpx.AsyncClient, body: bytes) -> None:
    """What cannot be read at all is 400, except for no body at all, which is a missing one."""
    answer = await client.post("/v1/orders", content=body, headers={"content-type": "application/json"})
    problem(answer, 400 if body else 422)


async def test_body_of_another_type(client: httpx.AsyncClient) -> None:
    """A form is not an order, and the answer says that the body is the problem."""
    answer = problem(await client.post("/v1/orders", data={"currency": "GBP"}), 422)
    assert [error["field"] for error in answer["errors"]] == ["body"]


async def test_large_body_with_its_length(client: httpx.AsyncClient, book: OrderBookInMemory) -> None:
    """A body over 1 MiB is refused by its header."""
    answer = await client.post("/v1/orders", json=content(padding="x" * BODY_LIMIT_BYTES))
    assert "1,048,576 bytes" in problem(answer, 413)["detail"]
    assert not book.accepted


async def test_large_body_without_its_length(client: httpx.AsyncClient, book: OrderBookInMemory) -> None:
    """A body that comes in pieces is refused as soon as it has exceeded 1 MiB, and not read to its end."""
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 64 * 1024
            yield b" " * 64 * 1024

    problem(await client.post("/v1/orders", content=endless()), 413)
    assert sent == BODY_LIMIT_BYTES + 64 * 1024
    assert not book.accepted


@pytest.mark.parametrize("chunked", [False, True], ids=["with length", "without length"])
async def test_largest_body(client: httpx.AsyncClient, chunked: bool) -> None:  # noqa: FBT001  # pytest gives it
    """Exactly 1 MiB is accepted, in one piece or many."""
    body = json.dumps(content()).encode()
    body += b" " * (BODY_LIMIT_BYTES - len(body))

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 64 * 1024):
            yield body[start : start + 64 * 1024]

    answer = await client.post(
        "/v1/orders",
        content=pieces() if chunked else body,
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == 202


@pytest.mark.usefixtures("client")
async def test_client_that_goes_away(book: OrderBookInMemory) -> None:
    """Half a body is no order, and no failure of ours."""
    pieces = iter([{"type": "http.request", "body": b'{"currency":', "more_body": True}])
    answers: list[Any] = []

    async def receive() -> Any:
        return next(pieces, {"type": "http.disconnect"})

    async def send(message: Any) -> None:
        answers.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "scheme": "http",
        "method": "POST",
        "path": "/v1/orders",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }
    await api(scope, receive, send)
    assert answers[0]["status"] == 400
    assert not book.accepted


async def test_same_key_and_body_is_one_order(
    client: httpx.AsyncClient, book: OrderBookInMemory, relay: RelayInMemory
) -> None:
    """Requests that are repeated, also at the same time, get the same answer and make one order."""
    key = {"Idempotency-Key": "checkout-7f3a"}
    answers = await asyncio.gather(
        *(client.post("/v1/orders", json=content(), headers=key) for _ in range(10))
    )
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.text for answer in answers}) == 1
    assert len({answer.headers["location"] for answer in answers}) == 1
    assert len(book.accepted) == len(relay.announced) == 1


async def test_same_key_with_another_body_is_refused(
    client: httpx.AsyncClient, book: OrderBookInMemory
) -> None:
    """A key that was used for something else is the client's mistake, and makes no order."""
    key = {"Idempotency-Key": "checkout-7f3a"}
    await client.post("/v1/orders", json=content(), headers=key)
    other = content(lines=[line(quantity=1)], total="2.55")
    answer = problem(await client.post("/v1/orders", json=other, headers=key), 422)
    assert [error["field"] for error in answer["errors"]] == ["Idempotency-Key"]
    assert len(book.accepted) == 1


async def test_without_a_key_each_request_is_an_order(
    client: httpx.AsyncClient, book: OrderBookInMemory
) -> None:
    """Who wants the same twice gets it twice."""
    for _ in range(2):
        await client.post("/v1/orders", json=content())
    assert len({accepted.event.order_id for accepted in book.accepted}) == 2


@pytest.mark.parametrize("key", ["", "k" * 256])
async def test_key_out_of_bounds(client: httpx.AsyncClient, key: str) -> None:
    """A key that could not be stored is named, by its header."""
    answer = await client.post("/v1/orders", json=content(), headers={"Idempotency-Key": key})
    [error] = problem(answer, 422)["errors"]
    assert error["field"].lower() == "idempotency-key"


async def test_store_out_of_reach(
    client: httpx.AsyncClient, book: OrderBookInMemory, relay: RelayInMemory
) -> None:
    """With MongoDB away nothing is accepted, and the client is told to send it again."""
    for failure in (ServerSelectionTimeoutError("no servers"), NotPrimaryError("stepping down")):
        book.failure = failure
        assert "try again" in problem(await client.post("/v1/orders", json=content()), 503)["detail"]
    assert not relay.announced


async def test_unexpected_failure_gives_nothing_away(
    client: httpx.AsyncClient, book: OrderBookInMemory
) -> None:
    """A bug is 500 as problem+json, and says nothing of what is inside."""
    book.failure = RuntimeError("the password is hunter2")
    assert "hunter2" not in json.dumps(problem(await client.post("/v1/orders", json=content()), 500))


async def test_order_is_shown(client: httpx.AsyncClient, book: OrderBookInMemory) -> None:
    """Status, lines, total and timeline, with the total as it was sent."""
    event_id = str(uuid4())
    order = shown(events={event_id: {"event": "OrderCreated", "at": NOON}})
    book.documents.append(order)
    answer = (await client.get(f"/v1/orders/{order.id}")).json()
    assert (answer["status"], answer["total"], answer["reference"]) == ("created", "35.64", "536365")
    assert [entry["unit_price"] for entry in answer["lines"]] == ["2.55", "3.39"]
    assert answer["timeline"] == [
        {"event": "OrderCreated", "event_id": event_id, "at": "2026-11-22T12:00:00Z", "detail": None}
    ]


async def test_unknown_order(client: httpx.AsyncClient) -> None:
    """404 says which order is not known."""
    order_id = uuid4()
    assert str(order_id) in problem(await client.get(f"/v1/orders/{order_id}"), 404)["detail"]


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/orders/536365", "order_id"),
        ("/v1/orders?cursor=nonsense", "cursor"),
        ("/v1/orders?cursor=", "cursor"),
        ("/v1/orders?cursor=%C3%A9", "cursor"),
        ("/v1/orders?cursor=MjAyNi0xMS0yMg==", "cursor"),
        ("/v1/orders?limit=0", "limit"),
        ("/v1/orders?limit=201", "limit"),
        ("/v1/orders?limit=many", "limit"),
        ("/v1/orders?status=lost", "status"),
        ("/v1/orders?stuck=perhaps", "stuck"),
    ],
)
async def test_bad_parameter_is_named(client: httpx.AsyncClient, path: str, field: str) -> None:
    """422 names the parameter of the path or the query."""
    [error] = problem(await client.get(path), 422)["errors"]
    assert error["field"] == field


async def test_unknown_route(client: httpx.AsyncClient) -> None:
    """Also a wrong address is answered as problem+json."""
    problem(await client.get("/v2/orders"), 404)


async def test_wrong_method(client: httpx.AsyncClient) -> None:
    """405 says which methods there are instead, all of them and those of this very path."""
    for path, methods in (
        ("/v1/orders", "GET, POST"),
        (f"/v1/orders/{uuid4()}", "GET"),
        ("/v1/dead-letters/replay", "POST"),
    ):
        answer = await client.put(path)
        problem(answer, 405)
        assert answer.headers["allow"] == methods
    problem(await client.get("/v1/dead-letters/replay"), 405)


async def test_pages_miss_and_repeat_nothing(client: httpx.AsyncClient, book: OrderBookInMemory) -> None:
    """Following the cursor gives every order once, newest first, also where times are equal."""
    book.documents = [shown(recorded_at=NOON + timedelta(seconds=number // 3)) for number in range(10)]
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = (
            await client.get("/v1/orders", params={"limit": 4} | ({"cursor": cursor} if cursor else {}))
        ).json()
        seen += [order["order_id"] for order in page["orders"]]
        if (cursor := page["next_cursor"]) is None:
            break
    newest_first = sorted(book.documents, key=lambda order: (order.recorded_at, order.id), reverse=True)
    assert seen == [str(order.id) for order in newest_first]


async def test_list_is_filtered(client: httpx.AsyncClient, book: OrderBookInMemory) -> None:
    """Status, customer and reference narrow the list, together."""
    book.documents = [
        shown(rank=Status.REJECTED.rank),
        shown(rank=Status.REJECTED.rank, customer_id="other"),
        shown(reference="other"),
    ]
    wanted = {"status": "rejected", "customer_id": "17850", "reference": "536365"}
    page = (await client.get("/v1/orders", params=wanted)).json()
    assert [order["order_id"] for order in page["orders"]] == [str(book.documents[0].id)]
    assert page["next_cursor"] is None


async def test_stuck_orders_are_listed_page_by_page(
    client: httpx.AsyncClient, book: OrderBookInMemory
) -> None:
    """Only orders that await something without news for long, the longest first, each of them once."""
    long_ago = NOON - timedelta(seconds=get_settings().stuck_after_seconds + 1)
    stuck = [
        shown(changed_at=long_ago - timedelta(hours=number // 2), awaits={"invoice": True})
        for number in range(5)
    ]
    book.documents = [
        *stuck,
        shown(changed_at=long_ago),
        shown(changed_at=NOON, awaits={"order": True}),
    ]
    seen: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        query = {"stuck": True, "limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/v1/orders", params=query)).json()
        seen += page["orders"]
        if (cursor := page["next_cursor"]) is None:
            break
    longest_first = sorted(stuck, key=lambda order: (order.changed_at, order.id))
    assert [order["order_id"] for order in seen] == [str(order.id) for order in longest_first]
    assert all(order["awaits"] == ["invoice"] for order in seen)


async def test_order_is_published_again(
    client: httpx.AsyncClient, book: OrderBookInMemory, relay: RelayInMemory
) -> None:
    """What is published again is the order as it was first announced, under the same event id."""
    first = OrderCreated.model_validate(OrderCreated.example)
    book.documents = [shown(id=first.order_id)]
    answer = await client.post(f"/v1/orders/{first.order_id}/resend")
    assert answer.status_code == 202
    assert answer.json() == {"order_id": str(first.order_id), "event_id": str(first.event_id)}
    assert relay.published == [first]


async def test_unknown_order_is_not_published_again(client: httpx.AsyncClient) -> None:
    """404 says which order is not known."""
    order_id = uuid4()
    assert str(order_id) in problem(await client.post(f"/v1/orders/{order_id}/resend"), 404)["detail"]


@pytest.mark.parametrize(
    "content",
    [None, {"currency": "GBP", "lines": EXAMPLE_CONTENT["lines"], "total": "35.64"}],
    ids=["nothing", "all but the time"],
)
async def test_order_of_unknown_content_is_not_published_again(
    client: httpx.AsyncClient, book: OrderBookInMemory, relay: RelayInMemory, content: Any
) -> None:
    """409 where not all that the event tells is known: nothing is made up."""
    order = shown(content=content)
    book.documents = [order]
    assert str(order.id) in problem(await client.post(f"/v1/orders/{order.id}/resend"), 409)["detail"]
    assert not relay.published


async def test_order_is_not_published_again_without_rabbitmq(
    client: httpx.AsyncClient, book: OrderBookInMemory, relay: RelayInMemory
) -> None:
    """503 unless RabbitMQ has confirmed it: whoever sends an order again learns whether that worked."""
    order = shown()
    book.documents = [order]
    relay.failure = PublishFailed(OrderCreated.model_validate(OrderCreated.example), TimeoutError())
    assert "try again" in problem(await client.post(f"/v1/orders/{order.id}/resend"), 503)["detail"]


async def test_order_is_cancelled(
    client: httpx.AsyncClient, book: OrderBookInMemory, relay: RelayInMemory
) -> None:
    """202 once it is stored; then it is announced, with the customer, who is to be told."""
    order = shown(rank=Status.NOTIFIED.rank)
    book.documents = [order]
    answer = await client.post(f"/v1/orders/{order.id}/cancel", json={"reason": "Found it cheaper."})

    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/v1/orders/{order.id}"
    [event] = relay.announced
    assert isinstance(event, OrderCancelled)
    assert (event.reason, event.reference, event.customer.id) == ("Found it cheaper.", "536365", "17850")
    assert order.cancelled == event
    assert order.cancel_publish_at is not None
    view = (await client.get(f"/v1/orders/{order.id}")).json()
    assert (view["status"], view["cancellation"]["reason"]) == ("notified", "Found it cheaper.")


async def test_cancelling_again_gives_the_same_answer(
    client: httpx.AsyncClient, book: OrderBookInMemory, relay: RelayInMemory
) -> None:
    """The first reason and its time stay, under one event id, and nothing is announced again."""
    order = shown()
    book.documents = [order]
    path = f"/v1/orders/{order.id}/cancel"
    first, second = [await client.post(path, json={"reason": reason}) for reason in ("first", "second")]
    assert first.json() == second.json()
    assert first.json()["reason"] == "first"
    assert len(relay.announced) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rank": Status.REJECTED.rank}, "is rejected"),
        ({"content": None}, "not known yet whose order"),
        ({"content": {"currency": "GBP"}}, "not known yet whose order"),
    ],
    ids=["rejected", "no content", "no customer"],
)
async def test_order_that_cannot_be_cancelled(
    client: httpx.AsyncClient,
    book: OrderBookInMemory,
    relay: RelayInMemory,
    changes: dict[str, Any],
    words: str,
) -> None:
    """409 says why, and nothing is stored or announced."""
    order = shown(**changes)
    book.documents = [order]
    answer = await client.post(f"/v1/orders/{order.id}/cancel", json={"reason": "Changed my mind."})
    assert words in problem(answer, 409)["detail"]
    assert not relay.announced
    assert order.cancellation is None


async def test_unknown_order_is_not_cancelled(client: httpx.AsyncClient) -> None:
    """404 says which order is not known."""
    order_id = uuid4()
    answer = await client.post(f"/v1/orders/{order_id}/cancel", json={"reason": "Changed my mind."})
    assert str(order_id) in problem(answer, 404)["detail"]


@pytest.mark.parametrize("body", [{}, {"reason": ""}, {"reason": "x" * 501}])
async def test_cancellation_wants_a_reason(client: httpx.AsyncClient, body: dict[str, str]) -> None:
    """A missing, empty or endless reason is refused by its name."""
    answer = await client.post(f"/v1/orders/{uuid4()}/cancel", json=body)
    assert [one["field"] for one in problem(answer, 422)["errors"]] == ["reason"]


async def test_cancelled_order_is_published_again_with_its_cancellation(
    client: httpx.AsyncClient, book: OrderBookInMemory, relay: RelayInMemory
) -> None:
    """Whoever missed either event hears of both."""
    created = OrderCreated.model_validate(OrderCreated.example)
    cancelled = OrderCancelled.model_validate(OrderCancelled.example)
    book.documents = [shown(id=created.order_id, cancellation=cancellation_of(cancelled))]
    answer = await client.post(f"/v1/orders/{created.order_id}/resend")
    assert answer.json()["event_id"] == str(created.event_id)
    assert relay.published == [created, cancelled]


async def test_live_without_any_dependency(client: httpx.AsyncClient) -> None:
    """That the process answers depends on nothing else."""
    assert (await client.get("/health/live")).json() == {"status": "live"}


@pytest.mark.parametrize(
    ("mongodb", "rabbitmq", "status"), [(True, True, 200), (True, False, 200), (False, True, 503)]
)
async def test_ready_while_orders_can_be_stored(
    client: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    mongodb: bool,  # noqa: FBT001  # pytest gives it
    rabbitmq: bool,  # noqa: FBT001
    status: int,
) -> None:
    """Without RabbitMQ orders are accepted and wait, so only MongoDB decides; both are shown."""

    async def up() -> None:
        pass

    async def down() -> None:
        raise ConnectionError("not connected")

    checks = {"mongodb": up if mongodb else down, "rabbitmq": up if rabbitmq else down}
    monkeypatch.setattr(api.state, "checks", checks, raising=False)
    answer = await client.get("/health/ready")
    assert answer.status_code == status
    assert answer.json()["checks"] == {
        "mongodb": "ok" if mongodb else "not connected",
        "rabbitmq": "ok" if rabbitmq else "not connected",
    }


@pytest.mark.parametrize(
    ("waits_seconds", "state"), [(None, "ok"), (30, "ok"), (90, "an accepted order has waited for 90 s")]
)
async def test_order_that_waits_long_for_rabbitmq_shows_in_readiness(
    client: httpx.AsyncClient,
    book: OrderBookInMemory,
    monkeypatch: pytest.MonkeyPatch,
    waits_seconds: int | None,
    state: str,
) -> None:
    """Readiness names the age of the oldest unpublished order, and stays green: more can be accepted."""
    if waits_seconds is not None:
        accepted_at = utc_now() - timedelta(seconds=waits_seconds)
        book.documents = [shown(recorded_at=accepted_at, publish_at=accepted_at)]

    async def up() -> None:
        pass

    checks = {"mongodb": up, "oldest_unpublished": unpublished_check(cast("Any", book))}
    monkeypatch.setattr(api.state, "checks", checks, raising=False)
    answer = await client.get("/health/ready")
    assert answer.status_code == 200
    assert answer.json()["checks"]["oldest_unpublished"].startswith(state)


def gauge(metrics: str, name: str) -> float:
    """The value of a metric without labels."""
    (value,) = [line.split()[1] for line in metrics.splitlines() if line.startswith(f"{name} ")]
    return float(value)


async def test_metrics_tell_what_waits(client: httpx.AsyncClient, book: OrderBookInMemory) -> None:
    """How many orders are stuck, and for how long the oldest order waits to be published."""
    accepted_at = utc_now() - timedelta(seconds=30)
    book.documents = [
        shown(recorded_at=accepted_at, publish_at=accepted_at),
        shown(changed_at=NOON - timedelta(days=1), awaits={"order": True}),
    ]
    metrics = (await client.get("/metrics")).text
    assert gauge(metrics, "orderflow_stuck_orders") == 1
    assert 30 <= gauge(metrics, "orderflow_oldest_unpublished_seconds") < 60


async def test_metrics_without_mongodb(client: httpx.AsyncClient, book: OrderBookInMemory) -> None:
    """What cannot be counted is no number, and all other metrics are still served."""
    book.failure = ServerSelectionTimeoutError("no servers")
    metrics = (await client.get("/metrics")).text
    assert math.isnan(gauge(metrics, "orderflow_stuck_orders"))
    assert "orderflow_http_request_duration_seconds" in metrics


async def test_metrics_count_requests_by_route(client: httpx.AsyncClient) -> None:
    """Ids in paths make no series of their own, and unknown paths share one."""
    order_id = uuid4()
    await client.get(f"/v1/orders/{order_id}")
    await client.get(f"/no/such/{order_id}")
    metrics = (await client.get("/metrics")).text
    assert 'route="/v1/orders/{order_id}",status="404"' in metrics
    assert 'route="unknown",status="404"' in metrics
    assert str(order_id) not in metrics


async def test_metrics_count_failures(client: httpx.AsyncClient, book: OrderBookInMemory) -> None:
    """A request that ends in 500 is observed as one."""
    book.failure = KeyError("a fault")
    assert (await client.post("/v1/orders", json=content())).status_code == 500
    book.failure = None
    metrics = (await client.get("/metrics")).text
    assert 'method="POST",route="/v1/orders",status="500"' in metrics


async def test_documentation_is_served(client: httpx.AsyncClient) -> None:
    """`/docs` shows the document, with an example of what to send and of every answer."""
    assert "/openapi.json" in (await client.get("/docs")).text
    document = (await client.get("/openapi.json")).json()
    schemas = document["components"]["schemas"]
    assert schemas["NewOrder"]["examples"] == [EXAMPLE_CONTENT]
    for name in ("Accepted", "OrderView"):
        assert schemas[name]["examples"]
    for name in ("NewOrder", "Accepted", "OrderView", "OrderPage", "Problem"):
        for field, schema in schemas[name]["properties"].items():
            assert "description" in schema, f"{name}.{field}"
    operation = document["paths"]["/v1/orders"]["post"]
    assert {"202", "400", "413", "422", "503"} <= operation["responses"].keys()


async def test_documented_example_is_accepted(client: httpx.AsyncClient) -> None:
    """Who copies the example from the documentation places an order."""
    document = (await client.get("/openapi.json")).json()
    [example] = document["components"]["schemas"]["NewOrder"]["examples"]
    assert (await client.post("/v1/orders", json=example)).status_code == 202
