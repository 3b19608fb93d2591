"""Waiting for what is out of reach: the message stays where it is, and readiness says why."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from aio_pika import IncomingMessage
from faststream.exceptions import NackMessage
from pymongo.errors import ConnectionFailure, PyMongoError
from structlog.stdlib import get_logger

from apps.kit.errors import DependencyUnavailable
from apps.kit.metrics import WAITING_MESSAGES
from apps.kit.settings import get_settings

Result = TypeVar("Result")

OUT_OF_REACH: tuple[type[Exception], ...] = (DependencyUnavailable, ConnectionFailure)

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0

log = get_logger()


class WaitedTooLongError(Exception):
    """What a message waits for is still out of reach, and RabbitMQ wants an answer in the end."""


class Waiting:
    """The handlers of one process that wait, and what for."""

    def __init__(self) -> None:
        self._waits: dict[object, tuple[str, str]] = {}
        """The error and the dependency of each that waits."""
        self._stopping = asyncio.Event()

    @property
    def reasons(self) -> list[str]:
        """What is out of reach now; empty if nobody waits."""
        return sorted({reason for reason, _ in self._waits.values()})

    def begin(self) -> None:
        """The process takes up its work."""
        for dependency in ("mongodb", "rabbitmq"):
            WAITING_MESSAGES.labels(dependency)
        self._stopping.clear()

    def end(self) -> None:
        """The process stops: whoever waits gives its message back."""
        self._stopping.set()

    async def out(
        self,
        attempt: Callable[[], Awaitable[Result]],
        message: IncomingMessage,
        out_of_reach: tuple[type[Exception], ...] = OUT_OF_REACH,
    ) -> Result:
        """Repeat an attempt for as long as it fails with one of the given errors.

        Raises:
            WaitedTooLongError: after `wait_in_place_seconds`.
            NackMessage: the process stops, or RabbitMQ has given the message to somebody else.
        """
        pause = _FIRST_PAUSE_SECONDS
        give_up_at = time.monotonic() + get_settings().wait_in_place_seconds
        waiter = object()
        try:
            while True:
                try:
                    return await attempt()
                except out_of_reach as error:
                    self._note(waiter, error)
                    log.warning("waiting for a dependency", error=type(error).__name__, seconds=pause)
                    if message.channel.is_closed or self._stopping.is_set():
                        raise NackMessage from error
                    if time.monotonic() > give_up_at:
                        raise WaitedTooLongError(str(error) or type(error).__name__) from error
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._stopping.wait()
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
        finally:
            self._note(waiter, None)

    def _note(self, waiter: object, error: Exception | None) -> None:
        if waiter in self._waits:
            _, dependency = self._waits.pop(waiter)
            WAITING_MESSAGES.labels(dependency).dec()
        if error is not None:
            dependency = _dependency(error)
            self._waits[waiter] = type(error).__name__, dependency
            WAITING_MESSAGES.labels(dependency).inc()


def _dependency(error: Exception) -> str:
    if isinstance(error, PyMongoError):
        return "mongodb"
    return error.dependency if isinstance(error, DependencyUnavailable) else "other"
