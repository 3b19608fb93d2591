"""The metrics: documented, true to what happened, and without a series that an outsider could make."""

import asyncio
import math
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import httpx
import pytest
from aio_pika import IncomingMessage
from faststream.rabbit import RabbitExchange
from prometheus_client import Gauge
from prometheus_client.metrics import MetricWrapperBase
from pydantic import ValidationError
from pymongo.errors import AutoReconnect, BulkWriteError, ServerSelectionTimeoutError
from starlette.types import Receive, Scope, Send

from apps.kit import metrics, readings, recovery
from apps.kit.broker_metrics import destination
from apps.kit.envelope import OtherRoutingKeyError, UnknownTypeError
from apps.kit.errors import PermanentError
from apps.kit.http_metrics import HttpMetrics
from apps.kit.mongo import Database
from apps.kit.mongo_metrics import CommandMetrics, ConnectionMetrics, ServerMetrics
from apps.kit.producer import RabbitUnavailable
from apps.kit.topology import EVENTS, RETRY_LEVELS
from apps.kit.waiting import WaitedTooLongError, Waiting
from apps.notifications.smtp import MailServerUnavailable
from apps.orders.domain import Status, milestone
from apps.orders.mongo import MongoOrderBook
from apps.orders.progress import Progress
from contracts import (
    DeadLetterOpened,
    Event,
    InvoiceIssued,
    InvoiceVoided,
    NotificationFailed,
    NotificationSent,
    NotificationSkipped,
    OrderCancelled,
    OrderCreated,
    OrderRejected,
    OrderValidated,
)
from contracts.orders import EXAMPLE_ORDER_ID

DOCUMENT = Path(__file__).parents[2] / "docs" / "METRICS.md"
NOW = datetime(2026, 11, 22, 10, 15, 5, tzinfo=UTC)
OURS = [metric for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase)]


def value(name: str, **labels: str) -> float:
    """What this process shows for one series; 0 if it does not show it."""
    return metrics.REGISTRY.get_sample_value(name, labels) or 0.0


def names(metric: str) -> set[str]:
    """The labels under which a metric is shown."""
    return {
        str({label: text for label, text in sample.labels.items() if label != "le"})
        for family in metrics.REGISTRY.collect()
        for sample in family.samples
        if family.name == metric
    }


def test_document_is_the_vocabulary() -> None:
    """The tables of METRICS.md hold each metric of ours with its type and labels, and no other."""
    rows = re.findall(r"^\| `(orderflow_\w+)` \| (\w+) \| (.*?) \|", DOCUMENT.read_text(), re.MULTILINE)
    documented = {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    defined = {
        f"{metric._name}{'_total' if metric._type == 'counter' else ''}": (metric._type, metric._labelnames)
        for metric in OURS
    }
    assert documented == defined


def test_names_follow_the_conventions() -> None:
    """Each has a sentence, its unit at its end, and no label that Prometheus puts on its targets."""
    for metric in OURS:
        assert metric._documentation.endswith(".")
        assert not {"job", "instance", "app", "le"} & set(metric._labelnames)
        if metric._type == "histogram" and metric is not metrics.GROUP_SIZE:
            assert metric._name.endswith("_seconds")


# Orders


def example(kind: type[Event], **changes: Any) -> Any:
    return kind.model_validate(kind.example | changes)


@pytest.mark.parametrize(
    ("event", "status"),
    [
        (example(OrderCreated), Status.CREATED),
        (example(OrderValidated), Status.VALIDATED),
        (example(OrderRejected), Status.REJECTED),
        (example(InvoiceIssued), Status.INVOICED),
        (example(OrderCancelled), Status.CANCELLED),
        (example(NotificationSent, template="invoice-issued"), Status.NOTIFIED),
        (example(NotificationSkipped, template="invoice-issued"), Status.UNREACHABLE),
        (example(NotificationFailed, template="invoice-issued"), Status.UNREACHABLE),
        # The cancellation counts already, by its own event.
        (example(InvoiceVoided), None),
        (example(NotificationSent, template="invoice-voided"), None),
        (example(NotificationSent, template="order-cancelled"), None),
        (example(NotificationFailed, template="order-rejected"), None),
        (example(DeadLetterOpened), None),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, Event) else str(one),
)
def test_milestones(event: Event, status: Status | None) -> None:
    """Each status is reached by one event of an order, so that none counts twice."""
    assert milestone(event) == status


class Progressed:
    """Progress over a store that knows when some orders were placed."""

    def __init__(self, placed: dict[UUID, datetime] | None = None, failure: Exception | None = None) -> None:
        self.reads: list[list[UUID]] = []
        self._placed = placed or {}
        self._failure = failure
        self.progress = Progress(self._read)

    async def _read(self, order_ids: Any) -> dict[UUID, datetime]:
        self.reads.append(list(order_ids))
        if self._failure is not None:
            raise self._failure
        return {order_id: at for order_id, at in self._placed.items() if order_id in order_ids}

    async def latency(self, stage: str, *events: Event) -> tuple[float, float]:
        """How many times, and how many seconds in all, the events add to a stage."""
        series = [f"orderflow_stage_latency_seconds_{what}" for what in ("count", "sum")]
        before = [value(name, stage=stage) for name in series]
        await self.progress.note(events, NOW)
        count, seconds = (value(name, stage=stage) - old for name, old in zip(series, before, strict=True))
        return count, round(seconds, 6)


async def test_time_from_placing_to_a_stage() -> None:
    """It is the event's own time less that of the order, which another event of it has told."""
    placed = example(OrderCreated, placed_at="2026-11-22T10:15:00Z")
    told = example(NotificationSent, template="invoice-issued", sent_at="2026-11-22T10:15:02.5Z")
    progressed = Progressed()
    assert await progressed.latency("created", placed) == (1, 5.0)
    assert await progressed.latency("notified", told) == (1, 2.5)
    assert progressed.reads == [], "nothing is read that was heard"


@pytest.mark.parametrize(
    ("placed_at", "seconds"),
    [
        ("2999-01-01T00:00:00Z", 0.0),
        ("1970-01-01T00:00:00Z", 86_400.0),
        ("2010-12-01T08:26:00+01:00", 86_400.0),
    ],
)
async def test_times_of_outsiders_are_bounded(placed_at: str, seconds: float) -> None:
    """A clock that is wrong, or an old file, gives neither a negative time nor one that outweighs all."""
    placed = example(OrderCreated, placed_at=placed_at)
    assert await Progressed().latency("created", placed) == (1, seconds)


async def test_order_that_another_process_heard_of() -> None:
    """The time of an order that this process did not hear of is read, once for all that need it."""
    order_id = UUID(EXAMPLE_ORDER_ID)
    issued = example(InvoiceIssued, issued_at="2026-11-22T10:15:03Z")
    rejected = example(OrderRejected, order_id=str(uuid4()))
    progressed = Progressed({order_id: datetime(2026, 11, 22, 10, 15, tzinfo=UTC)})
    assert await progressed.latency("invoiced", issued, rejected) == (1, 3.0)
    assert progressed.reads == [[order_id, rejected.order_id]]


async def test_count_does_not_depend_on_the_time() -> None:
    """An order whose time is not known, or cannot be read now, is counted; nothing fails for a metric."""
    before = value("orderflow_orders_total", status="invoiced")
    progressed = Progressed(failure=AutoReconnect("away"))
    assert await progressed.latency("invoiced", example(InvoiceIssued)) == (0, 0)
    assert await Progressed().latency("invoiced", example(InvoiceIssued)) == (0, 0)
    assert value("orderflow_orders_total", status="invoiced") == before + 2


async def test_memory_of_times_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many orders pass, only the latest are remembered."""
    monkeypatch.setattr("apps.orders.progress._KEPT", 10)
    progressed = Progressed()
    for _ in range(30):
        await progressed.progress.note([example(OrderCreated, order_id=str(uuid4()))], NOW)
    assert len(progressed.progress._placed) == 10


class Rivalled:
    """A collection that refuses the first so many writes of all but the first order, as known already."""

    def __init__(self, refusals: int) -> None:
        self.writes: list[int] = []
        self._refusals = refusals

    async def bulk_write(self, updates: Sequence[Any], **_: Any) -> None:
        self.writes.append(len(updates))
        if len(self.writes) <= self._refusals:
            refused = range(1 if len(self.writes) == 1 else 0, len(updates))
            raise BulkWriteError({"writeErrors": [{"index": index, "code": 11_000} for index in refused]})


@pytest.mark.parametrize(("refusals", "writes", "new"), [(0, [3], 3), (1, [3, 2], 3), (2, [3, 2, 2], 1)])
async def test_only_a_repeat_is_not_counted(refusals: int, writes: list[int], new: int) -> None:
    """An order that a rival inserted at that moment counts at the second try; what is refused again, not."""
    collection = Rivalled(refusals)
    database = SimpleNamespace(collection=lambda _document: collection)
    book = MongoOrderBook(cast("Database", database))
    before = value("orderflow_orders_total", status="created")
    await book._record_group([example(OrderCreated, order_id=str(uuid4())) for _ in range(3)])
    assert collection.writes == writes
    assert value("orderflow_orders_total", status="created") == before + new


# Messages


def refused_by_contract(body: bytes) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        OrderCreated.model_validate_json(body)
    return caught.value


@pytest.mark.parametrize(
    ("error", "attempt", "counter", "reason"),
    [
        (refused_by_contract(b"no json"), 1, metrics.DEAD_LETTERS, "undecodable"),
        (refused_by_contract(b"{}"), 1, metrics.DEAD_LETTERS, "contract"),
        (UnknownTypeError("a.b", "c.d"), 1, metrics.DEAD_LETTERS, "contract"),
        (OtherRoutingKeyError("a.b", "c.d"), 1, metrics.DEAD_LETTERS, "contract"),
        (PermanentError("no"), 1, metrics.DEAD_LETTERS, "permanent"),
        (KeyError("x"), len(RETRY_LEVELS) + 1, metrics.DEAD_LETTERS, "exhausted"),
        (KeyError("x"), 1, metrics.RETRIES, "error"),
        (WaitedTooLongError("x"), 9, metrics.RETRIES, "waited-too-long"),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, Exception) else str(one),
)
def test_reasons(error: Exception, attempt: int, counter: MetricWrapperBase, reason: str) -> None:
    """What becomes of a failed message is counted under one of few reasons, not under the error's words."""
    verdict = recovery._judge(error, attempt)
    assert (verdict.counter, verdict.cause) == (counter, reason)
    assert reason in {*recovery._CAUSES_OF_RETRY, *recovery._CAUSES_OF_DEATH}


async def test_waiting_messages_are_shown_until_they_go_on() -> None:
    """A message that waits for one thing and then for another is shown once, under the present one."""
    failures = [AutoReconnect("away"), RabbitUnavailable("away"), MailServerUnavailable("away"), OSError()]
    dependencies = ("mongodb", "rabbitmq", "smtp", "other")
    before = {name: value("orderflow_waiting_messages", dependency=name) for name in dependencies}
    seen: list[dict[str, float]] = []

    async def attempt() -> str:
        now = {name: value("orderflow_waiting_messages", dependency=name) for name in dependencies}
        seen.append({name: now[name] - before[name] for name in dependencies if now[name] != before[name]})
        if failures:
            raise failures.pop(0)
        return "done"

    message = cast("IncomingMessage", SimpleNamespace(channel=SimpleNamespace(is_closed=False)))
    assert await Waiting().out(attempt, message, (Exception,)) == "done"
    assert seen == [{}, *({name: 1} for name in dependencies)]
    assert all(value("orderflow_waiting_messages", dependency=name) == before[name] for name in dependencies)


def test_published_messages_have_bounded_names() -> None:
    """An event of ours is named by its topic; whatever else is sent, by its exchange."""

    def name(exchange: str, routing_key: str) -> str:
        return destination(RabbitExchange(exchange), routing_key)

    assert name(EVENTS.name, OrderCreated.topic) == OrderCreated.topic
    assert name(EVENTS.name, f"order.{uuid4().hex}.v1") == EVENTS.name
    assert name("replay", f"stock.{uuid4().hex}") == "replay"


# HTTP


async def test_requests_of_any_kind_make_few_series() -> None:
    """Methods and paths that a client makes up share one series."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    transport = httpx.ASGITransport(HttpMetrics(app))
    before = names("orderflow_http_request_duration_seconds")
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        for _ in range(5):
            mark = uuid4().hex
            await client.request(f"X{mark}", f"/{mark}", params={mark: mark}, headers={mark: mark})
    assert len(names("orderflow_http_request_duration_seconds") - before) <= 1


# MongoDB


@pytest.fixture
def own_servers() -> Iterator[ServerMetrics]:
    """The listener alone, as if no other client were there."""
    shown = {state: value("orderflow_mongodb_servers", state=state) for state in STATES}
    yield ServerMetrics()
    for state, number in shown.items():
        metrics.MONGODB_SERVERS.labels(state).set(number)


STATES = ("primary", "secondary", "other", "unknown")


def servers() -> dict[str, float]:
    return {state: value("orderflow_mongodb_servers", state=state) for state in STATES}


def test_servers_are_counted_by_state(own_servers: ServerMetrics) -> None:
    """Each server counts once, under its present state, also when several clients of a process know it."""

    def now(host: str, kind: str) -> None:
        description = SimpleNamespace(server_type_name=kind)
        event = SimpleNamespace(server_address=(host, 27017), new_description=description)
        own_servers.description_changed(cast("Any", event))

    for host in ("a", "b", "c", "a"):
        own_servers.opened(cast("Any", SimpleNamespace(server_address=(host, 27017))))
    assert servers() == {"primary": 0, "secondary": 0, "other": 0, "unknown": 3}
    for host, kind in (("a", "RSPrimary"), ("b", "RSSecondary"), ("c", "RSArbiter"), ("a", "RSPrimary")):
        now(host, kind)
    assert servers() == {"primary": 1, "secondary": 1, "other": 1, "unknown": 0}
    now("a", "Unknown")
    own_servers.closed(cast("Any", SimpleNamespace(server_address=("c", 27017))))
    assert servers() == {"primary": 0, "secondary": 1, "other": 0, "unknown": 1}


def test_connections_are_in_use_or_idle() -> None:
    """What is created, lent, given back and closed leaves no connection behind in the count."""
    listener, event = ConnectionMetrics(), cast("Any", None)
    states = ("idle", "in_use")
    before = [value("orderflow_mongodb_connections", state=state) for state in states]

    def more() -> tuple[float, ...]:
        now = [value("orderflow_mongodb_connections", state=state) for state in states]
        return tuple(number - old for number, old in zip(now, before, strict=True))

    listener.connection_created(event)
    assert more() == (1, 0)
    listener.connection_checked_out(event)
    assert more() == (0, 1)
    listener.connection_checked_in(event)
    listener.connection_closed(event)
    assert more() == (0, 0)


def test_commands_that_are_not_known_share_a_name() -> None:
    """The driver's commands are few; whatever else somebody sends is counted as `other`."""
    listener = CommandMetrics()
    series = "orderflow_mongodb_command_duration_seconds"
    before = names(series)
    count = value(f"{series}_count", command="other"), value(f"{series}_count", command="find")
    for name in ("whatsmyuri", uuid4().hex, "find"):
        listener.succeeded(cast("Any", SimpleNamespace(command_name=name, duration_micros=2500)))
    assert names(series) == before
    assert value(f"{series}_count", command="other") == count[0] + 2
    assert value(f"{series}_count", command="find") == count[1] + 1


async def test_readings_do_not_wait_for_mongodb(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not answer in time, or fails, is not a number; what answers is read all the same."""
    monkeypatch.setattr(readings, "_TIMEOUT_SECONDS", 0.05)
    gauges = [Gauge(f"gauge_{number}", "For the test.", registry=None) for number in range(3)]

    async def hangs() -> float:
        await asyncio.Event().wait()
        return 1.0

    async def fails() -> float:
        raise ServerSelectionTimeoutError("no servers")

    async def answers() -> float:
        return 7.0

    async with asyncio.timeout(timedelta(seconds=20).total_seconds()):
        await readings.take(dict(zip(gauges, (hangs, fails, answers), strict=True)))
    shown = [gauge._value.get() for gauge in gauges]
    assert math.isnan(shown[0])
    assert math.isnan(shown[1])
    assert shown[2] == 7.0
