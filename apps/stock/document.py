"""The documents of stock: levels, decisions and adjustments."""

from typing import Any
from uuid import UUID

from odmantic import Field, Model
from pydantic import AwareDatetime
from pymongo import ASCENDING, DESCENDING, IndexModel

IS_TIME = {"$type": "date"}
"""Part of each query for released reservations, so that it can use their index."""


class StockLevel(Model):
    """How much of one article there is; its id is the sku."""

    model_config = {"collection": "levels"}

    id: str = Field(primary_field=True)
    available: int | None
    """Units that can still be reserved; null where there is no limit."""
    reserved: int = 0
    """Units promised to orders since the level exists, less those of orders cancelled since."""
    owed: int = 0
    """Units promised beyond what a late count found; with any owed, none is available."""
    counted_at: AwareDatetime | None = None
    """Time of the last count (`set`) that is in `available`."""


class Reservation(Model):
    """What was decided about one order, under the order's id."""

    model_config = {
        "collection": "reservations",
        "indexes": lambda: [
            IndexModel([("lines.sku", ASCENDING), ("decided_at", ASCENDING)], name="by_sku_and_time"),
            IndexModel(
                [("lines.sku", ASCENDING), ("released_at", ASCENDING)],
                name="released_by_sku_and_time",
                partialFilterExpression={"released_at": IS_TIME},
            ),
        ],
    }

    id: UUID = Field(primary_field=True)
    content_digest: str | None
    """SHA-256 of currency and lines: tells a repeat from another order under the same id.

    None if the cancellation came first: whichever order comes then is refused.
    """
    lines: list[dict[str, Any]]
    """`sku` and `quantity` of what was reserved, also once it is released; empty if the order was refused."""
    reasons: list[dict[str, Any]]
    decided_at: AwareDatetime
    released_at: AwareDatetime | None = None
    """When the cancellation was heard of, and gave the lines back; null before."""


class Adjustment(Model):
    """One adjustment that was applied, or was older than a later count."""

    model_config = {
        "collection": "adjustments",
        "indexes": lambda: [
            IndexModel([("sku", ASCENDING), ("adjusted_at", DESCENDING)], name="by_sku_and_time")
        ],
    }

    id: UUID = Field(primary_field=True)
    sku: str
    mode: str
    quantity: int | None
    adjusted_at: AwareDatetime


DOCUMENTS = (StockLevel, Reservation, Adjustment)
