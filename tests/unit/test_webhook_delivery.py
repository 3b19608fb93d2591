"""The delivery loop without a network: endpoints take turns, and who hangs holds one place only."""

import asyncio
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any, cast
from uuid import UUID, uuid4

from prometheus_client import CollectorRegistry, Counter

from apps.kit.clock import utc_now
from apps.webhooks.condition import MongoCondition
from apps.webhooks.delivery import Deliverer
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
            id=uuid4(),
            url=url,
            event_types=[],
            enabled=True,
            secrets=first_secret(new_secret()),
            created_at=utc_now(),
        )
        self.endpoints[endpoint.id] = endpoint
        self.deliveries += [new_delivery(endpoint.id, uuid4(), "a.b.v1", b"{}") for _ in range(count)]

    async def claim(self, after: UUID, passed_over: Collection[UUID], _lease: timedelta) -> Delivery | None:
        waiting = [
            delivery
            for delivery in self.deliveries
            if delivery.endpoint_id > after and delivery.endpoint_id not in passed_over
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
        self.most_at_once = 0
        self._healthy = 0

    async def post(self, url: str, _headers: Mapping[str, str], _body: bytes) -> Attempt:
        if url == HANGING:
            self.hanging += 1
            await asyncio.Event().wait()
        self._healthy += 1
        self.most_at_once = max(self.most_at_once, self._healthy)
        await asyncio.sleep(0)
        self._healthy -= 1
        return Attempt(at=utc_now(), duration_ms=1, status=410 if url == GONE else 204)


async def publish(_event: Event) -> None: ...


def deliverer(outbox: OutboxInMemory, posts: Posts) -> Deliverer:
    attempts = Counter("attempts", "Attempts.", ["outcome"], registry=CollectorRegistry())
    loop = Deliverer(
        cast("MongoOutbox", outbox),
        cast("MongoCondition", Condition()),
        cast("Sender", posts),
        publish,
        attempts,
    )
    loop._drain_seconds = 0
    return loop


async def test_endpoints_that_hang_hold_one_place_each() -> None:
    """Forty endpoints with a backlog that never answer leave a healthy one its places: it has all at once."""
    outbox, posts = OutboxInMemory(), Posts()
    for _ in range(40):
        outbox.add(HANGING, 20)
    outbox.add(HEALTHY, 30)
    outbox.expected = 30

    async with deliverer(outbox, posts).running():
        async with asyncio.timeout(30):
            await outbox.all_finished.wait()

    assert outbox.finished == [(HEALTHY, State.DELIVERED)] * 30
    assert posts.hanging <= 40
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
