"""What an event costs the worker that stores it for many endpoints: little, and never the loop for long."""

import asyncio
from collections.abc import Sequence
from typing import Any, ClassVar, Self, cast
from uuid import uuid4

from apps.kit.mongo import Database
from apps.webhooks.domain import body_of
from apps.webhooks.mongo import Delivery, MongoOutbox
from contracts import OrderCreated


class Store:
    """Both collections: endpoints that are found, and deliveries that are inserted, group by group."""

    def __init__(self, endpoints: int, *event_types: str) -> None:
        self._endpoints = [{"_id": uuid4(), "event_types": list(event_types)} for _ in range(endpoints)]
        self.groups: list[list[dict[str, Any]]] = []

    def collection(self, _document: object) -> Self:
        return self

    def find(self, _query: object, _fields: object) -> Self:
        return self

    async def to_list(self, _length: None) -> Sequence[dict[str, Any]]:
        return self._endpoints

    async def insert_many(self, deliveries: list[dict[str, Any]], *, ordered: bool) -> None:
        assert not ordered
        self.groups.append(deliveries)


class Order(OrderCreated):
    """An order that counts how often any is rendered."""

    renderings: ClassVar[int] = 0

    def model_dump(self, **options: Any) -> dict[str, Any]:
        Order.renderings += 1
        return super().model_dump(**options)


def new_orders(count: int) -> list[Order]:
    Order.renderings = 0
    return [Order.model_validate(Order.example | {"order_id": uuid4()}) for _ in range(count)]


async def add_all(store: Store, orders: Sequence[Order]) -> None:
    outbox = MongoOutbox(cast("Database", store))
    await asyncio.gather(*(outbox.add(order) for order in orders))


async def test_event_is_rendered_once_for_all_endpoints() -> None:
    """A large order takes milliseconds to render, and may be for two hundred endpoints."""
    store, orders = Store(endpoints=20), new_orders(3)

    await add_all(store, orders)

    assert Order.renderings == 3
    deliveries = [Delivery.model_validate_doc(document) for group in store.groups for document in group]
    assert len({delivery.id for delivery in deliveries}) == 60
    assert {delivery.body for delivery in deliveries} == {body_of(order) for order in orders}


async def test_event_that_nobody_wants_is_not_rendered() -> None:
    store = Store(20, "order.rejected.v1")

    await add_all(store, new_orders(3))

    assert (Order.renderings, store.groups) == (0, [])


async def test_groups_are_small_and_the_loop_has_a_turn_at_each_delivery() -> None:
    """A backlog that arrives at once holds up no heartbeat and no attempt that is under way."""
    store, turns = Store(endpoints=3), 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    neighbour = asyncio.create_task(others())
    await add_all(store, new_orders(100))
    neighbour.cancel()

    assert max(len(group) for group in store.groups) <= 30
    assert turns >= 300
