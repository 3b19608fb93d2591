"""Gauges that are read from MongoDB when they are scraped; not a number while it does not answer."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping

from prometheus_client import Gauge
from pymongo.errors import PyMongoError

Reading = Callable[[], Awaitable[float]]

MOST_COUNTED = 10_000
"""Beyond it a count costs more than it tells."""
LONGEST_READING_MS = 2000
"""For MongoDB itself: a reading that nobody waits for any more would still keep a thread of the driver."""
_TIMEOUT_SECONDS = LONGEST_READING_MS / 1000


async def take(readings: Mapping[Gauge, Reading]) -> None:
    """Read all of them at once, each with a deadline: a scrape must not wait for a database."""
    values = await asyncio.gather(*map(_value, readings.values()))
    for gauge, value in zip(readings, values, strict=True):
        gauge.set(value)


async def _value(reading: Reading) -> float:
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            return await reading()
    except (PyMongoError, TimeoutError):
        return math.nan
