"""Waiting for a condition, never for a time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

Value = TypeVar("Value")


async def eventually(check: Callable[[], Awaitable[Value]], what: str, deadline_seconds: float = 60) -> Value:
    """The first truthy value of `check`; fails the test when the deadline passes."""
    deadline = time.monotonic() + deadline_seconds
    while not (value := await check()):
        assert time.monotonic() < deadline, f"not within {deadline_seconds:g} s: {what}"
        await asyncio.sleep(0.1)
    return value
