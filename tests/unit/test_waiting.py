"""What is out of reach is waited for, seen, and given back in the end."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aio_pika import IncomingMessage
from faststream.exceptions import NackMessage

from apps.kit import waiting as module
from apps.kit.errors import DependencyUnavailable
from apps.kit.settings import get_settings
from apps.kit.suspects import Suspects
from apps.kit.waiting import WaitedTooLongError, Waiting


def message(*, is_closed: bool = False, redeliveries: object = None) -> IncomingMessage:
    headers = {} if redeliveries is None else {"x-delivery-count": redeliveries}
    return cast(
        "IncomingMessage", SimpleNamespace(channel=SimpleNamespace(is_closed=is_closed), headers=headers)
    )


def failing(times: int, seen: Callable[[], None] = lambda: None) -> Callable[[], Awaitable[str]]:
    """An attempt that fails so often before it succeeds."""
    left = iter(range(times))

    async def attempt() -> str:
        seen()
        if next(left, None) is None:
            return "done"
        raise DependencyUnavailable("the store")

    return attempt


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE_SECONDS", 0.001)


async def test_attempt_is_repeated_until_it_succeeds() -> None:
    """What comes back within reach is used, and nobody waits any more."""
    waiting = Waiting()
    assert await waiting.out(failing(3), message()) == "done"
    assert waiting.reasons == []


async def test_reason_shows_while_a_message_waits() -> None:
    """Readiness can say what is out of reach, from the first failure on."""
    waiting = Waiting()
    shown: list[list[str]] = []
    await waiting.out(failing(2, lambda: shown.append(waiting.reasons)), message())
    assert shown == [[], ["DependencyUnavailable"], ["DependencyUnavailable"]]


async def test_other_errors_are_not_waited_for() -> None:
    """A mistake in a handler is the recovery policy's business."""

    async def broken() -> None:
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011  # raised as it is
        await Waiting().out(broken, message())


async def test_wait_ends_before_rabbitmq_takes_the_message_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """After its time in place the message has to go elsewhere."""
    monkeypatch.setenv("ORDERFLOW_WAIT_IN_PLACE_SECONDS", "0.02")
    get_settings.cache_clear()
    with pytest.raises(WaitedTooLongError):
        await Waiting().out(failing(1000), message())
    get_settings.cache_clear()


async def test_stop_gives_waiting_messages_back_at_once() -> None:
    """A process that stops does not spend its budget on waiting."""
    waiting = Waiting()
    waits = asyncio.create_task(waiting.out(failing(1_000_000), message()))
    while not waiting.reasons:  # noqa: ASYNC110  # a turn of the loop, no time
        await asyncio.sleep(0)
    waiting.end()
    with pytest.raises(NackMessage):
        await asyncio.wait_for(waits, 1)
    waiting.begin()
    assert await waiting.out(failing(1), message()) == "done"


async def test_message_that_rabbitmq_took_back_is_not_waited_for() -> None:
    """Somebody else has it by now."""
    with pytest.raises(NackMessage):
        await Waiting().out(failing(1), message(is_closed=True))


@pytest.mark.parametrize(
    ("redeliveries", "together"), [(None, 5), (1, 5), ("odd", 5), (2, 1), (19, 1)], ids=str
)
async def test_only_what_came_back_repeatedly_runs_alone(redeliveries: Any, together: int) -> None:
    """Fresh messages run together; those that may have killed their worker one by one."""
    suspects = Suspects()
    running = most = 0

    async def handle() -> None:
        nonlocal running, most
        async with suspects.turn(message(redeliveries=redeliveries)):
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.001)
            running -= 1

    await asyncio.gather(*(handle() for _ in range(5)))
    assert most == together
