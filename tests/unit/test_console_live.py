"""What moves in the console: who is slow is let go, nobody else waits, and no series is made by it."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from pymongo import AsyncMongoClient
from pymongo.errors import AutoReconnect
from starlette.datastructures import State
from starlette.types import Message

from apps.console import hub, streams
from apps.console import live as live_routes
from apps.console.audience import ORDER, VIEWS, Audience, Changes, Draw, View
from apps.console.changes import MOST_DRAWN, MOST_WAITING, Batch, Watch
from apps.console.figures import Latency, Reading, Seen
from apps.console.flow import PARTS, concerns, context_of
from apps.console.hub import Live, _Heard
from apps.console.queues import GONE, QUEUES, RETRY_QUEUES, QueueState
from apps.console.rates import BUCKET_SECONDS, Rates
from apps.console.streams import DROP, EventStream, Viewer, event, shown
from apps.kit import metrics
from apps.kit.access import Caller
from apps.kit.errors import DependencyUnavailable
from apps.kit.http_metrics import HttpMetrics
from apps.kit.mongo import Database
from apps.kit.problems import ProblemError
from apps.kit.scopes import Scope
from apps.kit.wording import Language
from apps.orders.domain import Status


async def may_stay() -> bool:
    return True


async def said(viewer: Viewer) -> list[bytes]:
    """All that a viewer is told until its end, but how long to wait before it comes back."""
    return [message async for message in viewer.messages()][1:]


async def test_who_does_not_take_what_is_offered_is_let_go() -> None:
    """A third message that finds two waiting ends the stream, with a word for the page."""
    viewer = Viewer(may_stay)
    for text in (b"1", b"2", b"3", b"4"):
        viewer.offer(text)
    assert await said(viewer) == [DROP]


async def test_who_takes_what_is_offered_gets_all_of_it() -> None:
    """Messages come in their order, and the end after them."""
    viewer = Viewer(may_stay)
    viewer.offer(b"1")
    viewer.end(b"2")
    viewer.offer(b"3")
    assert await said(viewer) == [b"2"]


async def test_silence_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A comment now and then keeps proxies from closing a stream on which nothing happens."""
    monkeypatch.setattr(streams, "_SILENCE_SECONDS", 0.001)
    viewer = Viewer(may_stay)
    messages = viewer.messages()
    assert [await anext(messages) for _ in range(3)][1:] == [b":\n\n", b":\n\n"]
    viewer.end()


async def test_who_lost_the_right_to_look_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that has ended ends its streams, also one on which nothing happens."""
    monkeypatch.setattr(streams, "_CHECKED_EVERY_SECONDS", 0)

    async def may_not() -> bool:
        return False

    told = Viewer(may_not)
    told.offer(b"what it may not see any more")
    assert await said(told) == [DROP]
    assert await said(Viewer(may_not)) == [DROP]


async def test_who_takes_nothing_at_all_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection whose other end does not read is given up, and its place is free again."""
    monkeypatch.setattr(streams, "_SEND_SECONDS", 0.01)
    viewer = Viewer(may_stay)

    async def receive() -> Message:
        return await asyncio.Future()

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Future()

    async with asyncio.timeout(5):
        await EventStream(viewer, nullcontext())({"type": "http"}, receive, send)


async def test_a_viewer_who_leaves_ends_the_stream() -> None:
    """The page that is closed costs nothing any more."""
    viewer = Viewer(may_stay)
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    async with asyncio.timeout(5):
        await EventStream(viewer, nullcontext())({"type": "http"}, receive, send)
    head = dict(sent[0]["headers"])
    assert head[b"content-type"].startswith(b"text/event-stream")
    assert b"content-length" not in head


def test_no_text_becomes_a_field_of_the_stream() -> None:
    """Whatever ends a line, in whatever a customer wrote, what follows it is data."""
    message = shown(["<p id='a'>x\nevent: drop\rid: 1\r\n\ndata</p>", "<p id='b'>\u2028y</p>"])
    assert message.endswith(b"\n\n")
    assert all(line.startswith(b"data: ") for line in message.strip().split(b"\n"))
    assert shown([]) == b""
    assert event("fresh", 5) == b"event: fresh\ndata: 5\n\n"


def watch() -> tuple[Watch, Rates]:
    rates = Rates()
    return Watch(None, rates), rates  # type: ignore[arg-type]  # nothing is read


def changes(watched: Watch, *orders: UUID, is_new: bool = True) -> Any:
    """One batch of changes, as if the stream had told them."""
    changed: dict[UUID, bool] = {}
    for order_id in orders:
        kind = "insert" if is_new else "update"
        watched._note({"documentKey": {"_id": order_id}, "operationType": kind, "rank": 1}, changed)
    watched.opened_at = 0.0
    return watched._batch(changed)


def test_a_burst_is_worked_off_and_ends_with_a_look_at_the_whole() -> None:
    """Twenty orders are drawn at a time, the latest first; what was too much is told, and made good."""
    watched, _ = watch()
    ids = [uuid4() for _ in range(MOST_WAITING + 2 * MOST_DRAWN)]
    batch = changes(watched, *ids)
    assert list(batch.to_draw) == ids[: -MOST_DRAWN - 1 : -1]
    assert batch.more == len(ids) - MOST_DRAWN
    assert not batch.is_caught_up
    drawn = [*batch.to_draw]
    while not (batch := changes(watched)).is_caught_up:
        assert len(batch.to_draw) == MOST_DRAWN
        drawn += batch.to_draw
    drawn += batch.to_draw
    assert len(set(drawn)) == len(drawn) == MOST_WAITING + MOST_DRAWN
    assert not changes(watched).is_caught_up


def test_an_order_that_is_new_stays_so_until_it_is_drawn() -> None:
    """Its other changes within the same second do not hide that pages do not have it."""
    watched, _ = watch()
    order = uuid4()
    changed: dict[UUID, bool] = {}
    for kind in ("insert", "update"):
        watched._note({"documentKey": {"_id": order}, "operationType": kind}, changed)
    assert watched._batch(changed).to_draw == {order: True}
    assert changes(watched, order, is_new=False).to_draw == {order: False}


def test_rates_are_of_what_was_seen() -> None:
    """An order counts once at each status; without a watch there is no rate, rather than none."""
    rates = Rates()
    assert rates.per_second(Status.CREATED) is None
    assert set(rates.course().ended) == {None}
    rates.note(Status.CREATED.rank, is_new=True)
    rates.note(Status.NOTIFIED.rank, is_new=False)
    rates.note(None, is_new=False)
    rates.pass_second()
    bucket = next(iter(rates._arrived))
    assert (rates._arrived[bucket], rates._ended[bucket]) == (1, 1)


def test_what_came_in_before_is_recalled() -> None:
    """The plot begins with what the database knows; when orders ended before, nobody knows."""
    rates = Rates()
    first = rates.course().times[0]
    rates.recall({first: 10}, first + 900)
    course = rates.course()
    assert course.arrived[0] in (10, 0)  # at most one step has passed meanwhile
    assert set(course.ended) == {None}
    assert len(course.times) == len(course.arrived) == len(course.ended) == 15 * 60 // BUCKET_SECONDS - 1


async def test_a_reading_is_made_once_for_all_who_ask() -> None:
    """However many look: one asks the database, and a failure is no value."""
    count = 0

    async def read() -> int:
        nonlocal count
        count += 1
        await asyncio.sleep(0)
        return count

    reading = Reading(read, 60)
    assert await asyncio.gather(*(reading.value() for _ in range(5))) == [1] * 5

    async def fail() -> int:
        raise DependencyUnavailable("away")

    assert await Reading(fail, 60).value() is None


WELL = Seen(
    states={"mongodb": "ok", "rabbitmq": "ok"},
    counts=dict.fromkeys(Status, 3),
    queues={
        **{name: QueueState(0, 1) for names in QUEUES.values() for name in names},
        **{name: QueueState(0, 0) for name in RETRY_QUEUES},
    },
    growing=frozenset(),
    unpublished_seconds=0.0,
    stuck=0,
    dead_letters=0,
    endpoints={"enabled": 1, "failing": 0, "disabled": 0},
    latency=Latency(0.1, 0.4, 20),
)


def other(**changed: Any) -> Seen:
    return Seen(**{**vars(WELL), **changed})


def queues(name: str, state: QueueState) -> Mapping[str, QueueState]:
    return {**(WELL.queues or {}), name: state}


BACKLOG = queues("billing.order-validated", QueueState(501, 1))
ILL = {
    "away": other(states={"mongodb": "no answer within 3 s", "rabbitmq": "ok"}, counts=None, latency=None),
    "unread": other(stuck=None),
    "unpublished": other(unpublished_seconds=61.0),
    "stuck": other(stuck=2),
    "no_consumer": other(queues=queues("stock.order-created", GONE)),
    "backlog": other(queues=BACKLOG, growing=frozenset({"billing.order-validated"})),
    "dead_letters": other(dead_letters=1),
    "slow": other(latency=Latency(1.0, 61.0, 20)),
    "endpoints": other(endpoints={"enabled": 0, "failing": 2, "disabled": 1}),
}


def test_what_is_well_is_of_no_concern() -> None:
    """A long queue that empties, and a reading without orders, are no faults."""
    assert concerns(WELL) == []
    assert concerns(other(latency=None, queues=BACKLOG)) == []


@pytest.mark.parametrize("kind", ILL)
def test_each_fault_is_told(kind: str) -> None:
    """What an alert would tell, the page tells; what follows from it, it does not repeat."""
    assert [concern.kind for concern in concerns(ILL[kind])] == [kind]


@pytest.fixture(params=Language)
def audience(request: pytest.FixtureRequest) -> Iterator[Audience]:
    return Audience("flow", request.param, "/console", frozenset(Scope))


@pytest.mark.parametrize("seen", [WELL, other(counts=None, queues=None, endpoints=None), *ILL.values()])
def test_every_part_can_be_drawn(audience: Audience, seen: Seen) -> None:
    """In both languages, whatever is missing; each part is one element that can be replaced."""
    for part in PARTS:
        html = audience.render(f"flow/{part}.html", **context_of(seen, Rates())).strip()
        assert f'id="flow-{part}" data-poll' in html.split(">", 1)[0]
        assert "style=" not in html


def count(route: str, status: int = 200) -> float:
    labels = {"method": "GET", "route": route, "status": str(status)}
    return metrics.REGISTRY.get_sample_value("orderflow_http_request_duration_seconds_count", labels) or 0.0


@pytest.mark.parametrize("proxy", ["", "/shop"])
async def test_a_mounted_apps_routes_are_told_with_their_mount(proxy: str) -> None:
    """Pages of the console are no routes of the API of the same path, whatever a proxy adds."""
    outer, inner = FastAPI(), FastAPI()
    name = f"/things-{uuid4().hex}/{{thing_id}}"

    @inner.get(name)
    async def show(thing_id: str) -> str:
        return thing_id

    outer.mount("/inner", inner)
    transport = httpx.ASGITransport(HttpMetrics(outer), root_path=proxy)
    async with httpx.AsyncClient(transport=transport, base_url="http://any") as client:
        path = name.replace("{thing_id}", "1")
        assert (await client.get(f"{proxy}/inner{path}")).status_code == 200
    assert count(f"/inner{name}") == 1


async def test_an_event_stream_is_observed_when_it_begins() -> None:
    """A page that is open for hours is no slow request."""
    app = FastAPI()
    name = f"/stream-{uuid4().hex}"
    viewer = Viewer(may_stay)

    @app.get(name)
    async def follow() -> Response:
        return EventStream(viewer, nullcontext())

    async def receive() -> Message:
        return await asyncio.Future()

    begun = asyncio.Event()

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            begun.set()

    scope = {"type": "http", "method": "GET", "path": name, "headers": [], "query_string": b""}
    stream = asyncio.create_task(HttpMetrics(app)(scope, receive, send))
    await begun.wait()
    assert count(name) == 1
    viewer.end()
    await stream
    assert count(name) == 1


def test_every_queue_is_shown_with_its_app() -> None:
    """The console, which imports no worker, knows each queue that the workers consume, and no other."""
    from apps.cli.system import BROKERS  # noqa: PLC0415  # all apps at once

    consumed = {broker.app: {consumer.queue.name for consumer in broker.consumers} for broker in BROKERS}
    assert {app: set(names) for app, names in QUEUES.items()} == {
        app: names for app, names in consumed.items() if names
    }


def drawn_by(draw: Draw) -> View:
    """A page of which something is drawn every second."""
    return View(draw, each_tick=True, scope=Scope.ORDERS_READ, for_whole_shop=True, is_page=True)


ENGLISH = (Language.ENGLISH, "", frozenset[Scope]())
ANYBODY = Audience("any", *ENGLISH)


@pytest.fixture
async def away() -> AsyncIterator[Live]:
    """What is shown while MongoDB is away."""
    client = AsyncMongoClient[dict[str, Any]]("mongodb://127.0.0.1:1", serverSelectionTimeoutMS=10)
    live = Live(Database(client, "any"))
    yield live
    await live.close()
    await client.close()


async def test_who_comes_while_the_stream_is_being_closed_is_shown_what_moves(
    monkeypatch: pytest.MonkeyPatch, away: Live
) -> None:
    """Nobody has to wait for another viewer until something moves in their page."""
    is_closing, may_close = asyncio.Event(), asyncio.Event()

    async def draw(_audience: Audience, _changes: Changes, _state: State) -> Sequence[str]:
        return ["<p id='a'>it moves</p>"]

    async def close_slowly() -> None:
        if not away.viewers:
            is_closing.set()
            await may_close.wait()

    monkeypatch.setitem(VIEWS, "any", drawn_by(draw))
    monkeypatch.setattr(hub, "_LINGER_SECONDS", 0)
    monkeypatch.setattr(hub, "_TICK_SECONDS", 0)
    async with asyncio.timeout(10):
        with away.viewing(Viewer(may_stay), ANYBODY, State()):
            monkeypatch.setattr(away._watch, "close", close_slowly)
        await is_closing.wait()
        viewer = Viewer(may_stay)
        with away.viewing(viewer, ANYBODY, State()):
            may_close.set()
            messages = viewer.messages()
            assert [await anext(messages) for _ in range(2)][1] == shown(["<p id='a'>it moves</p>"])


async def test_nothing_is_kept_of_what_was_drawn_for_those_who_left(
    monkeypatch: pytest.MonkeyPatch, away: Live
) -> None:
    """Each order's page is an audience of its own, so whatever stayed would stay for good."""
    is_drawing, may_go_on = asyncio.Event(), asyncio.Event()

    async def draw(_audience: Audience, _changes: Changes, _state: State) -> Sequence[str]:
        is_drawing.set()
        await may_go_on.wait()
        return ["<p id='a'>the whole order</p>"]

    monkeypatch.setitem(VIEWS, "any", drawn_by(draw))
    monkeypatch.setattr(hub, "_LINGER_SECONDS", 0)
    monkeypatch.setattr(hub, "_TICK_SECONDS", 0)
    async with asyncio.timeout(10):
        with away.viewing(Viewer(may_stay), ANYBODY, State()):
            await is_drawing.wait()
            running = away._running
        may_go_on.set()
        assert running is not None
        await running
    assert away._sent == {}


async def test_each_audience_of_an_order_is_shown_what_follows_from_an_event(
    monkeypatch: pytest.MonkeyPatch, away: Live
) -> None:
    """Deliveries come after their event; who reads in another language sees them too."""
    order_id = uuid4()
    audiences = [Audience(ORDER, language, "", frozenset(), None, order_id) for language in Language]
    heard = _Heard(Batch(frozenset({order_id}), {}, 0, is_caught_up=False), {}, {})
    later = _Heard(Batch(frozenset(), {}, 0, is_caught_up=False), {}, {})
    monkeypatch.setattr(hub, "_TICK_SECONDS", 0)

    assert [away._is_due(audience, heard, []) for audience in audiences] == [True, True]
    assert [away._is_due(audience, later, []) for audience in audiences] == [True, True]
    assert [away._is_due(audience, later, []) for audience in audiences] == [False, False]


async def test_who_sees_one_client_only_is_told_to_look_again_under_load(
    monkeypatch: pytest.MonkeyPatch, away: Live
) -> None:
    """How many orders of others wait is none of their business; that theirs may be among them is."""
    monkeypatch.setattr(hub, "RECENT_SECONDS", 0)
    away._opened_at = away._watch.opened_at = 0.0
    busy = Batch(frozenset(), {}, 100, is_caught_up=False)
    with (
        away.viewing(all_seeing := Viewer(may_stay), Audience("orders", *ENGLISH), State()),
        away.viewing(bound := Viewer(may_stay), Audience("orders", *ENGLISH, "client-1"), State()),
    ):
        all_seeing.is_stale = bound.is_stale = False
        away._note_staleness(busy)
        assert (all_seeing.is_stale, bound.is_stale) == (False, False)
        away._note_staleness(busy)
        assert (all_seeing.is_stale, bound.is_stale) == (False, True)


async def test_without_mongodb_what_needs_none_is_still_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first page has to say that MongoDB is away; nobody is told to look again before it is back."""

    async def draw(_audience: Audience, _changes: Changes, _state: State) -> Sequence[str]:
        return ["<p id='a'>MongoDB does not answer</p>"]

    monkeypatch.setitem(VIEWS, "any", drawn_by(draw))
    client = AsyncMongoClient[dict[str, Any]]("mongodb://127.0.0.1:1", serverSelectionTimeoutMS=10)
    live, viewer = Live(Database(client, "any")), Viewer(may_stay)
    with live.viewing(viewer, ANYBODY, State()):
        messages = viewer.messages()
        async with asyncio.timeout(10):
            _, first = await anext(messages), await anext(messages)
        await live.close()
    assert first == shown(["<p id='a'>MongoDB does not answer</p>"])
    assert viewer.is_stale
    await client.close()


@pytest.mark.parametrize(
    ("answer", "stays"),
    [
        (Caller("key", frozenset({Scope.ORDERS_READ})), True),
        (Caller("key", frozenset({Scope.ORDERS_WRITE})), False),
        (Caller("key", frozenset({Scope.ORDERS_READ}), "client"), False),
        (ProblemError(401, "revoked"), False),
        (AutoReconnect("away"), True),
    ],
)
async def test_a_session_is_asked_for_while_its_stream_is_open(
    answer: Caller | Exception,
    stays: bool,  # noqa: FBT001  # a case of the table
) -> None:
    """Who has lost a right, or gained one, has to come anew; nobody is let go because MongoDB is away."""

    async def authenticate(_request: Request) -> Caller:
        if isinstance(answer, Exception):
            raise answer
        return answer

    app = FastAPI()
    app.state.authenticate = authenticate
    request = Request({"type": "http", "app": app, "headers": []})
    before = Caller("key", frozenset({Scope.ORDERS_READ}))
    assert await live_routes._may_stay(request, before) is stays
