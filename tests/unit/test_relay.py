"""What the ingress has just accepted is published beside its answers, and left to the relay in time."""

import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from apps.kit.clock import utc_now
from apps.kit.publishing import PublishFailed
from apps.orders.application import Announcement
from apps.orders.relay import UNCONFIRMED, Relay
from contracts import OrderCreated

EVENT = OrderCreated.model_validate(OrderCreated.example)


class SlowRabbitMQ(Relay):
    """A relay whose publishes are confirmed when the test says so."""

    def __init__(self) -> None:
        nothing: Any = None
        super().__init__(nothing, nothing)
        self.begun: list[Announcement] = []
        self.confirmed = asyncio.Event()
        self.failure: Exception | None = None

    async def publish(self, event: Announcement, trace: dict[str, str] | None = None) -> None:  # noqa: ARG002
        self.begun.append(event)
        await self.confirmed.wait()
        if self.failure is not None:
            raise self.failure


def soon(seconds: float) -> datetime:
    return utc_now() + timedelta(seconds=seconds)


async def test_fresh_events_are_published_side_by_side() -> None:
    """None waits for the confirm of another, up to so many; the next begins when one is done."""
    relay = SlowRabbitMQ()
    for _ in range(UNCONFIRMED + 1):
        relay.announce(EVENT.model_copy(update={"order_id": uuid4()}), soon(60))
    await asyncio.sleep(0.01)
    assert len(relay.begun) == UNCONFIRMED
    relay.confirmed.set()
    await relay.announced()
    assert len({event.order_id for event in relay.begun}) == UNCONFIRMED + 1


async def test_what_is_due_is_left_to_the_relay() -> None:
    """Whether it waits for its turn or for its confirm: two publishes of one event never overlap."""
    relay = SlowRabbitMQ()
    publish_at = soon(1)
    for _ in range(UNCONFIRMED + 1):
        relay.announce(EVENT, publish_at)
    async with asyncio.timeout(10):
        await relay.announced()
    assert len(relay.begun) == UNCONFIRMED
    assert not relay.confirmed.is_set()


async def test_a_failed_publish_disturbs_nobody() -> None:
    """It is logged and left to the relay."""
    relay = SlowRabbitMQ()
    relay.failure = PublishFailed("order.created.v1", TimeoutError())
    relay.confirmed.set()
    relay.announce(EVENT, soon(60))
    await relay.announced()
    assert relay.begun == [EVENT]
