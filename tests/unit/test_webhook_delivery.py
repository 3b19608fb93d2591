"""The delivery loop without a network: endpoints take turns, and those that hang leave places to others."""

import asyncio
import time
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from apps.kit.clock import utc_now
from apps.webhooks.app import app, broker
from apps.webhooks.condition import MongoCondition
from apps.webhooks.delivery import _POLL_SECONDS, Deliverer
from apps.webhooks.domain import Attempt, State
from apps.webhooks.mongo import Delivery, Endpoint, MongoOutbox, new_delivery
from apps.webhooks.sender import Sender
from apps.webhooks.signing import first_secret, new_secret
from contracts import Event

HANGING = "https://hanging.example/hook"
HEALTHY = "https://healthy.example/hook"
GONE = "https://gone.example/hook"


class OutboxInMemory:
    """Endpoints, and deliveries that are claimed and finished by the rules of the store."""

    def __init__(self) -> None:
        self.endpoints: dict[UUID, Endpoint] = {}
        self.deliveries: list[Delivery] = []
        self.finished: list[tuple[str, State]] = []
        self.all_finished = asyncio.Event()
        self.expected = 0

    def add(self, url: str, count: int) -> None:
        """Register an endpoint for which so many deliveries wait."""
        endpoint = Endpoint(
            id=UUID(int=len(self.endpoints) + 1),  # they take turns in the order in which they are added
            url=url,
            event_types=[],
            enabled=True,
            secrets=first_secret(new_secret()),
            created_at=utc_now(),
        )
        self.endpoints[endpoint.id] = endpoint
        self.deliveries += [new_delivery(endpoint.id, uuid4(), "a.b.v1", b"{}") for _ in range(count)]

    async def claim(
        self,
        after: UUID,
        _lease: timedelta,
        *,
        passed_over: Collection[UUID],
        among: Collection[UUID] | None = None,
    ) -> Delivery | None:
        waiting = [
            delivery
            for delivery in self.deliveries
            if delivery.endpoint_id > after
            and delivery.endpoint_id not in passed_over
            and (among is None or delivery.endpoint_id in among)
        ]
        if not waiting:
            return None
        claimed = min(waiting, key=lambda delivery: delivery.endpoint_id)
        self.deliveries.remove(claimed)
        return claimed

    async def endpoint(self, endpoint_id: UUID) -> Endpoint | None:
        return self.endpoints.get(endpoint_id)

    async def finish(self, delivery: Delivery, _attempt: Attempt, state: State, _due_at: Any = None) -> None:
        endpoint = self.endpoints.get(delivery.endpoint_id)
        self.finished.append((endpoint.url if endpoint else "", state))
        if len(self.finished) == self.expected:
            self.all_finished.set()


class Condition:
    """Endpoints that are never disabled."""

    async def succeeded(self, _endpoint: Endpoint) -> None: ...

    async def failed(self, _endpoint: Endpoint, attempt: Attempt) -> bool:
        return attempt.is_gone

    async def unannounced(self) -> list[Event]:
        return []


class Posts:
    """Answers for endpoints: one kind never does."""

    def __init__(self) -> None:
        self.hanging = 0
        self.hangs = asyncio.Event()
        self.most_at_once = 0
        self._healthy = 0

    async def post(self, url: str, _headers: Mapping[str, str], _body: bytes) -> Attempt:
        if url == HANGING:
            self.hanging += 1
            self.hangs.set()
            await asyncio.Event().wait()
        self._healthy += 1
        self.most_at_once = max(self.most_at_once, self._healthy)
        await asyncio.sleep(0)
        self._healthy -= 1
        return Attempt(at=utc_now(), duration_ms=1, status=410 if url == GONE else 204)


async def publish(_event: Event) -> None: ...


def deliverer(outbox: OutboxInMemory, posts: Posts) -> Deliverer:
    loop = Deliverer(
        cast("MongoOutbox", outbox),
        cast("MongoCondition", Condition()),
        cast("Sender", posts),
        publish,
    )
    loop._drain_seconds = 0
    return loop


@pytest.mark.parametrize("hanging", [30, 80])
async def test_endpoints_that_hang_hold_one_place_each_and_not_all(hanging: int) -> None:
    """However many with a backlog never answer, one that does has its places: it has all at once."""
    outbox, posts = OutboxInMemory(), Posts()
    outbox.add(HEALTHY, 30)
    for _ in range(hanging):
        outbox.add(HANGING, 2)
    outbox.expected = 30

    async with deliverer(outbox, posts).running():
        async with asyncio.timeout(30):
            await outbox.all_finished.wait()

    assert outbox.finished == [(HEALTHY, State.DELIVERED)] * 30
    assert posts.hanging == min(hanging, 38), "of 50 places a quarter is for those that answer"
    assert 1 < posts.most_at_once <= 5


async def test_what_waits_for_an_endpoint_that_is_gone_ends() -> None:
    """Deleted, disabled or answering 410: its deliveries do not wait for ever."""
    outbox, posts = OutboxInMemory(), Posts()
    outbox.add(HEALTHY, 2)
    outbox.add(GONE, 2)
    for endpoint in list(outbox.endpoints.values()):
        if endpoint.url == HEALTHY:
            endpoint.enabled = False
    outbox.expected = 4

    async with deliverer(outbox, posts).running():
        async with asyncio.timeout(30):
            await outbox.all_finished.wait()

    assert {state for _, state in outbox.finished} == {State.FAILED}


async def test_worker_that_stops_claims_nothing_more() -> None:
    """What has begun ends; what is due waits for another process, also while handlers still run."""
    outbox, posts = OutboxInMemory(), Posts()
    loop = deliverer(outbox, posts)
    outbox.add(HEALTHY, 2)
    outbox.expected = 2
    broker.context.set_global("deliverer", loop)
    try:
        async with loop.running():
            async with asyncio.timeout(30):
                await outbox.all_finished.wait()
            await app.stop()
            outbox.add(HEALTHY, 2)
            await asyncio.sleep(2 * _POLL_SECONDS)
    finally:
        broker.context.reset_global("deliverer")

    assert len(outbox.finished) == 2
    assert len(outbox.deliveries) == 2


async def test_drain_is_counted_from_the_first_word_of_the_stop() -> None:
    """What the broker's own drain took is not spent again: an attempt that hangs ends with the budget."""
    outbox, posts = OutboxInMemory(), Posts()
    loop = deliverer(outbox, posts)
    loop._drain_seconds = 0.5
    outbox.add(HANGING, 1)

    async with loop.running():
        async with asyncio.timeout(30):
            await posts.hangs.wait()
        began = time.monotonic()
        loop.stop_claiming()
        await asyncio.sleep(0.4)  # as long as the broker takes

    assert 0.5 <= time.monotonic() - began < 0.8
