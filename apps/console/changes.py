"""What becomes of orders, from the read model's change stream: taken once a second, not per change."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pymongo.asynchronous.change_stream import AsyncCollectionChangeStream
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import PyMongoError
from structlog.stdlib import get_logger

from apps.console.rates import BUCKET_SECONDS, Rates, begin_of_course
from apps.kit.readings import LONGEST_READING_MS

MOST_DRAWN = 20
"""Orders that are read, and drawn, each time; the others wait for the next."""
MOST_WAITING = 200
"""More than a page shows: what waits beyond it is told by their number only."""
RECENT_SECONDS = 15.0
"""A page that was made longer ago than this, when its stream begins, has to be read again."""
_DEADLINE_SECONDS = LONGEST_READING_MS / 1000
_AWAIT_MS = 5
"""MongoDB answers an empty hand after so long: who asks once a second has waited enough."""
_AT_A_TIME = 200
_MOST_AT_ONCE = 20_000

_PIPELINE: list[Mapping[str, Any]] = [
    {
        "$project": {
            "operationType": 1,
            "documentKey": 1,
            "rank": {"$ifNull": ["$updateDescription.updatedFields.rank", "$fullDocument.rank"]},
        }
    }
]

log = get_logger()


@dataclass(frozen=True)
class Batch:
    """What was heard; each order with whether it is new, the latest first."""

    changed: frozenset[UUID]
    """All that changed since the last batch."""
    to_draw: Mapping[UUID, bool]
    """Changed now or before, and not drawn yet."""
    more: int
    """How many others wait to be drawn, or will not be."""
    is_caught_up: bool
    """Some were never drawn, and now nothing waits: whoever looks should look again."""


class Watch:
    """A change stream that is opened anew whenever it breaks."""

    def __init__(self, orders: AsyncCollection[dict[str, Any]], rates: Rates) -> None:
        self._orders = orders
        self._rates = rates
        self._stream: AsyncCollectionChangeStream[dict[str, Any]] | None = None
        self._waiting: dict[UUID, bool] = {}
        self._recent: dict[UUID, tuple[float, bool]] = {}
        self._was_missed = False
        self._is_broken = False
        self.opened_at: float | None = None
        """By the monotonic clock; None while nothing is heard."""

    @property
    def recent(self) -> Mapping[UUID, bool]:
        """As in a batch: the latest, which pages that were just made may lack."""
        since = time.monotonic() - RECENT_SECONDS
        return {key: is_new for key, (at, is_new) in reversed(self._recent.items()) if at >= since}

    async def next(self) -> Batch:
        """What was heard since the last time; nothing while MongoDB is away."""
        changed: dict[UUID, bool] = {}
        try:
            async with asyncio.timeout(_DEADLINE_SECONDS):
                stream = self._stream or await self._open()
                await self._drain(stream, changed)
        except (PyMongoError, TimeoutError) as error:
            if not self._is_broken:
                log.warning("the change stream of orders broke", error=type(error).__name__)
            self._is_broken = True
            await self.close()
        else:
            self._is_broken = False
            self._rates.pass_second()
        return self._batch(changed)

    async def close(self) -> None:
        """Hear nothing any more; `next` begins anew."""
        stream, self._stream, self.opened_at = self._stream, None, None
        if stream is not None:
            with suppress(PyMongoError):  # it is gone anyway
                await stream.close()

    def miss(self) -> None:
        """What was to be drawn was not."""
        self._was_missed = True

    async def _open(self) -> AsyncCollectionChangeStream[dict[str, Any]]:
        stream = await self._orders.watch(_PIPELINE, max_await_time_ms=_AWAIT_MS)
        self._stream, self.opened_at = stream, time.monotonic()
        self._waiting.clear()  # whoever looks is told to look again
        with suppress(PyMongoError):  # then the plot begins empty
            await self._recall()
        return stream

    async def _drain(
        self, stream: AsyncCollectionChangeStream[dict[str, Any]], changed: dict[UUID, bool]
    ) -> None:
        for number in range(1, _MOST_AT_ONCE):
            if (change := await stream.try_next()) is None:
                break
            self._note(change, changed)
            if number % _AT_A_TIME == 0:
                await asyncio.sleep(0)  # what is there already would be taken without a pause
        if not stream.alive:  # the collection was dropped, or renamed
            await self.close()

    def _note(self, change: Mapping[str, Any], changed: dict[UUID, bool]) -> None:
        if "documentKey" not in change:
            return
        order_id, is_new = change["documentKey"]["_id"], change["operationType"] == "insert"
        self._rates.note(change.get("rank"), is_new=is_new)
        changed[order_id] = changed.pop(order_id, False) or is_new

    def _batch(self, changed: Mapping[UUID, bool]) -> Batch:
        now = time.monotonic()
        for order_id, is_new in changed.items():
            self._waiting[order_id] = self._waiting.pop(order_id, False) or is_new
            _, was_new = self._recent.pop(order_id, (now, False))
            self._recent[order_id] = (now, is_new or was_new)
        while len(self._recent) > MOST_DRAWN:
            del self._recent[next(iter(self._recent))]
        to_draw = dict(self._waiting.popitem() for _ in range(min(MOST_DRAWN, len(self._waiting))))
        more = len(self._waiting)
        while len(self._waiting) > MOST_WAITING:
            self._was_missed = True
            del self._waiting[next(iter(self._waiting))]
        is_caught_up = self._was_missed and not self._waiting and self.opened_at is not None
        if is_caught_up:
            self._was_missed = False
        return Batch(frozenset(changed), to_draw, more, is_caught_up)

    async def _recall(self) -> None:
        """Count the orders that came in before: the index alone tells, and soon, or not at all."""
        since = datetime.fromtimestamp(begin_of_course(), UTC)
        step = {"$dateTrunc": {"date": "$recorded_at", "unit": "second", "binSize": BUCKET_SECONDS}}
        until = time.time()
        found = await self._orders.aggregate(
            [
                {"$match": {"recorded_at": {"$gte": since}}},
                {"$group": {"_id": step, "count": {"$sum": 1}}},
            ],
            hint="newest",
            maxTimeMS=LONGEST_READING_MS // 2,
        )
        counts = {int(one["_id"].timestamp()): one["count"] async for one in found}
        self._rates.recall(counts, until)
