"""A customer's system that receives webhooks: a real HTTP server whose answers a test chooses."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ssl import SSLContext
from typing import Any

import orjson
from conftest import eventually

NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
HANG = b""
"""No answer at all, for as long as the caller waits."""


def answer(status: int, body: str = "", **headers: str) -> bytes:
    """An answer as it goes over the wire."""
    fields = {"Content-Length": str(len(body.encode()))} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} As Told\r\n{lines}\r\n{body}".encode()


@dataclass(frozen=True)
class Received:
    """One request."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float

    @property
    def content(self) -> Any:
        return orjson.loads(self.body)


@dataclass
class Receiver:
    """Answers 204, or what the test has put in line before that."""

    url: str = ""
    answers: list[bytes] = field(default_factory=list)
    always: bytes = NO_CONTENT
    requests: list[Received] = field(default_factory=list)
    _open: set[StreamWriter] = field(default_factory=set)

    async def received(self, count: int, deadline_seconds: float = 30) -> list[Received]:
        """The requests, once there are so many."""

        async def enough() -> bool:
            return len(self.requests) >= count

        await eventually(enough, f"{count} requests, {len(self.requests)} came", deadline_seconds)
        return self.requests

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Take one request."""
        self._open.add(writer)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            start, *lines = head.strip().split("\r\n")
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
            }
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            self.requests.append(
                Received(start.split(" ")[1], headers, body, asyncio.get_running_loop().time())
            )
            reply = self.answers.pop(0) if self.answers else self.always
            if reply == HANG:
                await reader.read()  # ends when the caller gives up
            writer.write(reply)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    def close(self) -> None:
        for writer in list(self._open):
            writer.close()


@asynccontextmanager
async def receiving(always: bytes = NO_CONTENT, tls: SSLContext | None = None) -> AsyncIterator[Receiver]:
    """A receiver on a port of its own."""
    receiver = Receiver(always=always)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=tls)
    receiver.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    try:
        yield receiver
    finally:
        server.close()
        receiver.close()
