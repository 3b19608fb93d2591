"""Breaks the process that finds this on its PYTHONPATH, at the point that `ORDERFLOW_FAILPOINT` names.

Python imports this module by its name before any other, so the app is patched before it begins, and its own
code stays free of failpoints. One process takes one or more of these, separated by `;`:

- `before-publish:N` kill -9 where the Nth outcome is stored and not yet published
- `after-publish:N` kill -9 where the Nth outcome is confirmed and its cause not yet acknowledged
- `before-mark:N` kill -9 where the Nth order is confirmed and not yet marked as published
- `in-handler:N` kill -9 while the Nth message is being handled
- `kill-for:TEXT` kill -9, each time, while a message with this text in its body is being handled
- `fail-for:TEXT` every attempt at a message with this text fails; without a text, at any message
- `sleep:SECONDS` every handler takes that much longer, and logs that it begins
- `clock:SECONDS` the present is that much later, or earlier

The first four happen once: the next run of the process finds the file that `ORDERFLOW_FAILPOINT_FIRED` names.
Every import of the apps waits until its failpoint is wanted, so that a clock is changed before all others.
"""

import asyncio
import os
import signal
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import count
from typing import Any

BEGINS = "handler begins"
_MID_HANDLER_SECONDS = 0.002
"""After this a handler has sent its first command to MongoDB, and has not yet heard of its commit."""


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_once() -> None:
    """Kill this process, unless an earlier run of it has done so."""
    try:
        os.close(os.open(os.environ["ORDERFLOW_FAILPOINT_FIRED"], os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    die()


def at_publish(nth: int, *, confirmed: bool) -> None:
    """Die at the nth event of this run that is really sent."""
    from apps.kit.broker import EventBroker  # noqa: PLC0415

    announce = EventBroker.announce
    numbers = count(1)

    async def broken(self: Any, event: Any) -> None:
        is_due = next(numbers) == nth
        if is_due and not confirmed:
            die_once()
        await announce(self, event)
        if is_due and confirmed:
            die_once()

    EventBroker.announce = broken


def before_mark(nth: int) -> None:
    from apps.orders.mongo import MongoOrderBook  # noqa: PLC0415

    mark_published = MongoOrderBook.mark_published
    numbers = count(1)

    async def broken(self: Any, order_id: Any) -> None:
        if next(numbers) == nth:
            die_once()
        await mark_published(self, order_id)

    MongoOrderBook.mark_published = broken


def around_handler(disturb: Callable[[bytes], Awaitable[None]]) -> None:
    """Run `disturb` with the body of each message just before its handler."""
    from apps.kit.suspects import Suspects  # noqa: PLC0415

    turn = Suspects.turn

    @asynccontextmanager
    async def broken(self: Any, message: Any) -> AsyncIterator[None]:
        async with turn(self, message):
            await disturb(message.body)
            yield

    Suspects.turn = broken


def in_handler(nth: int) -> None:
    numbers = count(1)

    async def disturb(_body: bytes) -> None:
        if next(numbers) == nth:
            asyncio.get_running_loop().call_later(_MID_HANDLER_SECONDS, die_once)

    around_handler(disturb)


def kill_for(text: str) -> None:
    async def disturb(body: bytes) -> None:
        if text.encode() in body:
            die()

    around_handler(disturb)


def fail_for(text: str) -> None:
    async def disturb(body: bytes) -> None:
        if text.encode() in body:
            raise RuntimeError("a handler that always fails")

    around_handler(disturb)


def sleep(seconds: float) -> None:
    from structlog.stdlib import get_logger  # noqa: PLC0415

    async def disturb(_body: bytes) -> None:
        get_logger().info(BEGINS)
        await asyncio.sleep(seconds)

    around_handler(disturb)


def shift_clock(seconds: float) -> None:
    """Shift the time of the app; that of its logs and of the driver stays."""
    from apps.kit import clock  # noqa: PLC0415

    utc_now = clock.utc_now
    clock.utc_now = lambda: utc_now() + timedelta(seconds=seconds)


FAILPOINTS: dict[str, Callable[[str], None]] = {
    "clock": lambda argument: shift_clock(float(argument)),
    "before-publish": lambda argument: at_publish(int(argument), confirmed=False),
    "after-publish": lambda argument: at_publish(int(argument), confirmed=True),
    "before-mark": lambda argument: before_mark(int(argument)),
    "in-handler": lambda argument: in_handler(int(argument)),
    "kill-for": kill_for,
    "fail-for": fail_for,
    "sleep": lambda argument: sleep(float(argument)),
}


def install(points: str) -> None:
    wanted = dict(point.partition(":")[::2] for point in points.split(";"))
    # In the order of the table: the clock comes first, before anything has imported it by name.
    for name, activate in FAILPOINTS.items():
        if name in wanted:
            activate(wanted.pop(name))
    if wanted:
        raise ValueError(f"there is no failpoint {min(wanted)!r}")


if points := os.environ.get("ORDERFLOW_FAILPOINT"):
    try:
        install(points)
    except Exception:  # noqa: BLE001  # Python would go on without it, and the test would prove nothing
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(70)
