"""Two versions of an event on a real broker: an old publisher, a new one, and a consumer of both."""

import asyncio
from uuid import uuid4

import pytest
from conftest import System, eventually

from apps.cli.system import apply_topology
from apps.kit.publishing import event_publisher
from contracts import OrderCreated
from tests.flows.two_versions import OrderCreatedV2, Packing

pytestmark = pytest.mark.connected


async def test_both_versions_are_consumed_from_their_own_queues(system: System) -> None:
    """Each publisher reaches the consumer in its own version."""
    name = f"versions-{uuid4().hex[:8]}"
    url = await asyncio.to_thread(system.stack.rabbitmq.create_vhost, name)
    try:
        await apply_topology(url)
        packing = Packing(url)
        await packing.broker.start()
        old = OrderCreated.model_validate(OrderCreated.example | {"order_id": uuid4()})
        new = OrderCreatedV2.model_validate(OrderCreatedV2.example | {"order_id": uuid4()})
        async with event_publisher("old", url) as publish_v1, event_publisher("new", url) as publish_v2:
            await publish_v1(old)
            await publish_v2(new)

            async def both() -> bool:
                return packing.packed.keys() == {old.order_id, new.order_id}

            await eventually(both, "both versions packed")
        assert packing.packed == {old.order_id: OrderCreatedV2.upgraded(old), new.order_id: new}
        await packing.broker.stop()
    finally:
        await asyncio.to_thread(system.stack.rabbitmq.delete_vhost, name)
