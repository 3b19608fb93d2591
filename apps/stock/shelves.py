"""What is on the shelves, for who only looks."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from pymongo import DESCENDING

from apps.kit.mongo import Database, parsed
from apps.stock.document import Adjustment, Reservation, StockLevel

_LAST_CHARACTER = "\U0010ffff"


class MongoShelves:
    """Levels, and what has changed them, over MongoDB."""

    def __init__(self, database: Database) -> None:
        self._levels = database.collection(StockLevel)
        self._reservations = database.collection(Reservation)
        self._adjustments = database.collection(Adjustment)

    async def levels(self, beginning: str, after: str | None, limit: int) -> Sequence[StockLevel]:
        """Levels of the articles whose sku begins so, by sku, from just behind one."""
        # A range of ids, which is what a prefix is to their index.
        among: dict[str, Any] = {"$gte": beginning, "$lt": beginning + _LAST_CHARACTER}
        if after is not None:
            among["$gt"] = after
        found = self._levels.find({"_id": among}).sort("_id").limit(limit)
        return [StockLevel.model_validate_doc(document) async for document in found]

    async def level(self, sku: str) -> StockLevel | None:
        """One level; None of an article that was never counted."""
        return parsed(StockLevel, await self._levels.find_one({"_id": sku}))

    async def reservations(self, sku: str, limit: int) -> Sequence[Reservation]:
        """The newest orders that have, or had, units of an article."""
        found = self._reservations.find({"lines.sku": sku}).sort("decided_at", DESCENDING).limit(limit)
        return [Reservation.model_validate_doc(document) async for document in found]

    async def adjustments(self, sku: str, limit: int) -> Sequence[Adjustment]:
        """The newest adjustments of an article."""
        found = self._adjustments.find({"sku": sku}).sort("adjusted_at", DESCENDING).limit(limit)
        return [Adjustment.model_validate_doc(document) async for document in found]

    async def adjustment(self, adjustment_id: UUID) -> Adjustment | None:
        """One adjustment; None until it is applied."""
        return parsed(Adjustment, await self._adjustments.find_one({"_id": adjustment_id}))
