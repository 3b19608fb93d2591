"""Orders in MongoDB: what the ingress accepted, what became of it, and what still has to be published."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import product
from typing import Any
from uuid import UUID, uuid4

from pymongo import ASCENDING, DESCENDING
from pymongo.errors import BulkWriteError

from apps.kit.batching import GroupCommit
from apps.kit.clock import utc_now
from apps.kit.mongo import Database, is_duplicate_key, parsed
from apps.kit.paging import Position
from apps.kit.readings import LONGEST_READING_MS
from apps.kit.tracing import carried
from apps.orders.application import AcceptedOrder, Announcement, OrderFilter
from apps.orders.document import (
    AWAITING_INDEX,
    CANCELLED,
    OUTBOXES,
    UNDER_WAY,
    Order,
    Outbox,
    accepted,
    received,
    update_of,
)
from apps.orders.domain import Status, Step, cancellation_of
from apps.orders.progress import Progress
from contracts import Event, OrderCancelled

DOCUMENTS = (Order,)

_OPEN_DEAD_LETTER = {
    "$anyElementTrue": {
        "$map": {
            "input": {"$objectToArray": {"$ifNull": ["$dead_letters", {}]}},
            "in": {"$and": ["$$this.v.opened", {"$not": ["$$this.v.closed"]}]},
        }
    }
}
_IS_REAL: dict[str, Any] = {
    "$or": [{"rank": {"$gt": Status.RECEIVED.rank}}, {"content": {"$ne": None}}, {"$expr": _OPEN_DEAD_LETTER}]
}
"""Not what is known only by dead letters that are all closed: perhaps there never was such an order."""


_APART_SECONDS = 0.05
"""An order shows its status so much later at worst; at a few dozen a second that halves the cost of it."""


class MongoOrderBook:
    """Accepted orders, the read model over all events, and the queries of the ingress."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._orders = database.collection(Order)
        self._accepted = GroupCommit("accepted-orders", self._accept_group)
        self._published = GroupCommit("published-orders", self._mark_published_group)
        self._effects = GroupCommit("read-model", self._record_group, apart_seconds=_APART_SECONDS)
        self._progress = Progress(self._placed)

    async def accept(self, order: AcceptedOrder) -> AcceptedOrder:
        """Store an order; returns the one that was stored first under the same idempotency key."""
        return await self._accepted.add(order)

    async def cancel(self, cancellation: OrderCancelled, publish_at: datetime) -> Order | None:
        """Store that a known order is cancelled, unless it is already, or rejected; returns it as it is then.

        Args:
            cancellation: what is to be published.
            publish_at: from when on the relay may publish it, should its first publish not come back.
        """
        fresh = {"_id": cancellation.order_id, "cancellation": None, "rank": {"$ne": Status.REJECTED.rank}}
        mark = {
            "cancellation": cancellation_of(cancellation),
            CANCELLED.publish_at: publish_at,
            CANCELLED.trace: carried() or None,
            f"awaits.{Step.CANCELLATION}": True,
        }
        await self._orders.update_one(fresh, {"$set": mark, "$currentDate": {"changed_at": True}})
        return await self.find(cancellation.order_id)

    async def record(self, event: Event) -> None:
        """Write down what an event tells of its order, and that it was seen."""
        await self._effects.add(event)

    async def find(self, order_id: UUID) -> Order | None:
        document = await self._orders.find_one({"_id": order_id})
        return parsed(Order, document)

    async def list(self, wanted: OrderFilter, after: Position | None, limit: int) -> Sequence[Order]:
        """Newest first, from just behind `after`."""
        return await self._page(wanted, ("recorded_at", DESCENDING), after, limit)

    async def list_stuck(
        self, unchanged_for: timedelta, wanted: OrderFilter, after: Position | None, limit: int
    ) -> Sequence[Order]:
        """Orders that await something and were not heard of for so long; the longest first.

        Whatever changes leaves the list, and what gets stuck joins it at its end, so paging misses nothing.
        """
        stuck = {"$and": await self._stuck(unchanged_for)}
        return await self._page(wanted, ("changed_at", ASCENDING), after, limit, stuck)

    async def count_stuck(self, unchanged_for: timedelta, limit: int) -> int:
        """How many orders `list_stuck` would give, counted up to a limit."""
        stuck = {"$and": await self._stuck(unchanged_for)}
        return await self._orders.count_documents(
            stuck, limit=limit, hint=AWAITING_INDEX, maxTimeMS=LONGEST_READING_MS
        )

    async def oldest_unpublished(self) -> datetime | None:
        """When the order or the cancellation was accepted that waits longest for RabbitMQ to confirm it."""
        times = [await self._oldest_in(outbox) for outbox in OUTBOXES]
        return min((time for time in times if time is not None), default=None)

    async def _oldest_in(self, outbox: Outbox) -> datetime | None:
        oldest = self._orders.find(outbox.pending, {"since": f"${outbox.since}"}, hint=outbox.index)
        oldest = oldest.sort(outbox.since).limit(1).max_time_ms(LONGEST_READING_MS)
        return next((one["since"] for one in await oldest.to_list(1)), None)

    async def claim_unpublished(self, lease: timedelta, limit: int) -> Sequence[Announcement]:
        """What is due to be published, oldest first, kept from other relays until the lease ends."""
        return [event for outbox in OUTBOXES for event in await self._claim(outbox, lease, limit)]

    async def _claim(self, outbox: Outbox, lease: timedelta, limit: int) -> Sequence[Announcement]:
        now = utc_now()
        due = outbox.pending
        due[outbox.publish_at] |= {"$lte": now}
        found = self._orders.find(due, {"_id": 1}, hint=outbox.index).sort(outbox.since).limit(limit)
        ids = [document["_id"] async for document in found]
        if not ids:
            return []
        claim = uuid4()
        # The filter again: another relay may have claimed some of them meanwhile.
        await self._orders.update_many(
            {"_id": {"$in": ids}, **due}, {"$set": {outbox.publish_at: now + lease, outbox.claim: claim}}
        )
        claimed = self._orders.find({"_id": {"$in": ids}, outbox.claim: claim}).sort(outbox.since)
        orders = [Order.model_validate_doc(document) async for document in claimed]
        return [event for order in orders for event in order.announcements if isinstance(event, outbox.event)]

    async def traces_of(self, events: Sequence[Announcement]) -> Sequence[dict[str, str] | None]:
        """The headers of the trace in which each was accepted, where that is known."""
        ids = [event.order_id for event in events]
        found = self._orders.find({"_id": {"$in": ids}}, dict.fromkeys([one.trace for one in OUTBOXES], 1))
        traces = {document["_id"]: document async for document in found}
        outbox = {one.event: one.trace for one in OUTBOXES}
        return [traces.get(event.order_id, {}).get(outbox[type(event)]) for event in events]

    async def mark_published(self, event: Announcement) -> None:
        """Take an event off the relay's list: RabbitMQ has it."""
        await self._published.add(event)

    async def _stuck(self, unchanged_for: timedelta) -> Sequence[dict[str, Any]]:
        # Compared by the clock that wrote them.
        now = (await self._database.client.admin.command("hello"))["localTime"]
        return [{**UNDER_WAY, "changed_at": {"$lt": now - unchanged_for}}, _IS_REAL]

    async def _page(
        self,
        wanted: OrderFilter,
        by: tuple[str, int],
        after: Position | None,
        limit: int,
        stuck: dict[str, Any] | None = None,
    ) -> Sequence[Order]:
        field, direction = by
        conditions = [*_conditions(wanted), *([stuck] if stuck else [])]
        if after is not None:
            behind, before = ("$gte", "$lte") if direction == ASCENDING else ("$lte", "$gte")
            # One range, where the index begins: of two alternatives MongoDB makes none.
            at_that_time = {field: after.at, "_id": {before: after.id}}
            conditions += [{field: {behind: after.at}}, {"$nor": [at_that_time]}]
        hint = AWAITING_INDEX if stuck else None
        found = self._orders.find(_query(conditions, wanted), hint=hint)
        found = found.sort([by, ("_id", direction)]).limit(limit)
        return [Order.model_validate_doc(document) async for document in found]

    async def _accept_group(self, orders: Sequence[AcceptedOrder]) -> Sequence[AcceptedOrder]:
        try:
            await self._orders.insert_many(map(received, orders), ordered=False)
        except BulkWriteError as error:
            if not is_duplicate_key(error):
                raise
            repeats = [orders[problem["index"]] for problem in (error.details or {})["writeErrors"]]
            keys = [order.idempotency_key for order in repeats if order.idempotency_key is not None]
            first = {
                document["idempotency_key"]: accepted(document)
                async for document in self._orders.find({"idempotency_key": {"$in": keys}})
            }
            # An order whose own id is there was stored by an earlier try of this very group.
            stored = {one.event.order_id for one in first.values()}
            return [
                order
                if order.idempotency_key is None or order.event.order_id in stored
                else first.get(order.idempotency_key, order)
                for order in orders
            ]
        return orders

    async def _mark_published_group(self, events: Sequence[Announcement]) -> Sequence[None]:
        for outbox in OUTBOXES:
            ids = [event.order_id for event in events if isinstance(event, outbox.event)]
            if ids:
                await self._orders.update_many({"_id": {"$in": ids}}, {"$unset": outbox.published})
        return [None] * len(events)

    async def _record_group(self, events: Sequence[Event]) -> Sequence[None]:
        now = utc_now()
        refused = await self._record_new(range(len(events)), events, now)
        if refused:
            # Another process inserted the same order first; now it is there to be updated.
            refused = await self._record_new(refused, events, now)
        if refused:  # repeats
            repeats = [update_of(events[index], now) for index in refused]
            await self._orders.bulk_write(repeats, ordered=False)
        new = [event for index, event in enumerate(events) if index not in refused]
        await self._progress.note(new, now)
        return [None] * len(events)

    async def _record_new(
        self, indexes: Collection[int], events: Sequence[Event], now: datetime
    ) -> Collection[int]:
        """Record those that were not heard before; returns the indexes of the others."""
        updates = [update_of(events[index], now, if_new=True) for index in indexes]
        try:
            await self._orders.bulk_write(updates, ordered=False)
        except BulkWriteError as error:
            if not is_duplicate_key(error):
                raise
            positions = list(indexes)
            return {positions[problem["index"]] for problem in (error.details or {})["writeErrors"]}
        return set()

    async def _placed(self, order_ids: Sequence[UUID]) -> Mapping[UUID, datetime]:
        found = self._orders.find({"_id": {"$in": order_ids}}, {"content.placed_at": 1})
        return {
            document["_id"]: datetime.fromisoformat(placed_at)
            async for document in found
            if (placed_at := (document.get("content") or {}).get("placed_at"))
        }


def _conditions(wanted: OrderFilter) -> list[dict[str, Any]]:
    given: dict[str, Any] = {"rank": wanted.status and wanted.status.rank, "client": wanted.client}
    conditions = [{field: value} for field, value in given.items() if value is not None]
    bounds = {"$gte": wanted.since, "$lt": wanted.until}
    if period := {operator: moment for operator, moment in bounds.items() if moment is not None}:
        conditions.append({"recorded_at": period})
    return conditions


def _query(conditions: Sequence[dict[str, Any]], wanted: OrderFilter) -> dict[str, Any]:
    """All conditions; whose it is and how the shop calls it, as `Order.customer_and_reference` tells them."""
    names = (
        ("customer_id", "cancellation.customer.id", wanted.customer_id),
        ("reference", "cancellation.reference", wanted.reference),
    )
    ways = [
        ({field: value}, {"customer_id": None, path: value})
        for field, path, value in names
        if value is not None
    ]
    # The alternatives outermost, each with all conditions: MongoDB then merges them in the index's order, and
    # does not read and sort whatever the customer has.
    alternatives = [[*conditions, *chosen] for chosen in product(*ways)]
    if alternatives == [[]]:
        return {}
    return {"$or": [{"$and": one} for one in alternatives]} if ways else {"$and": alternatives[0]}
