"""Event streams to browsers: each viewer has room for two messages, and who does not take them is let go."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractContextManager, suppress

from fastapi import Response
from starlette.types import Receive, Scope, Send

DROP = b"event: drop\ndata: too slow, or not allowed any more\n\n"
"""The page asks by itself from then on; an event without data would not reach it."""
_ROOM = 2
_SILENCE_SECONDS = 15.0
"""Proxies close what is silent for long, most of them after 30 s or more."""
_SEND_SECONDS = 10.0
"""Whoever takes nothing for so long takes the last word neither."""
_CHECKED_EVERY_SECONDS = 5.0
_LONGEST_PAUSE_MS = 6000


class Viewer:
    """One open page."""

    def __init__(self, may_stay: Callable[[], Awaitable[bool]]) -> None:
        """Prepare.

        Args:
            may_stay: asked now and then, since rights may end before the page is closed.
        """
        self._may_stay = may_stay
        self._messages: asyncio.Queue[bytes | None] = asyncio.Queue(_ROOM)
        self._is_gone = False
        self.is_new = True
        """Nothing was shown to it yet."""
        self.is_stale = True
        """It may lack what happened before its stream began, or while nobody listened."""

    def offer(self, message: bytes) -> None:
        """Hand over a message; a viewer that has not taken those before is let go."""
        try:
            if not self._is_gone:
                self._messages.put_nowait(message)
        except asyncio.QueueFull:
            self.end(DROP)

    def end(self, last: bytes | None = None) -> None:
        """Let the viewer go, with a last word or without."""
        if self._is_gone:
            return
        self._is_gone = True
        while not self._messages.empty():
            self._messages.get_nowait()
        if last is not None:
            self._messages.put_nowait(last)
        self._messages.put_nowait(None)

    async def messages(self) -> AsyncIterator[bytes]:
        """All messages until its end, and a sign of life where there are none."""
        # After a restart, not all come back at once.
        yield f"retry: {random.randint(1000, _LONGEST_PAUSE_MS)}\n\n".encode()  # noqa: S311  # no secret
        spoke = checked = time.monotonic()
        while True:
            message: bytes | None = b""
            with suppress(TimeoutError):
                async with asyncio.timeout(min(_SILENCE_SECONDS, _CHECKED_EVERY_SECONDS)):
                    message = await self._messages.get()
            if message is None:
                return
            now = time.monotonic()
            if not message and now - spoke >= _SILENCE_SECONDS:
                message = b":\n\n"
            if now - checked >= _CHECKED_EVERY_SECONDS and not self._is_gone:
                checked = now
                if not await self._may_stay():
                    self.end(DROP)
                    continue
            if message:
                spoke = now
                yield message


class EventStream(Response):
    """An answer that goes on until the viewer leaves, or is let go."""

    media_type = "text/event-stream"

    def __init__(self, viewer: Viewer, viewing: AbstractContextManager[None]) -> None:
        """Prepare.

        Args:
            viewer: whose messages are sent.
            viewing: open while they are.
        """
        # A proxy must hand on what it gets, when it gets it.
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._viewer = viewer
        self._viewing = viewing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        with self._viewing:
            leaving = asyncio.create_task(self._end_with_viewer(receive))
            try:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                async for message in self._viewer.messages():
                    async with asyncio.timeout(_SEND_SECONDS):
                        await send({"type": "http.response.body", "body": message, "more_body": True})
                await send({"type": "http.response.body"})
            except TimeoutError:
                pass  # the server closes the connection of an answer that was not completed
            finally:
                leaving.cancel()

    async def _end_with_viewer(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._viewer.end()


def event(name: str, data: object) -> bytes:
    """An event that the page's script knows by its name."""
    return f"event: {name}\ndata: {data}\n\n".encode()


def shown(parts: Iterable[str]) -> bytes:
    """Parts of a page, which take the place of those with the same ids."""
    # At all that may end a line, lest what a customer wrote becomes a field of the stream.
    lines = "\n".join(parts).splitlines()
    return "".join([*(f"data: {line}\n" for line in lines), "\n"]).encode() if lines else b""
