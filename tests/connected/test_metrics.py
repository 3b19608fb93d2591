"""What a run of all apps shows at /metrics: the vocabulary, true counts, and nothing that outsiders name."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from uuid import UUID, uuid4

import aio_pika
import httpx
import pytest
from conftest import System, body_of, eventually, new_order
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families
from receiver import answer, receiving

from apps.cli.local.stack import API, WORKERS
from apps.kit import metrics
from apps.kit.clock import utc_now
from apps.kit.mongo import open_database
from apps.kit.settings import Settings
from apps.kit.topology import DEAD
from apps.orders.mongo import DOCUMENTS, MongoOrderBook
from contracts import OrderCreated, OrderValidated, StockAdjusted

pytestmark = pytest.mark.connected

Series = tuple[str, frozenset[tuple[str, str]]]
"""A name and its labels."""

OURS = "orderflow_"
FASTSTREAM = "faststream_"
LABELS_OF_SAMPLES = {"le"}
STATUSES = ("created", "validated")


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=15, follow_redirects=True, trust_env=False) as client:
        yield client


async def shown_by(process: str, system: System, http: httpx.AsyncClient) -> dict[Series, float]:
    """Every series of one process, of ours and of FastStream."""
    url = system.stack.supervisor.ready_url(process).replace("/health/ready", "/metrics")
    text = (await http.get(url)).raise_for_status().text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith((OURS, FASTSTREAM))
    }


async def shown(system: System, http: httpx.AsyncClient) -> dict[str, dict[Series, float]]:
    """Every series by process."""
    processes = (API, *WORKERS)
    found = await asyncio.gather(*(shown_by(process, system, http) for process in processes))
    return dict(zip(processes, found, strict=True))


class Counted:
    """By how much counters have grown since the test began, over all processes."""

    def __init__(self, system: System, http: httpx.AsyncClient) -> None:
        self._system = system
        self._http = http
        self._before: dict[Series, float] = {}

    async def begin(self) -> None:
        self._before = await self._sums()

    async def of(self, name: str, *labels: str) -> dict[str, float]:
        """The growth of one metric by the values of its labels, where there is any."""
        now = await self._sums()
        growth: dict[str, float] = {}
        for (series, values), value in now.items():
            if series == name and (more := value - self._before.get((series, values), 0)):
                given = dict(values)
                growth["/".join(given[label] for label in labels)] = more
        return growth

    async def _sums(self) -> dict[Series, float]:
        sums: dict[Series, float] = {}
        for series in (await shown(self._system, self._http)).values():
            for key, value in series.items():
                sums[key] = sums.get(key, 0) + value
        return sums


@pytest.fixture
async def counted(system: System, http: httpx.AsyncClient) -> Counted:
    counted = Counted(system, http)
    await counted.begin()
    return counted


def vocabulary() -> dict[str, MetricWrapperBase]:
    """Every metric of ours by the name of its family."""
    return {
        family.name: metric
        for metric in vars(metrics).values()
        if isinstance(metric, MetricWrapperBase)
        for family in metric.describe()
    }


def family_of(sample: str, known: Iterable[str]) -> str | None:
    """The family that a sample belongs to, among those that are known."""
    stems = (sample.removesuffix(suffix) for suffix in ("_total", "_bucket", "_sum", "_count", ""))
    return next((stem for stem in stems if stem in known), None)


async def test_run_shows_the_vocabulary_and_nothing_else(system: System, http: httpx.AsyncClient) -> None:
    """Each metric is shown by some app with the labels of its definition, and each shown one is defined."""
    (sku,) = await system.stock_up(None)
    order = new_order((sku, 1), email="ana@example.com")
    await system.publish(order)
    await system.settled(order.order_id)

    known = vocabulary()
    seen: dict[str, set[str]] = {}
    for series in (await shown(system, http)).values():
        for name, labels in series:
            if name.startswith(OURS):
                family = family_of(name, known)
                assert family is not None, f"{name} is not in the vocabulary"
                seen.setdefault(family, set()).update({label for label, _ in labels} - LABELS_OF_SAMPLES)
    assert seen == {name: set(metric._labelnames) for name, metric in known.items()}


async def test_order_counts_once_for_each_status_however_often_its_events_come(
    system: System, counted: Counted
) -> None:
    """An order over HTTP, whose events are all published and handled again, is one order in each status."""
    (sku,) = await system.stock_up(None)
    placed = await system.api.post("/v1/orders", json=body_of(new_order((sku, 1), email="ana@example.com")))
    order_id = UUID(placed.json()["order_id"])
    await system.settled(order_id)
    assert (await system.api.post(f"/v1/orders/{order_id}/resend")).status_code == 202
    for topic in ("order.created.v1", "order.validated.v1", "invoice.issued.v1", "notification.sent.v1"):
        await system.handled("orders", order_id, topic, times=2)

    way = ("created", "validated", "invoiced", "notified")
    assert await counted.of("orderflow_orders_total", "status") == dict.fromkeys(("received", *way), 1)
    assert await counted.of("orderflow_stage_latency_seconds_count", "stage") == dict.fromkeys(way, 1)
    seconds = await counted.of("orderflow_stage_latency_seconds_sum", "stage")
    assert 0 < seconds["validated"] <= seconds["invoiced"] <= seconds["notified"] < 30


async def test_rivals_count_each_order_once(system: System) -> None:
    """Two processes hear at the same moment, and twice, of new orders: each counts once."""
    settings = Settings.model_validate(
        {"mongodb_url": system.stack.mongodb_url, "database_prefix": f"rivals_{uuid4().hex[:8]}"}
    )
    created = [new_order(("any", 1)) for _ in range(500)]
    now = utc_now()
    validated = [
        OrderValidated.of(one, order_id=one.order_id, placed_at=one.placed_at, validated_at=now)
        for one in created
    ]

    def counts() -> list[float]:
        name = "orderflow_orders_total"
        return [metrics.REGISTRY.get_sample_value(name, {"status": status}) or 0 for status in STATUSES]

    before = counts()
    async with open_database("orders", *DOCUMENTS, settings=settings) as database:
        books = MongoOrderBook(database), MongoOrderBook(database)
        for first, second in ((created, validated), (validated, created)):
            await asyncio.gather(*map(books[0].record, first), *map(books[1].record, second))
        await database.client.drop_database(database.name)
    assert [now - old for now, old in zip(counts(), before, strict=True)] == [500, 500]


async def test_orders_from_other_systems_are_counted_by_what_becomes_of_them(
    system: System, counted: Counted
) -> None:
    """One that is refused and one that is cancelled with its invoice; nobody received them over HTTP."""
    (sku,) = await system.stock_up(None)
    refused, cancelled = new_order((f"unknown-{uuid4().hex}", 1)), new_order((sku, 1))
    for order in (refused, cancelled):
        await system.publish(order)
        await system.settled(order.order_id)
    answer = await system.api.post(f"/v1/orders/{cancelled.order_id}/cancel", json={"reason": "A test."})
    assert answer.status_code == 202, answer.text
    await system.handled("orders", cancelled.order_id, "invoice.voided.v1", times=1)

    assert await counted.of("orderflow_orders_total", "status") == {
        "created": 2,
        "rejected": 1,
        "validated": 1,
        "invoiced": 1,
        "unreachable": 1,
        "cancelled": 1,
    }


async def test_what_fails_is_counted_by_queue_and_reason(system: System, counted: Counted) -> None:
    """Each way to die and each new attempt counts once, for the worker that saw it."""
    (sku,) = await system.stock_up(None)
    order = new_order((sku, 1))
    await system.publish(order)
    await system.settled(order.order_id)
    other_lines = json.loads(new_order((sku, 2)).model_dump_json()) | {"order_id": str(order.order_id)}
    write_off = StockAdjusted(
        adjustment_id=uuid4(), sku=uuid4().hex, mode="add", quantity=-5, adjusted_at="2026-11-01T08:00:00Z"
    )
    await system.publish_raw(order.topic, b"no json")
    await system.publish_raw(order.topic, b"{}")
    await system.publish_raw(order.topic, order.model_dump_json().encode(), type="order.created.v9")
    await system.publish_raw(order.topic, json.dumps(other_lines).encode())
    await system.publish(write_off)
    await system.publish_raw(f"nobody.wants.{uuid4().hex}", b"{}")

    def of_stock(counts: Mapping[str, float]) -> dict[str, float]:
        return {name: count for name, count in counts.items() if name.startswith(("stock.", "unrouted"))}

    expected = {
        "stock.order-created/undecodable": 1,
        "stock.order-created/contract": 2,
        "stock.order-created/permanent": 1,
        "stock.stock-adjusted/exhausted": 1,
        "unrouted/unrouted": 1,
    }

    async def all_counted() -> bool:
        return of_stock(await counted.of("orderflow_dead_letters_total", "queue", "reason")) == expected

    await eventually(all_counted, "dead letters counted")
    retries = of_stock(await counted.of("orderflow_retries_total", "queue", "reason"))
    assert retries == {"stock.stock-adjusted/error": 4}


async def test_ingress_counts_what_waits_for_an_operator(system: System, http: httpx.AsyncClient) -> None:
    """Open dead letters, as the archive has them at the moment of the scrape."""
    message_id = str(uuid4())
    await system.publish_raw(f"nobody.wants.{uuid4().hex}", b"{}", message_id=message_id)
    letter = await system.dead_letter(message_id)
    letters = system.database("recovery")["dead_letters"]
    key = ("orderflow_open_dead_letters", frozenset[tuple[str, str]]())

    async def as_archived() -> float | None:
        is_open = {"state": {"$in": ["open", "replaying"]}}
        value = (await shown_by(API, system, http))[key]
        return value if value == await letters.count_documents(is_open) else None

    count = await eventually(as_archived, "open dead letters counted")
    discarded = await system.api.post(f"/v1/dead-letters/{letter['_id']}/discard", json={"reason": "A test."})
    assert discarded.is_success
    assert await eventually(as_archived, "one less") == count - 1


async def test_webhook_endpoint_that_fails_shows(system: System, http: httpx.AsyncClient) -> None:
    """An endpoint that does not take what it is sent is failing, and its attempts have failed."""
    async with receiving() as receiver:
        receiver.always = answer(500)
        registered = await system.api.post(
            "/v1/webhook-endpoints", json={"url": receiver.url, "event_types": [OrderCreated.topic]}
        )
        endpoint = f"/v1/webhook-endpoints/{registered.json()['endpoint_id']}"
        failed = ("orderflow_webhook_attempts_total", frozenset({("outcome", "failed")}))
        failing = ("orderflow_webhook_endpoints", frozenset({("state", "failing")}))
        before = (await shown_by("webhooks", system, http))[failed]
        await system.publish(new_order(("any", 1)))

        async def is_failing() -> bool:
            attempts = (await shown_by("webhooks", system, http))[failed]
            return attempts > before and (await shown_by(API, system, http))[failing] == 1

        await eventually(is_failing, "the endpoint is failing")
        await system.api.delete(endpoint)
        assert (await shown_by(API, system, http))[failing] == 0


async def hostile_round(system: System, http: httpx.AsyncClient) -> None:
    """Everything that an outsider can name, under names that nobody used before; until all is archived."""
    mark = uuid4().hex
    order = new_order((f"sku-{mark}", 1), email=f"{mark}@example.com")
    headers = {
        "orderflow-queue": f"queue-{mark}",
        "orderflow-handler": f"handler-{mark}",
        "orderflow-error-type": f"Error{mark}",
        "orderflow-reason": f"reason {mark}",
        "orderflow-routing-key": order.topic,
        "x-death": [{"queue": f"dead-{mark}", "reason": "delivery_limit", "count": 1}],
    }
    await system.publish_raw(f"order.{mark}.v1", b"{}", message_id=f"unrouted-{mark}")
    await system.publish_raw(
        order.topic,
        order.model_dump_json().encode(),
        message_id=f"type-{mark}",
        type=f"order.{mark}",
        app_id=f"app-{mark}",
        headers=headers,
    )
    dead = await system.channel.get_exchange(DEAD.name, ensure=False)
    for kept in (headers, {name: value for name, value in headers.items() if name != "x-death"}):
        message = aio_pika.Message(b"{}", message_id=f"dead-{mark}", headers=kept)
        await dead.publish(message, f"key-{mark}")
    unrouted = await system.dead_letter(f"unrouted-{mark}")
    await system.dead_letters(f"type-{mark}", 2)
    await system.dead_letters(f"dead-{mark}", 2)
    replayed = await system.api.post(f"/v1/dead-letters/{unrouted['_id']}/replay?force=true")
    assert replayed.is_success, replayed.text

    api = system.stack.api_url
    await http.request(f"X{mark[:8].upper()}", f"{api}/v1/orders")
    await http.get(f"{api}/{mark}/{mark}")
    await http.get(f"{api}/v1/orders/{uuid4()}", headers={"Authorization": f"Bearer {mark}"})
    await http.post(f"{api}/v1/orders", json={mark: mark}, headers={"Idempotency-Key": mark})
    await system.api.get(f"/v1/orders/{mark}")


async def test_outsiders_make_no_series(system: System, http: httpx.AsyncClient) -> None:
    """Event types, queues, errors, methods, paths and ids that an outsider makes up add no series."""
    await hostile_round(system, http)
    before = {process: series.keys() for process, series in (await shown(system, http)).items()}
    await hostile_round(system, http)

    async def none_in_work() -> bool:
        """So that nothing is yet to be counted."""
        series = [one for shown_by in (await shown(system, http)).values() for one in shown_by.items()]
        return not any(value for (name, _), value in series if name.endswith("_in_process"))

    await eventually(none_in_work, "nothing in work")
    after = await shown(system, http)
    assert {process: series.keys() - before[process] for process, series in after.items()} == {
        process: set() for process in before
    }
