"""An ingress as a good engineer writes it in a day: FastAPI, motor and aio-pika, one insert and one publish.

- An order is inserted (`w=majority, j=true`) under its unique idempotency key, published and confirmed, and
  only then answered with 202. Should the publish fail, the answer is 503 and the client sends the order
  again, with the same key: a repeat is published again, which consumers must bear anyway.
- One channel with publisher confirms for all requests; many may wait for their confirms at the same time.
- The API key is looked up for each request, so that a revoked one is refused at once.
- One process of uvicorn with uvloop, and httptools where it is installed; no access log.
"""

import hmac
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated, Any
from uuid import UUID, uuid4

import aio_pika
from aio_pika.exceptions import AMQPError
from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorDatabase
from pymongo import ASCENDING
from pymongo.errors import DuplicateKeyError

from apps.orders.views import Accepted, NewOrder
from contracts import OrderCreated
from contracts.envelope import envelope
from tests.bench.contender import EVENTS, Place

_PUBLISH_TIMEOUT_SECONDS = 5.0

Database = AsyncIOMotorDatabase[dict[str, Any]]


def _client(mongodb_url: str) -> AsyncIOMotorClient[dict[str, Any]]:
    return AsyncIOMotorClient(
        mongodb_url,
        tz_aware=True,
        uuidRepresentation="standard",
        w="majority",
        journal=True,
        readConcernLevel="majority",
    )


def _digest(key: str) -> str:
    return sha256(key.encode()).hexdigest()


@asynccontextmanager
async def lifespan(api: FastAPI) -> AsyncIterator[None]:
    client = _client(os.environ["BENCH_MONGODB_URL"])
    connection = await aio_pika.connect_robust(os.environ["BENCH_RABBITMQ_URL"])
    async with connection:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        api.state.events = await channel.declare_exchange(EVENTS, aio_pika.ExchangeType.TOPIC, durable=True)
        api.state.database = client[os.environ["BENCH_DATABASE"]]
        yield
    client.close()


api = FastAPI(title="Orders", lifespan=lifespan)


async def authorized(request: Request, authorization: Annotated[str, Header()] = "") -> str:
    """The name of the caller's key."""
    key = authorization.removeprefix("Bearer ")
    name = key[:11]
    known = await request.app.state.database.keys.find_one({"_id": name})
    if known is None or not hmac.compare_digest(known["digest"], _digest(key)):
        raise HTTPException(401, "A key is needed, as in `Bearer of_…`", {"WWW-Authenticate": "Bearer"})
    return name


@api.get("/health/ready")
async def ready() -> dict[str, str]:
    return {"status": "ready"}


@api.post("/v1/orders", status_code=202)
async def place_order(
    _caller: Annotated[str, Depends(authorized)],
    new: NewOrder,
    request: Request,
    response: Response,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> Accepted:
    """Store the order, announce it, and say where it can be seen."""
    event = OrderCreated.of(new.completed(), order_id=uuid4(), placed_at=datetime.now(UTC))
    event = await _stored(request.app.state.database, event, new, idempotency_key)
    try:
        await request.app.state.events.publish(
            aio_pika.Message(**envelope(event)), event.topic, timeout=_PUBLISH_TIMEOUT_SECONDS
        )
    except (AMQPError, TimeoutError, RuntimeError) as error:
        raise HTTPException(503, "The order is not announced yet; send it again with the same key") from error
    response.headers["Location"] = f"/v1/orders/{event.order_id}"
    return Accepted(order_id=event.order_id, status="received", total=event.total, currency=event.currency)


async def _stored(
    database: Database, event: OrderCreated, new: NewOrder, idempotency_key: str | None
) -> OrderCreated:
    """Insert the order; gives the one that was stored first under the same key."""
    fingerprint = sha256(new.model_dump_json().encode()).hexdigest()
    document = {
        "_id": event.order_id,
        "status": "received",
        "content": event.model_dump(mode="json", exclude={"order_id"}),
        "fingerprint": fingerprint,
    }
    if idempotency_key is not None:
        document["idempotency_key"] = idempotency_key
    try:
        await database.orders.insert_one(document)
    except DuplicateKeyError:
        first: dict[str, Any] = await database.orders.find_one({"idempotency_key": idempotency_key}) or {}
        if first["fingerprint"] != fingerprint:
            raise HTTPException(422, "Idempotency-Key was used for an order with another body") from None
        order_id: UUID = first["_id"]
        return OrderCreated(order_id=order_id, **first["content"])
    return event


async def prepare(place: Place, key: str) -> None:
    """Make the key valid and put the unique index in place."""
    client = _client(place.mongodb_url)
    database = client[place.database]
    await database.orders.create_index(
        [("idempotency_key", ASCENDING)],
        unique=True,
        partialFilterExpression={"idempotency_key": {"$type": "string"}},
    )
    await database.keys.insert_one({"_id": key[:11], "digest": _digest(key)})
    client.close()


def command(port: int) -> Sequence[str]:
    """What runs it."""
    listen = ("--host", "127.0.0.1", "--port", str(port), "--timeout-keep-alive", "75", "--no-access-log")
    return [sys.executable, "-m", "uvicorn", "tests.bench.contenders.plain_api:api", *listen]
