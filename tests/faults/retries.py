"""What went into a retry level, by RabbitMQ's account: each time there has cost a message an attempt."""

from apps.kit.topology import RetryLevel
from tests.faults.system import System
from tests.faults.wiretap import Wiretap

QUEUE = "wiretap.retries"
KEEPS = frozenset({QUEUE})
"""Queues that may hold something in the end."""


async def retry_levels(system: System) -> list[str]:
    """The names of its retry levels, each of an exchange and of a queue."""
    prefix = RetryLevel(1).exchange.name.partition(".")[0]
    exchanges = [exchange["name"] for exchange in await system.management("exchanges")]
    return [name for name in exchanges if name.startswith(f"{prefix}.")]


async def retry_tap(system: System) -> Wiretap:
    """A wiretap, not open yet, on all retry levels."""
    return Wiretap(system.rabbitmq_url, exchanges=await retry_levels(system), queue=QUEUE)
