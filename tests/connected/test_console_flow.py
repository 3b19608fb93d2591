"""What moves in the console, on a real MongoDB and RabbitMQ: seen by all who may, once, whatever breaks."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from conftest import System, eventually, new_order
from fastapi import FastAPI, Request
from starlette.datastructures import State

from apps.console import live as live_routes
from apps.console import queues
from apps.console.audience import ORDER, VIEWS, Audience, Changes, View
from apps.console.hub import Live
from apps.console.queues import GONE, QUEUES, RETRY_QUEUES, read_queues
from apps.console.streams import DROP, Viewer
from apps.kit.access import Caller, Scope
from apps.kit.broker import EventBroker
from apps.kit.clock import utc_now
from apps.kit.mongo import Database
from apps.kit.wording import Language
from apps.orders.application import AcceptedOrder
from apps.orders.domain import Status
from apps.orders.figures import count_by_status, seconds_until_told
from apps.orders.mongo import DOCUMENTS, MongoOrderBook
from contracts import NotificationSent

pytestmark = pytest.mark.connected

ROWS = "rows"
OURS = [name for names in QUEUES.values() for name in names]


@pytest.fixture
async def database(system: System) -> AsyncIterator[Database]:
    """A database of the test's own."""
    database = Database(system.mongo, f"orderflow_console_{uuid4().hex[:8]}")
    await database.prepare(DOCUMENTS)
    yield database
    await system.mongo.drop_database(database.name)


@pytest.fixture
def book(database: Database) -> MongoOrderBook:
    return MongoOrderBook(database)


@pytest.fixture
async def live(database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Live]:
    """A hub that draws an order as its id and status."""

    async def rows(_audience: Audience, changes: Changes, _state: State) -> Sequence[str]:
        return [f'<p id="{order.id}">{Status.of_rank(order.rank)}</p>' for order in changes.orders]

    async def one(audience: Audience, _changes: Changes, _state: State) -> Sequence[str]:
        return [f'<p id="{audience.order_id}">{uuid4()}</p>']

    seldom: dict[str, Any] = {"each_tick": False, "scope": Scope.ORDERS_READ, "for_whole_shop": False}
    monkeypatch.setitem(VIEWS, ROWS, View(rows, is_page=True, **seldom))
    monkeypatch.setitem(VIEWS, ORDER, View(one, is_page=False, **seldom))
    monkeypatch.delitem(VIEWS, "everywhere", raising=False)
    hub = Live(database)
    yield hub
    await hub.close()


def audience(view: str = ROWS, **bound: Any) -> Audience:
    return Audience(view, Language.ENGLISH, "/console", frozenset({Scope.ORDERS_READ}), **bound)


async def may_stay() -> bool:
    return True


@asynccontextmanager
async def looking(live: Live, who: Audience) -> AsyncIterator[list[str]]:
    """All messages that a new viewer gets, once those that tell of the beginning are there."""
    viewer, seen = Viewer(may_stay), list[str]()

    async def read() -> None:
        async for message in viewer.messages():
            seen.append(message.decode())

    with live.viewing(viewer, who, State()):
        reading = asyncio.create_task(read())
        await eventually(lambda: _is_shown(viewer), "the first tick")
        yield seen
        viewer.end()
        await reading


async def _is_shown(viewer: Viewer) -> bool:
    return not viewer.is_new and not viewer.is_stale


def count(seen: Sequence[str], text: str) -> int:
    return sum(message.count(text) for message in seen)


async def told(seen: Sequence[str], text: str) -> None:
    """Wait until it was told."""

    async def check() -> bool:
        return count(seen, text) > 0

    await eventually(check, f"{text} told")


async def test_an_order_reaches_everybody_once(live: Live, book: MongoOrderBook) -> None:
    """Two pages that are open are told of it once each, and again once it has moved."""
    async with looking(live, audience()) as first, looking(live, audience()) as second:
        order = new_order(("any", 1))
        await book.record(order)
        row = f'<p id="{order.order_id}">created</p>'
        for seen in (first, second):
            await told(seen, row)
        other = new_order(("any", 1))
        await book.record(other)
        for seen in (first, second):
            await told(seen, f'<p id="{other.order_id}">created</p>')
            assert count(seen, row) == 1
        assert live.rates.per_second(Status.CREATED)


async def test_one_order_is_shown_to_who_looks_at_it(live: Live, book: MongoOrderBook) -> None:
    """At once, after each change, and not after those of others."""
    order, other = new_order(("any", 1)), new_order(("any", 1))
    async with (
        looking(live, audience(ORDER, order_id=order.order_id)) as seen,
        looking(live, audience(ORDER, order_id=other.order_id)) as quiet,
    ):
        assert count(seen, str(order.order_id)) == 1
        await book.record(order)

        async def again() -> bool:
            return count(seen, str(order.order_id)) == 3

        await eventually(again, "shown after the change, and once more after that")
        assert count(quiet, "<p") == 1


async def test_who_comes_later_is_shown_what_the_page_may_lack(live: Live, book: MongoOrderBook) -> None:
    """Between the page and its stream something may happen: the latest orders are shown to each newcomer."""
    async with looking(live, audience()) as first:
        order = new_order(("any", 1))
        await book.record(order)
        await told(first, str(order.order_id))
        async with looking(live, audience()) as second:
            await told(second, str(order.order_id))
            assert count(first, str(order.order_id)) == 1


async def test_who_is_bound_to_a_client_sees_its_orders_only(live: Live, book: MongoOrderBook) -> None:
    """Neither the orders of others nor how many there are."""
    mine, other = new_order(("any", 1)), new_order(("any", 1))
    async with looking(live, audience()) as whole, looking(live, audience(client="c")) as bound:
        for order, client in ((other, None), (mine, "c")):
            await book.accept(AcceptedOrder(order, utc_now(), client=client))
        await told(bound, str(mine.order_id))
        await told(whole, str(other.order_id))
        assert count(bound, str(other.order_id)) == 0


async def test_a_slow_viewer_is_let_go_and_others_are_not(live: Live, book: MongoOrderBook) -> None:
    """Who does not read what comes is told so; the place is free for others."""
    slow = Viewer(may_stay)
    with live.viewing(slow, audience(), State()):
        async with looking(live, audience()) as seen:
            for _ in range(4):
                order = new_order(("any", 1))
                await book.record(order)
                await told(seen, str(order.order_id))
        assert DROP in [message async for message in slow.messages()]
        assert not count(seen, "drop")


async def test_a_stream_that_breaks_begins_anew(live: Live, book: MongoOrderBook, database: Database) -> None:
    """Whatever happened meanwhile: pages are told to look again, and then hear what follows."""
    async with looking(live, audience()) as seen:
        before = count(seen, "event: fresh")
        await database.client[database.name].drop_collection("orders")
        await database.prepare(DOCUMENTS)

        async def fresh() -> bool:
            return count(seen, "event: fresh") > before

        await eventually(fresh, "told to look again")
        order = new_order(("any", 1))
        await book.record(order)
        await told(seen, str(order.order_id))


async def test_nobody_is_served_beyond_the_limit(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their pages ask by themselves, which they do after any answer but a stream."""
    monkeypatch.setattr(live_routes, "MOST_VIEWERS", 1)
    app = FastAPI()
    app.include_router(live_routes.router)
    app.state.live = live

    async def authenticate(_request: Request) -> Caller:
        return Caller("any", frozenset({Scope.ORDERS_READ}))

    app.state.authenticate = authenticate
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://any") as client:
        with live.viewing(Viewer(may_stay), audience(), State()):
            answer = await client.get(f"/live/{ROWS}")
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "60")
        for unknown in ("unknown", ORDER):
            assert (await client.get(f"/live/{unknown}")).status_code == 404


async def test_orders_are_counted_and_timed(database: Database, book: MongoOrderBook) -> None:
    """By status, and from placing to telling; an order of an old file says nothing of today."""
    now = utc_now()
    for age in (timedelta(seconds=2), timedelta(seconds=4), timedelta(days=1)):
        order = new_order(("any", 1)).model_copy(update={"placed_at": now - age})
        await book.record(order)
        told_of = {"order_id": order.order_id, "notification_id": uuid4(), "sent_at": now}
        await book.record(NotificationSent.model_validate(NotificationSent.example | told_of))
    await book.record(new_order(("any", 1)))
    counts = await count_by_status(database)
    assert {status: count for status, count in counts.items() if count} == {
        Status.CREATED: 1,
        Status.NOTIFIED: 3,
    }
    assert await seconds_until_told(database, timedelta(hours=1)) == [2.0, 4.0]


async def test_queues_are_told_by_rabbitmq_itself(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with its consumers; one that is gone is told as such, and keeps none of the others from it."""
    monkeypatch.setattr(queues, "QUEUES", {"nobody": ["nobody.nothing"], **QUEUES})
    broker = EventBroker("ingress", system.stack.rabbitmq_url)
    await broker.connect()
    try:
        found = await read_queues(broker)
        assert found["nobody.nothing"] == GONE
        assert found.keys() == {"nobody.nothing", *OURS, *RETRY_QUEUES}
        consumed = {name: found[name].consumers for name in OURS}
        assert all(consumed.values()), consumed
    finally:
        await broker.stop()
