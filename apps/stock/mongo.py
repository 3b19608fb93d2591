"""Levels, decisions and adjustments in MongoDB, committed in groups."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from itertools import repeat
from typing import Any
from uuid import UUID

from pymongo import UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession

from apps.kit.batching import GroupCommit
from apps.kit.clock import utc_now
from apps.kit.mongo import ConflictError, Database, in_transaction
from apps.stock.application import Decision, OrderContradictedError
from apps.stock.document import IS_TIME, Adjustment, Reservation, StockLevel
from apps.stock.domain import CANCELLED, UNLIMITED, Level, adjusted, allocate, released
from contracts import OrderCancelled, OrderCreated, RejectionReason, StockAdjusted


def _digest(order: OrderCreated) -> str:
    return sha256(order.model_dump_json(include={"currency", "lines"}).encode()).hexdigest()


def decision_about(order: OrderCreated, reservation: Reservation) -> Decision:
    """What is stored under the id of an order, as the decision about it.

    Raises:
        OrderContradictedError: it was about other lines.
    """
    if reservation.content_digest not in {None, _digest(order)}:
        raise OrderContradictedError(order.order_id)
    reasons = tuple(RejectionReason(**reason) for reason in reservation.reasons)
    return Decision(reasons, reservation.decided_at)


class MongoWarehouse:
    """The warehouse over MongoDB: concurrent orders share one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._levels = database.collection(StockLevel)
        self._reservations = database.collection(Reservation)
        self._adjustments = database.collection(Adjustment)
        self._orders = GroupCommit("reservations", self._reserve_group)
        self._cancellations = GroupCommit("releases", self._release_group)
        self._counts = GroupCommit("adjustments", self._adjust_group)

    async def reserve(self, order: OrderCreated) -> Decision:
        return decision_about(order, await self._orders.add(order))

    async def release(self, cancellation: OrderCancelled) -> None:
        await self._cancellations.add(cancellation)

    async def adjust(self, adjustment: StockAdjusted) -> None:
        await self._counts.add(adjustment)

    async def _reserve_group(self, orders: Sequence[OrderCreated]) -> Sequence[Reservation]:
        by_id: dict[UUID, OrderCreated] = {}
        for order in orders:  # one group may hold the same order twice; the first counts
            by_id.setdefault(order.order_id, order)

        async def serve_all(session: AsyncClientSession) -> dict[UUID, Reservation]:
            taken: Counter[str] = Counter()
            for order in by_id.values():
                taken.update(order.quantities())
            await self._take(taken, session)
            return await self._decide(zip(by_id.values(), repeat(())), session)

        async def decide_each(session: AsyncClientSession) -> dict[UUID, Reservation]:
            found = self._reservations.find({"_id": {"$in": list(by_id)}}, session=session)
            stored = {document["_id"]: Reservation.model_validate_doc(document) async for document in found}
            fresh = [order for order_id, order in by_id.items() if order_id not in stored]
            if not fresh:
                return stored
            wanted = [order.quantities() for order in fresh]
            levels = await self._read_levels({sku for order in wanted for sku in order}, session)
            allocation = allocate(wanted, levels)
            await self._take(allocation.taken, session)
            return stored | await self._decide(zip(fresh, allocation.reasons, strict=True), session)

        # As a rule all of a group are new and can be served, which their writes find out by themselves.
        decisions = await in_transaction(self._database, serve_all, careful=decide_each)
        return [decisions[order.order_id] for order in orders]

    async def _decide(
        self, orders: Iterable[tuple[OrderCreated, Sequence[RejectionReason]]], session: AsyncClientSession
    ) -> dict[UUID, Reservation]:
        """Store what was decided about each order: served, unless there are reasons not to."""
        now = utc_now()
        decided = {
            order.order_id: Reservation(
                id=order.order_id,
                content_digest=_digest(order),
                lines=[] if why else [{"sku": sku, "quantity": n} for sku, n in order.quantities().items()],
                reasons=[reason.model_dump(mode="json") for reason in why],
                decided_at=now,
            )
            for order, why in orders
        }
        await self._reservations.insert_many(
            [reservation.model_dump_doc() for reservation in decided.values()], session=session
        )
        return decided

    async def _read_levels(self, skus: set[str], session: AsyncClientSession) -> dict[str, int | None]:
        return {
            document["_id"]: document["available"]
            async for document in self._levels.find(
                {"_id": {"$in": sorted(skus)}}, {"available": 1}, session=session
            )
        }

    async def _take(self, taken: Mapping[str, int], session: AsyncClientSession) -> None:
        """Move units from available to reserved.

        Raises:
            ConflictError: there is not as much of everything.
        """
        if not taken:
            return
        updates = [
            UpdateOne(
                {"_id": sku, "$or": [{"available": UNLIMITED}, {"available": {"$gte": quantity}}]},
                # What is unlimited stays so: null less anything is null.
                [
                    {
                        "$set": {
                            "available": {"$subtract": ["$available", quantity]},
                            "reserved": {"$add": ["$reserved", quantity]},
                        }
                    }
                ],
            )
            for sku, quantity in sorted(taken.items())
        ]
        result = await self._levels.bulk_write(updates, session=session)
        if result.matched_count < len(updates):
            raise ConflictError("not as much of everything is available")

    async def _release_group(self, cancellations: Sequence[OrderCancelled]) -> Sequence[None]:
        order_ids = list(dict.fromkeys(cancellation.order_id for cancellation in cancellations))

        async def work(session: AsyncClientSession) -> None:
            now = utc_now()
            decided = {
                document["_id"]: Reservation.model_validate_doc(document)
                async for document in self._reservations.find({"_id": {"$in": order_ids}}, session=session)
            }
            if ahead := [order_id for order_id in order_ids if order_id not in decided]:
                await self._reservations.insert_many(
                    [_refusal_ahead(order_id, now).model_dump_doc() for order_id in ahead], session=session
                )
            held = [reservation for reservation in decided.values() if reservation.released_at is None]
            if held:
                await self._give_back(held, session)
                await self._reservations.update_many(
                    {"_id": {"$in": [reservation.id for reservation in held]}},
                    {"$set": {"released_at": now}},
                    session=session,
                )

        await in_transaction(self._database, work)
        return [None] * len(cancellations)

    async def _give_back(self, reservations: Sequence[Reservation], session: AsyncClientSession) -> None:
        """Move units from reserved to available."""
        units: Counter[str] = Counter()
        for reservation in reservations:
            units.update({line["sku"]: line["quantity"] for line in reservation.lines})
        if not units:
            return
        found = self._levels.find({"_id": {"$in": sorted(units)}}, session=session)
        levels = {
            document["_id"]: released(_level(document), units[document["_id"]]) async for document in found
        }
        await self._levels.bulk_write(
            [
                UpdateOne(
                    {"_id": sku},
                    {
                        "$set": {"available": level.available, "owed": level.owed},
                        "$inc": {"reserved": -units[sku]},
                    },
                )
                for sku, level in sorted(levels.items())
            ],
            session=session,
        )

    async def _adjust_group(self, adjustments: Sequence[StockAdjusted]) -> Sequence[None]:
        async def work(session: AsyncClientSession) -> None:
            known = {
                document["_id"]
                async for document in self._adjustments.find(
                    {"_id": {"$in": [adjustment.adjustment_id for adjustment in adjustments]}},
                    {"_id": 1},
                    session=session,
                )
            }
            fresh = {
                adjustment.adjustment_id: adjustment
                for adjustment in adjustments
                if adjustment.adjustment_id not in known
            }
            for adjustment in sorted(fresh.values(), key=lambda one: (one.adjusted_at, one.adjustment_id)):
                await self._apply(adjustment, session)

        await in_transaction(self._database, work)
        return [None] * len(adjustments)

    async def _apply(self, adjustment: StockAdjusted, session: AsyncClientSession) -> None:
        sku, at = adjustment.sku, adjustment.adjusted_at
        stored = await self._levels.find_one({"_id": sku}, session=session)
        before = _level(stored) if stored else Level()
        counts = adjustment.mode == "set" and (before.counted_at is None or at > before.counted_at)
        added_since = await self._added_since(sku, at, session) if counts else 0
        reserved_since = await self._reserved_since(sku, at, session) if counts else 0
        after = adjusted(before, adjustment, added_since, reserved_since)
        await self._adjustments.insert_one(
            Adjustment(
                id=adjustment.adjustment_id,
                sku=sku,
                mode=adjustment.mode,
                quantity=adjustment.quantity,
                adjusted_at=at,
            ).model_dump_doc(),
            session=session,
        )
        await self._levels.update_one(
            {"_id": sku},
            {
                "$set": {"available": after.available, "owed": after.owed, "counted_at": after.counted_at},
                "$setOnInsert": {"reserved": 0},
            },
            upsert=True,
            session=session,
        )

    async def _added_since(self, sku: str, at: datetime, session: AsyncClientSession) -> int:
        """Units added later than a count that arrives late."""
        newer = self._adjustments.find(
            {"sku": sku, "mode": "add", "adjusted_at": {"$gt": at}}, session=session
        )
        return sum([document["quantity"] async for document in newer])

    async def _reserved_since(self, sku: str, at: datetime, session: AsyncClientSession) -> int:
        """Units that orders took after a count which only now arrives, less those given back after it.

        What was taken and given back since the count makes no difference to it. What was given back since
        and taken before was not free to sell when it was counted, and now is.
        """
        newer = {"$gt": at}
        taken = await self._units(sku, {"decided_at": newer}, session)
        return taken - await self._units(sku, {"released_at": {**newer, **IS_TIME}}, session)

    async def _units(self, sku: str, when: Mapping[str, Any], session: AsyncClientSession) -> int:
        found = self._reservations.find({"lines.sku": sku, **when}, session=session)
        return sum(
            [
                line["quantity"]
                async for reservation in found
                for line in reservation["lines"]
                if line["sku"] == sku
            ]
        )


def _level(document: Mapping[str, Any]) -> Level:
    return Level(document["available"], document["counted_at"], document.get("owed", 0))


def _refusal_ahead(order_id: UUID, now: datetime) -> Reservation:
    """What is decided about an order whose cancellation came first."""
    reasons = [CANCELLED.model_dump(mode="json")]
    return Reservation(
        id=order_id, content_digest=None, lines=[], reasons=reasons, decided_at=now, released_at=now
    )
