"""The read model on a real MongoDB: whatever the order of arrival, the order ends the same."""

import asyncio
import random
from typing import Any
from uuid import uuid4

import pytest
from conftest import System, new_order
from odmantic import AIOEngine

from apps.orders.domain import Status
from apps.orders.mongo import MongoOrderBook
from contracts import Event, InvoiceIssued, NotificationSent, OrderCreated, OrderValidated

pytestmark = pytest.mark.connected


def _life(order: OrderCreated) -> list[Event]:
    """Every event of an order that goes through."""
    order_id = {"order_id": order.order_id}
    return [
        order,
        OrderValidated.of(order, **order_id, placed_at=order.placed_at, validated_at="2026-11-22T10:15:01Z"),
        InvoiceIssued.model_validate(InvoiceIssued.example | order_id),
        NotificationSent.model_validate(
            NotificationSent.example | order_id | {"notification_id": order.order_id}
        ),
    ]


async def test_any_order_of_arrival_with_repeats_ends_the_same(system: System) -> None:
    """Fifty orders whose events come shuffled, tripled and through two processes' adapters at once."""
    seed = random.randrange(1_000_000)  # noqa: S311  # as below
    shuffler = random.Random(seed)  # noqa: S311  # a seed to repeat a failure by
    books = [
        MongoOrderBook(AIOEngine(client=system.mongo, database="orderflow_read_model")) for _ in range(2)
    ]
    orders = [new_order(("any", 2)) for _ in range(50)]
    deliveries = [event for order in orders for event in _life(order) * 3]
    shuffler.shuffle(deliveries)

    await asyncio.gather(*(shuffler.choice(books).record(event) for event in deliveries))

    collection = system.mongo["orderflow_read_model"]["orders"]
    ends: list[dict[str, Any]] = []
    for order in orders:
        document = await collection.find_one({"_id": order.order_id})
        assert set(document["events"]) == {str(event.event_id) for event in _life(order)}, f"seed {seed}"
        ends.append(
            {name: value for name, value in document.items() if name not in {"_id", "recorded_at", "events"}}
        )
    assert ends[0]["rank"] == Status.NOTIFIED.rank
    assert all(end == ends[0] for end in ends), f"seed {seed}"


async def test_stored_order_survives_a_read_before_its_first_event(system: System) -> None:
    """An order of which only a late event is known can be shown: what is missing is empty."""
    book = MongoOrderBook(AIOEngine(client=system.mongo, database="orderflow_read_model"))
    validated = _life(new_order(("any", 1)))[1]

    await book.record(validated)

    order = await book.find(validated.order_id)  # type: ignore[attr-defined]
    assert order is not None
    assert (order.rank, order.content, order.reasons) == (Status.VALIDATED.rank, None, [])
    assert await book.find(uuid4()) is None
