"""Group commit: what arrives while a commit is under way shares the next one."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from pymongo.errors import ConnectionFailure

Item = TypeVar("Item")
Result = TypeVar("Result")


class GroupCommit(Generic[Item, Result]):
    """Hands concurrent items to one commit after another, each with all that waits.

    There is no timer: at low load an item is committed at once and alone, under load the commits grow.
    A group that fails is committed again one by one, so that one bad item never takes its neighbours with it.

    Args:
        commit: stores a group and returns one result per item, in order.
        limit: most items in one commit.
    """

    def __init__(
        self, commit: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]], limit: int = 100
    ) -> None:
        self._commit = commit
        self._limit = limit
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._committing: asyncio.Task[None] | None = None

    async def add(self, item: Item) -> Result:
        """Commit the item with whatever else waits, and return its own result.

        Raises:
            Exception: what `commit` raised for this item alone.
        """
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit_all())
        return await future

    async def _commit_all(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting[: self._limit], self._waiting[self._limit :]
                await self._commit_group(group)
        finally:
            self._committing = None

    async def _commit_group(self, group: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._commit([item for item, _ in group])
        except Exception as error:  # noqa: BLE001  # it belongs to whoever waits for the item
            if isinstance(error, ConnectionFailure):
                # With the store out of reach, one by one would only wait once for each, and whoever came
                # meanwhile would wait for all of them.
                group, self._waiting = group + self._waiting, []
            if len(group) == 1 or isinstance(error, ConnectionFailure):
                for _, future in group:
                    if not future.done():
                        future.set_exception(error)
            else:
                for member in group:
                    await self._commit_group([member])
        else:
            for (_, future), result in zip(group, results, strict=True):
                if not future.done():
                    future.set_result(result)
