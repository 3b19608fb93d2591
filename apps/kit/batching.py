"""Group commit: what arrives while a commit is under way shares the next one."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from opentelemetry import trace
from opentelemetry.trace import Span
from pymongo.errors import ConnectionFailure

from apps.kit.metrics import GROUP_COMMIT_DURATION, GROUP_SIZE
from apps.kit.tracing import shared_span

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Member(NamedTuple, Generic[Item, Result]):
    item: Item
    result: asyncio.Future[Result]
    span: Span
    """Of whoever waits for it."""


class GroupCommit(Generic[Item, Result]):
    """Hands concurrent items to one commit after another, each with all that waits.

    Nobody waits for a group to fill: at low load an item is committed at once and alone, under load the
    commits grow.
    A group that fails is committed again one by one, so that one bad item never takes its neighbours with it.

    Args:
        store: what the items become, in metrics and traces.
        commit: stores a group and returns one result per item, in order.
        limit: most items in one commit.
        apart_seconds: least time from the beginning of a commit to that of the next, where results are not
            urgent and fewer commits save more than the wait costs.
    """

    def __init__(
        self,
        store: str,
        commit: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        limit: int = 100,
        apart_seconds: float = 0.0,
    ) -> None:
        self._store = store
        self._size = GROUP_SIZE.labels(store)
        self._duration = GROUP_COMMIT_DURATION.labels(store)
        self._commit = commit
        self._limit = limit
        self._apart_seconds = apart_seconds
        self._waiting: list[_Member[Item, Result]] = []
        self._committing: asyncio.Task[None] | None = None

    async def add(self, item: Item) -> Result:
        """Commit the item with whatever else waits, and return its own result.

        Raises:
            Exception: what `commit` raised for this item alone.
        """
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Member(item, future, trace.get_current_span()))
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit_all())
        return await future

    async def _commit_all(self) -> None:
        try:
            while self._waiting:
                next_at = time.monotonic() + self._apart_seconds
                group, self._waiting = self._waiting[: self._limit], self._waiting[self._limit :]
                await self._commit_group(group)
                if (early := next_at - time.monotonic()) > 0:
                    await asyncio.sleep(early)
        finally:
            self._committing = None

    async def _commit_group(self, group: list[_Member[Item, Result]]) -> None:
        self._size.observe(len(group))
        try:
            with self._duration.time(), shared_span(f"commit {self._store}", [one.span for one in group]):
                results = await self._commit([one.item for one in group])
        except Exception as error:  # noqa: BLE001  # it belongs to whoever waits for the item
            if isinstance(error, ConnectionFailure):
                # With the store out of reach, one by one would only wait once for each, and whoever came
                # meanwhile would wait for all of them.
                group, self._waiting = group + self._waiting, []
            if len(group) == 1 or isinstance(error, ConnectionFailure):
                for one in group:
                    if not one.result.done():
                        one.result.set_exception(error)
            else:
                for member in group:
                    await self._commit_group([member])
        else:
            for one, result in zip(group, results, strict=True):
                if not one.result.done():
                    one.result.set_result(result)
