"""MongoDB without retryable writes, as some cloud services are: the apps themselves repeat what is lost."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from conftest import System, body_of, eventually, names, new_order
from own_system import OwnSystem, own_system, own_vhost

from apps.kit.mongo import open_database
from apps.kit.settings import Settings

pytestmark = pytest.mark.connected

VHOST = "no-retryable-writes"
PREFIX = "orderflow_no_retryable_writes"


@pytest.fixture(scope="module")
async def own(system: System, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OwnSystem]:
    """A system whose driver may not repeat a write."""
    async with (
        own_vhost(system.stack.rabbitmq, VHOST) as rabbitmq_url,
        own_system(
            tmp_path_factory.mktemp("system"),
            rabbitmq_url,
            f"{system.stack.mongodb_url}&retryWrites=false",
            environment={"ORDERFLOW_DATABASE_PREFIX": PREFIX},
        ) as running,
    ):
        yield running


async def test_url_turns_retryable_writes_off(system: System) -> None:
    """What the URL says of them counts, since no code says anything else."""
    for url, expected in (
        (system.stack.mongodb_url, True),
        (f"{system.stack.mongodb_url}&retryWrites=false", False),
    ):
        settings = Settings(mongodb_url=url, database_prefix=PREFIX)
        async with open_database("stock", settings=settings) as database:
            assert database.client.options.retry_writes is expected


async def test_order_reaches_its_customer_and_is_cancelled(own: OwnSystem) -> None:
    """From POST to the mail and to the credit note nothing depends on them."""
    (sku,) = await own.stock_up(10)
    order = new_order((sku, 2), email="ana@example.com")
    answer = await own.api.post("/v1/orders", json=body_of(order), headers={"Idempotency-Key": sku})
    order_id = answer.json()["order_id"]
    assert (await own.settled(order_id))["status"] == "notified"

    assert (await own.api.post(f"/v1/orders/{order_id}/cancel", json={"reason": "a test"})).is_success

    async def undone() -> bool:
        shown = await own.order(order_id)
        return shown is not None and {"InvoiceVoided", "OrderCancelled"} <= names(shown)

    await eventually(undone, "cancelled, and the invoice voided")


async def test_change_of_the_primary_under_load_loses_nothing(own: OwnSystem) -> None:
    """What a step-down cuts off is done again by whoever asked for it, once."""
    (sku,) = await own.stock_up(1000)
    orders = [new_order((sku, 1), email=f"{uuid4()}@example.com") for _ in range(40)]
    for number, order in enumerate(orders):
        await own.publish(order)
        if number == len(orders) // 2:
            await own.mongo.admin.command("replSetStepDown", 1, force=True)

    for order in orders:
        assert (await own.settled(order.order_id))["status"] == "notified"
    level = await own.database("stock")["levels"].find_one({"_id": sku})
    assert (level["available"], level["reserved"]) == (960, 40)
    ids = [order.order_id for order in orders]
    invoices = await own.database("billing")["invoices"].find({"_id": {"$in": ids}}).to_list(None)
    assert len({invoice["number"] for invoice in invoices}) == len(orders)
