"""What stock has decided about an order, for who only looks."""

from uuid import UUID

from apps.kit.mongo import Database, parsed
from apps.stock.document import Reservation


class MongoDecisions:
    """Decisions over MongoDB."""

    def __init__(self, database: Database) -> None:
        self._reservations = database.collection(Reservation)

    async def find(self, order_id: UUID) -> Reservation | None:
        """What is stored under the order's id; None while nothing is decided."""
        return parsed(Reservation, await self._reservations.find_one({"_id": order_id}))
