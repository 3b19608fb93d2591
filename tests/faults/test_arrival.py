"""Events arrive more than once, late, before their cause, or contradict each other: the end is the same."""

import asyncio
import json
from collections import Counter
from random import Random
from typing import Any, Self
from uuid import UUID

import aio_pika
import httpx
import pytest
from aio_pika.abc import AbstractIncomingMessage

from apps.kit.clock import utc_now
from apps.kit.topology import EVENTS as EXCHANGE
from apps.orders.document import Order
from apps.orders.domain import Status
from contracts import (
    InvoiceIssued,
    InvoiceVoided,
    NotificationFailed,
    NotificationSent,
    NotificationSkipped,
    OrderCancelled,
    OrderCreated,
    OrderRejected,
    OrderValidated,
    RejectionCode,
    RejectionReason,
)
from tests.faults.conftest import Scenario
from tests.faults.eventually import eventually
from tests.faults.load import Load, Publisher
from tests.faults.system import System
from tests.faults.wiretap import Heard

TIMES = 3
LAST_FIRST = (
    (NotificationSent, NotificationSkipped, NotificationFailed),
    (InvoiceVoided,),
    (InvoiceIssued,),
    (OrderValidated, OrderRejected),
    (OrderCancelled,),
    (OrderCreated,),
)
"""Events about orders, the last ones of an order's life first."""
FROM_ELSEWHERE = {
    *("recorded_at", "changed_at", "idempotency_key", "fingerprint"),
    *("publish_at", "claim", "cancel_publish_at", "cancel_claim"),
}
"""What an order's document knows from elsewhere than its events."""


class Echo:
    """Publishes every event twice more, each time after a pause drawn by chance."""

    LONGEST_PAUSE_SECONDS = 3

    def __init__(self, rabbitmq_url: str, seed: str) -> None:
        self._url = rabbitmq_url
        self._random = Random(f"{seed}/echo")  # noqa: S311  # to be repeated, not to be secret
        self._heard: set[str | None] = set()

    async def __aenter__(self) -> Self:
        self._connection = await aio_pika.connect(self._url, timeout=10)
        channel = await self._connection.channel()
        self._exchange = await channel.get_exchange(EXCHANGE.name, ensure=False)
        queue = await channel.declare_queue("echo", durable=True, arguments={"x-queue-type": "quorum"})
        await queue.bind(self._exchange, "#")
        await queue.consume(self._repeat)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()

    async def _repeat(self, message: AbstractIncomingMessage) -> None:
        # Also what an app repeats by itself: an echo of each of those would never end.
        is_first = message.message_id not in self._heard
        self._heard.add(message.message_id)
        for _ in range(TIMES - 1 if is_first else 0):
            await asyncio.sleep(self._random.uniform(0, self.LONGEST_PAUSE_SECONDS))
            await self._exchange.publish(message, message.routing_key or "")
        await message.ack()


@pytest.mark.faults(14, "every event three times, shuffled", "the order of all events")
async def test_every_event_three_times(scenario: Scenario) -> None:
    """Repeats that come at any time, those of the apps' own events too, change nothing."""
    async with scenario.system() as system, Echo(system.rabbitmq_url, system.seed):
        async with system.load(orders=80, repeat_share=0, poison_share=0, units=60) as load:
            pass
        await scenario.passes(system, load)
        times = Counter(heard.message_id for heard in await system.wiretap.heard())
    assert min(times.values()) >= TIMES


@pytest.mark.faults(15, "the last events of every order first", "the order in which the read model hears")
async def test_last_events_first(scenario: Scenario) -> None:
    """A read model that hears of each end before its beginning ends the same, and can show it meanwhile."""
    async with scenario.system() as system:
        async with system.load(orders=60, poison_share=0, units=40) as load:
            pass
        await system.settled(load)
        before = await facts(system)
        history = list(await system.wiretap.heard())
        await system.database("orders")["orders"].delete_many({})
        publisher = Publisher(system.rabbitmq_url)
        for events in LAST_FIRST:
            topics = {event.topic for event in events}
            await publish_again(system, publisher, [one for one in history if one.topic in topics])
            await can_be_shown(system, load)
        await publisher.close()
        await scenario.passes(system, load)
        assert await facts(system) == before


async def facts(system: System) -> dict[UUID, Any]:
    """All that the read model has learned from events."""
    documents = system.database("orders")["orders"].find()
    orders = [Order.model_validate_doc(document) async for document in documents]
    return {order.id: order.model_dump(exclude=FROM_ELSEWHERE) for order in orders}


async def publish_again(system: System, publisher: Publisher, history: list[Heard]) -> None:
    """Publish these events as they were, and wait until the read model knows of all of them."""
    for heard in history:
        await publisher.confirmed(heard.topic, heard.body, message_id=heard.message_id)
    ids = {heard.message_id for heard in history}

    async def are_known() -> bool:
        orders = system.database("orders")["orders"].find({}, {"events": 1})
        return ids <= {event_id async for order in orders for event_id in order["events"]}

    await eventually(are_known, f"{len(ids)} events in the read model")


async def can_be_shown(system: System, load: Load) -> None:
    """The API lists all orders, however little is known of each."""
    async with system.operator as api:
        answer = await api.get("/v1/orders", params={"limit": 200})
    assert answer.status_code == httpx.codes.OK, answer.text
    assert {UUID(order["order_id"]) for order in answer.json()["orders"]} == set(load.placed)


@pytest.mark.faults(15, "a cancellation before its order, or at any time after", "thirty orders")
async def test_cancellation_at_any_time(scenario: Scenario) -> None:
    """Whatever it overtakes, and however often it comes: nothing stays reserved, no invoice stays valid."""
    async with scenario.system() as system:
        async with system.load(orders=40, poison_share=0, units=1000, cancel_share=0.3) as load:
            await system.counted(load)
            overtaken = [load.order() for _ in range(10)]
            for order in overtaken:
                await load.publish_cancellation(order)
                await decided(system, order.order_id)
                await load.publish(order)
            at_once = [load.order() for _ in range(10)]
            for order in at_once:
                await asyncio.gather(load.publish(order, (0.5,)), load.publish_cancellation(order, (0.5,)))
            invoiced = [load.order() for _ in range(10)]
            for order in invoiced:
                await load.publish(order)
                await has_invoice(system, order.order_id)
                await load.publish_cancellation(order)
        await scenario.passes(system, load)
        invoices = {one["_id"]: one async for one in system.database("billing")["invoices"].find()}
        levels = [one async for one in system.database("stock")["levels"].find()]
    assert all("event" not in invoices[order.order_id] for order in overtaken)
    assert all(invoices[order.order_id]["voided"] for order in invoiced)
    assert all(level["owed"] == 0 for level in levels)


async def has_invoice(system: System, order_id: UUID) -> None:
    """Wait until billing has invoiced an order."""
    invoices = system.database("billing")["invoices"]
    await eventually(lambda: invoices.find_one({"_id": order_id}), f"{order_id} invoiced")


@pytest.mark.faults(15, "two different orders under one id", "ten orders")
async def test_two_orders_under_one_id(scenario: Scenario) -> None:
    """The first one counts for stock, billing and the customer; the other is dead, and takes no stock.

    The view of the order may show the lines of either: docs/RELIABILITY.md says so.
    """
    async with scenario.system() as system:
        async with system.load(orders=40, poison_share=0, units=1000) as load:
            await system.counted(load)
            firsts = [load.order() for _ in range(10)]
            for first in firsts:
                await load.publish(first)
                await decided(system, first.order_id)
                await publish_contradiction(load, first)
        await scenario.passes(system, load)
        archive = system.database("recovery")["dead_letters"]
        letters = {one["order_id"]: one async for one in archive.find()}
    for first in firsts:
        assert letters[first.order_id]["error_type"] == "OrderContradictedError"


async def decided(system: System, order_id: UUID) -> None:
    """Wait until stock has decided about an order."""
    reservations = system.database("stock")["reservations"]
    await eventually(lambda: reservations.find_one({"_id": order_id}), f"{order_id} decided")


async def publish_contradiction(load: Load, first: OrderCreated) -> None:
    """Publish twice as much of everything under the same order id."""
    other: dict[str, Any] = json.loads(first.model_dump_json())
    for line in other["lines"]:
        line["quantity"] *= 2
    other["total"] = str(first.total * 2)
    await load.publish_poison(
        "contradiction",
        first.topic,
        json.dumps(other).encode(),
        queues=frozenset({"stock.order-created"}),
        order_id=first.order_id,
    )


@pytest.mark.faults(15, "a rejection beside a validation, before it or after it", "twenty orders")
async def test_rejection_and_validation(scenario: Scenario) -> None:
    """Two outcomes of one order end the same whichever comes first, with one invoice and both told once."""
    async with scenario.system() as system:
        publisher = Publisher(system.rabbitmq_url)
        async with system.load(orders=40, poison_share=0, units=1000, mail_share=1) as load:
            await system.counted(load)
            rejected_first = [load.order() for _ in range(10)]
            validated_first = [load.order() for _ in range(10)]
            load.contradicted |= {order.order_id for order in (*rejected_first, *validated_first)}
            for order in rejected_first:
                await publish_rejection(publisher, order)
                await has_status(system, order.order_id, Status.REJECTED)
                await load.publish(order)
            for order in validated_first:
                await load.publish(order)
                await has_status(system, order.order_id, Status.NOTIFIED)
                await publish_rejection(publisher, order)
        await publisher.close()
        await scenario.passes(system, load)
        orders = {one["_id"]: one async for one in system.database("orders")["orders"].find()}
        invoiced = [one["_id"] async for one in system.database("billing")["invoices"].find()]
        log = system.database("notifications")["notifications"].find()
        told = Counter([(one["order_id"], one["template"]) async for one in log])
    for order_id in load.contradicted:
        assert Status.of_rank(orders[order_id]["rank"]) is Status.REJECTED
        assert invoiced.count(order_id) == 1
        assert (told[order_id, "invoice-issued"], told[order_id, "order-rejected"]) == (1, 1)


async def publish_rejection(publisher: Publisher, order: OrderCreated) -> None:
    """Say that an order is refused, as stock does, which has not refused it."""
    reason = RejectionReason(
        code=RejectionCode.OUT_OF_STOCK, sku=order.lines[0].sku, requested=1, available=0
    )
    event = OrderRejected(
        order_id=order.order_id, customer=order.customer, rejected_at=utc_now(), reasons=(reason,)
    )
    await publisher.confirmed(event.topic, event.model_dump_json().encode(), message_id=str(event.event_id))


async def has_status(system: System, order_id: UUID, status: Status) -> None:
    """Wait until the read model has an order at this status."""
    orders = system.database("orders")["orders"]
    wanted = {"_id": order_id, "rank": status.rank}
    await eventually(lambda: orders.find_one(wanted), f"{order_id} {status}")
