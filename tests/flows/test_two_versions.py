"""Two versions of an event side by side: an old and a new publisher, and one consumer of both."""

from uuid import uuid4

from faststream.rabbit import TestRabbitBroker

from apps.compatibility.published import schema_of
from apps.compatibility.schemas import compare
from apps.kit.publishing import publish
from contracts import OrderCreated
from tests.flows.two_versions import OrderCreatedV2, Packing


async def test_old_and_new_publishers_reach_one_consumer() -> None:
    """What either publishes arrives in the words of the new version, each through its own queue."""
    old = OrderCreated.model_validate(OrderCreated.example | {"order_id": uuid4()})
    new = OrderCreatedV2.model_validate(OrderCreatedV2.example | {"order_id": uuid4()})
    packing = Packing()
    async with TestRabbitBroker(packing.broker):
        await publish(packing.broker, old)
        await publish(packing.broker, new)
    assert packing.packed == {old.order_id: OrderCreatedV2.upgraded(old), new.order_id: new}
    assert {consumer.queue.name for consumer in packing.broker.consumers} == {
        "packing.order-created",
        "packing.order-created-v2",
    }


async def test_publisher_of_both_versions_has_one_effect() -> None:
    """While a publisher tells each order in both versions, they are two events about one order."""
    old = OrderCreated.model_validate(OrderCreated.example)
    new = OrderCreatedV2.upgraded(old)
    assert old.event_id != new.event_id
    packing = Packing()
    async with TestRabbitBroker(packing.broker):
        for event in (new, old):
            await publish(packing.broker, event)
    assert packing.packed == {old.order_id: new}


def test_the_change_needed_a_new_version() -> None:
    """Within v1 the check would have refused it."""
    found = compare("OrderCreated", schema_of(OrderCreated), schema_of(OrderCreatedV2))
    assert {side for difference in found for side in difference.breaks} == {"publishers", "consumers"}
