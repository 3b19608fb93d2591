"""Figures over all orders that only their database knows; bounded, so that more orders make none slower."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from pymongo import DESCENDING

from apps.kit.clock import utc_now
from apps.kit.mongo import Database
from apps.kit.readings import LONGEST_READING_MS, MOST_COUNTED
from apps.orders.document import Order
from apps.orders.domain import Status
from contracts import NotificationSent

MOST_MEASURED = 1000
"""Orders that times are taken of."""


async def count_by_status(database: Database) -> Mapping[Status, int]:
    """How many orders are at each status now, counted up to a limit."""
    orders = database.collection(Order)
    return {
        status: await orders.count_documents(
            {"rank": status.rank}, limit=MOST_COUNTED, hint="by_status", maxTimeMS=LONGEST_READING_MS
        )
        for status in Status
    }


async def seconds_until_told(database: Database, within: timedelta) -> Sequence[float]:
    """Of the newest orders whose customer was told of the invoice, the time since they were placed; sorted.

    Only of those placed within that time: an old file that was imported says nothing of today.
    """
    since = utc_now() - within
    told = {
        "$filter": {
            "input": {"$objectToArray": "$events"},
            "cond": {"$eq": ["$$this.v.event", NotificationSent.__name__]},
        }
    }
    pipeline: list[Mapping[str, Any]] = [
        {"$match": {"rank": Status.NOTIFIED.rank, "recorded_at": {"$gte": since}}},
        {"$sort": {"recorded_at": DESCENDING, "_id": DESCENDING}},
        {"$limit": MOST_MEASURED},
        {
            "$project": {
                "_id": 0,
                "placed_at": {
                    "$convert": {"input": "$content.placed_at", "to": "date", "onError": None, "onNull": None}
                },
                "told_at": {"$min": {"$map": {"input": told, "in": "$$this.v.at"}}},
            }
        },
        {"$match": {"placed_at": {"$gte": since}, "told_at": {"$type": "date"}}},
    ]
    found = await database.collection(Order).aggregate(
        pipeline, hint="by_status", maxTimeMS=LONGEST_READING_MS
    )
    return sorted([max(0.0, (one["told_at"] - one["placed_at"]).total_seconds()) async for one in found])
