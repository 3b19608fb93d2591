"""What waits, for readiness and metrics: orders that RabbitMQ does not have, and orders that are stuck."""

from datetime import timedelta

from apps.kit.clock import utc_now
from apps.kit.health import Check, NotReadyError
from apps.kit.readings import MOST_COUNTED
from apps.kit.settings import get_settings
from apps.orders.mongo import MongoOrderBook


def stuck_after() -> timedelta:
    """For how long an order that awaits something may go without news."""
    return timedelta(seconds=get_settings().stuck_after_seconds)


async def stuck_orders(orders: MongoOrderBook) -> int:
    """How many orders await something and were not heard of for long."""
    return await orders.count_stuck(stuck_after(), MOST_COUNTED)


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
