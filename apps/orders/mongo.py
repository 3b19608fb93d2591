"""Orders in MongoDB: what the ingress accepted, what became of it, and what still has to be published."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from odmantic import AIOEngine, Field, Model
from pydantic import AwareDatetime
from pymongo import ASCENDING, DESCENDING, IndexModel, ReturnDocument, UpdateOne
from pymongo.errors import BulkWriteError

from apps.kit.batching import GroupCommit
from apps.kit.clock import utc_now
from apps.kit.mongo import is_duplicate_key
from apps.orders.application import AcceptedOrder, OrderFilter, Position
from apps.orders.domain import Effect, Status, effect_of
from contracts import Event, OrderCreated


class Order(Model):
    """One order under its id, filled in by whoever knows something of it first."""

    id: UUID = Field(primary_field=True)
    rank: int
    """Rank of the status; only ever rises."""
    recorded_at: AwareDatetime
    """When the first trace of the order was stored; never changes, so lists are stable by it."""
    content: dict[str, Any] | None = None
    """Customer, currency, lines, total and time as in OrderCreated, in JSON."""
    reference: str | None = None
    customer_id: str | None = None
    reasons: list[dict[str, Any]] = []
    invoice_number: str | None = None
    events: dict[str, dict[str, Any]] = {}
    """Name and time of every event seen, by event id."""
    idempotency_key: str | None = None
    fingerprint: str | None = None
    """SHA-256 of the request that came with the idempotency key."""
    publish_at: AwareDatetime | None = None
    """When the relay may publish the order; absent once RabbitMQ has confirmed it."""

    model_config = {
        "collection": "orders",
        "indexes": lambda: [
            IndexModel([("recorded_at", DESCENDING), ("_id", DESCENDING)], name="newest"),
            IndexModel(
                [("rank", ASCENDING), ("recorded_at", DESCENDING), ("_id", DESCENDING)], name="by_status"
            ),
            IndexModel(
                [("customer_id", ASCENDING), ("recorded_at", DESCENDING), ("_id", DESCENDING)],
                name="by_customer",
            ),
            IndexModel(
                [("reference", ASCENDING), ("recorded_at", DESCENDING), ("_id", DESCENDING)],
                name="by_reference",
            ),
            IndexModel(
                [("idempotency_key", ASCENDING)],
                name="idempotency_key",
                unique=True,
                partialFilterExpression={"idempotency_key": {"$type": "string"}},
            ),
            IndexModel(
                [("publish_at", ASCENDING)],
                name="unpublished",
                partialFilterExpression={"rank": Status.RECEIVED.rank},
            ),
        ],
    }


DOCUMENTS = (Order,)


class MongoOrderBook:
    """Accepted orders, the read model over all events, and the queries of the ingress."""

    def __init__(self, engine: AIOEngine) -> None:
        self._engine = engine
        self._orders = engine.get_collection(Order)
        self._accepted = GroupCommit(self._accept_group)
        self._published = GroupCommit(self._mark_published_group)
        self._effects = GroupCommit(self._record_group)

    async def accept(self, order: AcceptedOrder) -> AcceptedOrder:
        """Store an order; returns the one that was stored first under the same idempotency key."""
        return await self._accepted.add(order)

    async def record(self, event: Event) -> None:
        """Write down what an event tells of its order, and that it was seen."""
        await self._effects.add(event)

    async def find(self, order_id: UUID) -> Order | None:
        return await self._engine.find_one(Order, Order.id == order_id)

    async def list(self, wanted: OrderFilter, after: Position | None, limit: int) -> list[Order]:
        """Newest first, from just behind `after`."""
        query: dict[str, Any] = {}
        if wanted.status is not None:
            query["rank"] = wanted.status.rank
        if wanted.customer_id is not None:
            query["customer_id"] = wanted.customer_id
        if wanted.reference is not None:
            query["reference"] = wanted.reference
        if after is not None:
            query["$or"] = [
                {"recorded_at": {"$lt": after.recorded_at}},
                {"recorded_at": after.recorded_at, "_id": {"$lt": after.order_id}},
            ]
        newest_first = [("recorded_at", DESCENDING), ("_id", DESCENDING)]
        documents = await self._orders.find(query).sort(newest_first).limit(limit).to_list(limit)
        return [Order.model_validate_doc(document) for document in documents]

    async def claim_unpublished(self, lease: timedelta) -> OrderCreated | None:
        """The order that waits longest to be published, kept from other relays for the time of the lease."""
        now = utc_now()
        document = await self._orders.find_one_and_update(
            {"rank": Status.RECEIVED.rank, "publish_at": {"$lte": now}},
            {"$set": {"publish_at": now + lease}},
            sort=[("publish_at", ASCENDING)],
            return_document=ReturnDocument.AFTER,
        )
        if document is None:
            return None
        return OrderCreated(order_id=document["_id"], reference=document["reference"], **document["content"])

    async def mark_published(self, order_id: UUID) -> None:
        """Take an order off the relay's list: RabbitMQ has it."""
        await self._published.add(order_id)

    async def _accept_group(self, orders: Sequence[AcceptedOrder]) -> Sequence[AcceptedOrder]:
        documents = [_received(order).model_dump_doc() for order in orders]
        try:
            await self._orders.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            if not is_duplicate_key(error):
                raise
            repeats = [orders[problem["index"]] for problem in (error.details or {})["writeErrors"]]
            keys = [order.idempotency_key for order in repeats if order.idempotency_key is not None]
            first = {
                document["idempotency_key"]: _accepted(document)
                async for document in self._orders.find({"idempotency_key": {"$in": keys}})
            }
            # An order whose own id is there was stored by an earlier try of this very group.
            stored = {accepted.event.order_id for accepted in first.values()}
            return [
                order
                if order.idempotency_key is None or order.event.order_id in stored
                else first.get(order.idempotency_key, order)
                for order in orders
            ]
        return orders

    async def _mark_published_group(self, order_ids: Sequence[UUID]) -> Sequence[None]:
        await self._orders.update_many({"_id": {"$in": list(order_ids)}}, {"$unset": {"publish_at": ""}})
        return [None] * len(order_ids)

    async def _record_group(self, events: Sequence[Event]) -> Sequence[None]:
        now = utc_now()
        updates = [_update(event, effect_of(event), now) for event in events]
        try:
            await self._orders.bulk_write(updates, ordered=False)
        except BulkWriteError as error:
            # Another process inserted the same order first; now it is there to be updated.
            if not is_duplicate_key(error):
                raise
            await self._orders.bulk_write(updates, ordered=False)
        return [None] * len(events)


def _update(event: Event, effect: Effect, now: datetime) -> UpdateOne:
    seen = {"event": type(event).__name__, "at": event.occurred_at}
    return UpdateOne(
        {"_id": UUID(event.correlation_id)},
        {
            "$max": {"rank": effect.status.rank},
            "$set": {**effect.facts, f"events.{event.event_id}": seen},
            "$setOnInsert": {"recorded_at": now},
        },
        upsert=True,
    )


def _received(order: AcceptedOrder) -> Order:
    effect = effect_of(order.event)
    return Order(
        id=order.event.order_id,
        rank=Status.RECEIVED.rank,
        recorded_at=order.event.placed_at,
        idempotency_key=order.idempotency_key,
        fingerprint=order.fingerprint,
        publish_at=order.publish_at,
        **effect.facts,
    )


def _accepted(document: dict[str, Any]) -> AcceptedOrder:
    return AcceptedOrder(
        event=OrderCreated(order_id=document["_id"], reference=document["reference"], **document["content"]),
        publish_at=document.get("publish_at", document["recorded_at"]),
        idempotency_key=document["idempotency_key"],
        fingerprint=document["fingerprint"],
    )
