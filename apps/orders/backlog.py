"""What waits, for readiness and metrics: orders that RabbitMQ does not have, and orders that are stuck."""

import asyncio
import math
from datetime import timedelta

from prometheus_client import CollectorRegistry, Gauge
from pymongo.errors import PyMongoError

from apps.kit.clock import utc_now
from apps.kit.health import Check, NotReadyError
from apps.kit.settings import get_settings
from apps.orders.mongo import MongoOrderBook

MOST_STUCK_COUNTED = 10_000
_TIMEOUT_SECONDS = 2.0


def stuck_after() -> timedelta:
    """For how long an order that awaits something may go without news."""
    return timedelta(seconds=get_settings().stuck_after_seconds)


async def oldest_unpublished_seconds(orders: MongoOrderBook) -> float:
    """For how long RabbitMQ has not confirmed the oldest accepted order; 0 if it has confirmed all."""
    accepted_at = await orders.oldest_unpublished()
    return max(0.0, (utc_now() - accepted_at).total_seconds()) if accepted_at else 0.0


def unpublished_check(orders: MongoOrderBook) -> Check:
    """No accepted order has waited for long to be published."""

    async def check() -> None:
        seconds = await oldest_unpublished_seconds(orders)
        if seconds > get_settings().unpublished_alarm_seconds:
            raise NotReadyError(f"an accepted order has waited for {seconds:.0f} s to be published")

    return check


class BacklogMetrics:
    """Gauges that are read from MongoDB when they are scraped; not a number while it does not answer."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._stuck = Gauge(
            "orderflow_stuck_orders",
            f"Orders that await something without news for long; counted up to {MOST_STUCK_COUNTED}.",
            registry=registry,
        )
        self._unpublished = Gauge(
            "orderflow_oldest_unpublished_seconds",
            "For how long RabbitMQ has not confirmed the oldest accepted order; 0 if it has confirmed all.",
            registry=registry,
        )

    async def refresh(self, orders: MongoOrderBook) -> None:
        """Read both anew."""
        stuck = unpublished = math.nan
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                stuck = await orders.count_stuck(stuck_after(), MOST_STUCK_COUNTED)
                unpublished = await oldest_unpublished_seconds(orders)
        except (PyMongoError, TimeoutError):
            pass
        self._stuck.set(stuck)
        self._unpublished.set(unpublished)
