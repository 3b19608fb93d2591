"""Group commit: who shares a commit, who gets which result, and who fails for whom."""

import asyncio
import time
from collections.abc import Sequence

import pytest
from pymongo.errors import ConnectionFailure

from apps.kit.batching import GroupCommit


class BadItemError(Exception):
    """The store does not take this item, in whatever company it comes."""


class Store:
    """Commits one group at a time; a commit waits while the store is closed."""

    def __init__(self) -> None:
        self.commits: list[list[int]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.busy = asyncio.Event()
        self.out_of_reach = False

    async def commit(self, items: Sequence[int]) -> Sequence[str]:
        self.commits.append(list(items))
        self.busy.set()
        await self.open.wait()
        if self.out_of_reach:
            raise ConnectionFailure("no primary")
        if bad := [item for item in items if item < 0]:
            raise BadItemError(bad)
        return [f"stored {item}" for item in items]


@pytest.fixture
async def store() -> Store:
    return Store()


async def held_up(store: Store, group_commit: GroupCommit[int, str]) -> asyncio.Task[str]:
    """Item 0, whose commit is under way and does not end until the store opens."""
    store.open.clear()
    first = asyncio.create_task(group_commit.add(0))
    await store.busy.wait()
    return first


async def test_lone_item_is_committed_at_once(store: Store) -> None:
    """At low load nothing waits for company."""
    group_commit = GroupCommit("tests", store.commit)
    assert await group_commit.add(1) == "stored 1"
    assert await group_commit.add(2) == "stored 2"
    assert store.commits == [[1], [2]]


async def test_commits_apart_share_what_comes_between(store: Store) -> None:
    """Where commits are kept apart, the first is made at once; what follows soon shares the second."""
    group_commit = GroupCommit("tests", store.commit, apart_seconds=0.05)
    assert await group_commit.add(1) == "stored 1"
    began = time.monotonic()
    assert await asyncio.gather(*map(group_commit.add, (2, 3))) == ["stored 2", "stored 3"]
    assert store.commits == [[1], [2, 3]]
    assert time.monotonic() - began < 1


async def test_what_arrives_during_a_commit_shares_the_next(store: Store) -> None:
    """Fifty items behind a slow commit cost one commit more, and each gets its own result."""
    group_commit = GroupCommit("tests", store.commit)
    first = await held_up(store, group_commit)
    others = [asyncio.create_task(group_commit.add(item)) for item in range(1, 51)]
    store.open.set()
    assert await asyncio.gather(first, *others) == [f"stored {item}" for item in range(51)]
    assert store.commits == [[0], list(range(1, 51))]


async def test_no_commit_exceeds_the_limit(store: Store) -> None:
    """A crowd is split into commits of bounded size, first come first served."""
    group_commit = GroupCommit("tests", store.commit, limit=10)
    results = await asyncio.gather(*(group_commit.add(item) for item in range(25)))
    assert results == [f"stored {item}" for item in range(25)]
    assert [len(group) for group in store.commits] == [10, 10, 5]
    assert [item for group in store.commits for item in group] == list(range(25))


async def test_bad_item_fails_alone(store: Store) -> None:
    """The group is committed again one by one, and only the bad item's caller sees its error."""
    group_commit = GroupCommit("tests", store.commit)
    results = await asyncio.gather(*(group_commit.add(item) for item in (1, -2, 3)), return_exceptions=True)
    assert [results[0], results[2]] == ["stored 1", "stored 3"]
    assert isinstance(results[1], BadItemError)
    assert results[1].args == ([-2],)
    assert store.commits == [[1, -2, 3], [1], [-2], [3]]


async def test_unreachable_store_fails_the_whole_group_at_once(store: Store) -> None:
    """One by one would only wait for the same store once for each."""
    group_commit = GroupCommit("tests", store.commit)
    store.out_of_reach = True
    results = await asyncio.gather(*(group_commit.add(item) for item in range(20)), return_exceptions=True)
    assert all(isinstance(result, ConnectionFailure) for result in results)
    assert store.commits == [list(range(20))]


async def test_items_after_a_failure_are_committed(store: Store) -> None:
    """A store that comes back serves whoever asks next."""
    group_commit = GroupCommit("tests", store.commit)
    store.out_of_reach = True
    with pytest.raises(ConnectionFailure):
        await group_commit.add(1)
    store.out_of_reach = False
    assert await group_commit.add(1) == "stored 1"


@pytest.mark.parametrize("cancelled", [0, 1, 2], ids=["being committed", "next", "last"])
async def test_cancelled_waiter_disturbs_nobody(store: Store, cancelled: int) -> None:
    """Who gives up takes neither the commit under way nor the ones that wait along."""
    group_commit = GroupCommit("tests", store.commit)
    waiters = [await held_up(store, group_commit)]
    waiters += [asyncio.create_task(group_commit.add(item)) for item in (1, 2)]
    await asyncio.sleep(0)  # lets them join the queue, without which there would be nothing to give up
    waiters[cancelled].cancel()
    store.open.set()
    results = await asyncio.gather(*waiters, return_exceptions=True)
    assert isinstance(results[cancelled], asyncio.CancelledError)
    assert [result for result in results if isinstance(result, str)] == [
        f"stored {item}" for item in range(3) if item != cancelled
    ]
    assert await group_commit.add(3) == "stored 3"


async def test_cancelled_waiter_of_a_failed_group(store: Store) -> None:
    """An error has nobody to go to where its caller has left, and still reaches the others."""
    group_commit = GroupCommit("tests", store.commit)
    first = await held_up(store, group_commit)
    second = asyncio.create_task(group_commit.add(1))
    store.out_of_reach = True
    first.cancel()
    store.open.set()
    with pytest.raises(ConnectionFailure):
        await second
