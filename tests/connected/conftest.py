"""One private system for the whole run: RabbitMQ, MongoDB, a mail server and every app as its own process."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aio_pika
import httpx
import pytest
from aio_pika.abc import AbstractChannel
from pymongo import AsyncMongoClient

from apps.cli.api_client import bearer
from apps.cli.local.stack import LocalStack
from apps.cli.orders import is_settled
from contracts import Event, OrderCreated, StockAdjusted

PREFIX = "orderflow_test"
RETRY_DELAYS_SECONDS = (0.1, 0.2, 0.3, 0.4)
SETTINGS = {
    "ORDERFLOW_DATABASE_PREFIX": PREFIX,
    "ORDERFLOW_RETRY_DELAYS_SECONDS": json.dumps(RETRY_DELAYS_SECONDS),
    "ORDERFLOW_TAX_RATES": '{"BR": "0.17"}',
    "ORDERFLOW_RELAY_AFTER_SECONDS": "2",
    "ORDERFLOW_STUCK_AFTER_SECONDS": "2",
    "ORDERFLOW_WEBHOOK_RETRY_DELAYS_SECONDS": "[0.2, 0.2, 60]",
    "ORDERFLOW_WEBHOOK_TIMEOUT_SECONDS": "2",
    "ORDERFLOW_LOG_FORMAT": "json",
}
DEADLINE_SECONDS = 30.0


async def eventually(
    check: Callable[[], Awaitable[Any]], what: str, deadline_seconds: float = DEADLINE_SECONDS
) -> Any:
    """The first truthy value of `check`; fails the test when the deadline passes."""
    deadline = time.monotonic() + deadline_seconds
    while True:
        if value := await check():
            return value
        assert time.monotonic() < deadline, f"not within {deadline_seconds:g} s: {what}"
        await asyncio.sleep(0.05)


@dataclass
class System:
    """The running system, as other systems, clients and an auditor see it."""

    stack: LocalStack
    api: httpx.AsyncClient
    mongo: AsyncMongoClient[dict[str, Any]]
    channel: AbstractChannel

    def database(self, app: str) -> Any:
        """An app's own database."""
        return self.mongo[f"{PREFIX}_{app}"]

    async def publish(self, event: Event) -> None:
        """Publish as an outside system may: body and routing key, and the id that the client library adds."""
        await self.publish_raw(event.topic, event.model_dump_json().encode())

    async def publish_raw(self, routing_key: str, body: bytes, **properties: Any) -> None:
        exchange = await self.channel.get_exchange("events", ensure=False)
        await exchange.publish(aio_pika.Message(body, **properties), routing_key)

    async def publish_bare(self, event: Event, **properties: Any) -> None:
        """Publish body and routing key and no property but the given, over RabbitMQ's own HTTP API."""
        node = self.stack.rabbitmq
        async with httpx.AsyncClient(base_url=node.management_url, auth=node.login) as http:
            answer = await http.post(
                "/api/exchanges/%2F/events/publish",
                json={
                    "properties": properties,
                    "routing_key": event.topic,
                    "payload": event.model_dump_json(),
                    "payload_encoding": "string",
                },
            )
        assert answer.json() == {"routed": True}

    async def stock_up(self, quantity: int | None, skus: Sequence[str] = ()) -> list[str]:
        """Articles of the test's own, with so many units each (None: unlimited), once stock knows of them."""
        skus = list(skus) or [f"sku-{uuid4().hex[:12]}"]
        for sku in skus:
            await self.publish(
                StockAdjusted(
                    adjustment_id=uuid4(),
                    sku=sku,
                    mode="set",
                    quantity=quantity,
                    unlimited=quantity is None,
                    adjusted_at="2026-11-01T00:00:00Z",
                )
            )
        levels = self.database("stock")["levels"]

        async def known() -> bool:
            return await levels.count_documents({"_id": {"$in": skus}}) == len(skus)

        await eventually(known, "stock levels")
        return skus

    async def order(self, order_id: UUID | str) -> dict[str, Any] | None:
        try:
            answer = await self.api.get(f"/v1/orders/{order_id}")
        except httpx.TransportError:  # killed by the test, and not yet back
            return None
        return answer.json() if answer.status_code == 200 else None

    async def settled(
        self, order_id: UUID | str, deadline_seconds: float = DEADLINE_SECONDS
    ) -> dict[str, Any]:
        """The order once its status is final and the customer told, or known to be out of reach."""

        async def check() -> dict[str, Any] | None:
            order = await self.order(order_id)
            return order if order and is_settled(order) else None

        return await eventually(check, f"order {order_id} settled", deadline_seconds)

    async def handled(self, app: str, correlation_id: UUID, topic: str, *, times: int) -> None:
        """Wait until an app has handled an event of one order so often, by its log."""
        log = self.stack.logs / f"{app}.log"

        async def check() -> bool:
            entries = [line for line in log.read_text().splitlines() if str(correlation_id) in line]
            return sum(f'"{topic}"' in line and '"handled"' in line for line in entries) >= times

        await eventually(check, f"{app} handled {topic} {times} times")

    async def dead_letters(self, identity: str, count: int = 1) -> list[dict[str, Any]]:
        """The archived messages with that message or correlation id, by queue, once there are so many.

        Those of webhooks, which receive every event, are left out: they would only repeat the others.
        """
        letters = self.database("recovery")["dead_letters"]
        named = {
            "$or": [{"message_id": identity}, {"correlation_id": identity}],
            "queue": {"$not": re.compile("^webhooks")},
        }

        async def check() -> list[dict[str, Any]] | None:
            found = await letters.find(named).sort("queue").to_list(None)
            return found if len(found) == count else None

        return await eventually(check, f"{count} dead letters {identity}")

    async def dead_letter(self, identity: str) -> dict[str, Any]:
        """The only archived message with that message or correlation id."""
        (letter,) = await self.dead_letters(identity)
        return letter


@asynccontextmanager
async def running(home: Path, **settings: str) -> AsyncIterator[System]:
    """A private system with these settings, before those of all tests."""
    async with LocalStack(home, environment=SETTINGS | settings) as stack:
        connection = await aio_pika.connect_robust(stack.rabbitmq_url)
        mongo: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
            stack.mongodb_url,
            tz_aware=True,
            uuidRepresentation="standard",
            readConcernLevel="majority",  # as the apps read: what a test has seen, they see too
        )
        key = bearer(stack.api_key)
        async with connection, httpx.AsyncClient(base_url=stack.api_url, headers=key, timeout=15) as api:
            channel = await connection.channel(on_return_raises=True)
            yield System(stack, api, mongo, channel)
        await mongo.close()


@pytest.fixture(scope="session")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    async with running(tmp_path_factory.mktemp("system")) as started:
        yield started


def new_order(*lines: tuple[str, int], **customer: Any) -> OrderCreated:
    """An order of the test's own; without contact unless the test gives one."""
    price = "2.50"
    return OrderCreated.model_validate(
        {
            "order_id": uuid4(),
            "customer": {"id": "c-1", **customer},
            "currency": "GBP",
            "lines": [{"sku": sku, "quantity": quantity, "unit_price": price} for sku, quantity in lines],
            "total": f"{sum(quantity for _, quantity in lines) * 250 / 100:.2f}",
            "placed_at": "2026-11-22T10:15:00Z",
        }
    )


def body_of(order: OrderCreated) -> dict[str, Any]:
    """The same order as a client posts it."""
    return order.model_dump(mode="json", exclude={"order_id", "placed_at"})


def names(order: dict[str, Any]) -> set[str]:
    """Every event in the order's timeline."""
    return {entry["event"] for entry in order["timeline"]}
