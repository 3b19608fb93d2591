"""A TCP proxy that can be told to delay, to swallow all packets, or to cut every connection."""

import asyncio
from contextlib import suppress
from typing import Self

from apps.cli.local.ports import LOOPBACK, free_port


class Proxy:
    """Stands in front of a service on loopback; the connections themselves notice only what it does to them.

    While it swallows, connections stay open and new ones are taken, and nothing comes through in either
    direction. TCP cannot have a hole in its bytes, so those that lost some are cut when it passes again.
    """

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self._target_port = target_port
        self._delay_seconds = 0.0
        self._swallows = False
        self._refuses = False
        self._lost: set[asyncio.Task[None]] = set()
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, LOOPBACK, self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._end(self._connections)

    def delay(self, seconds: float) -> None:
        """Hold every chunk back for that long, from now on."""
        self._delay_seconds = seconds

    def swallow(self) -> None:
        """Let nothing through any more, and tell nobody."""
        self._swallows = True

    async def cut(self) -> None:
        """Reset all connections, and each new one at once."""
        self._refuses = True
        await self._end(self._connections)

    async def heal(self) -> None:
        """Let everything through at once again."""
        self._delay_seconds, self._swallows, self._refuses = 0.0, False, False
        await self._end(self._lost)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            if not self._refuses:
                await self._connect(task, reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # either side is gone, or it was cut
        finally:
            self._connections.discard(task)
            self._lost.discard(task)
            writer.transport.abort()

    async def _connect(
        self, task: asyncio.Task[None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        target_reader, target_writer = await asyncio.open_connection(LOOPBACK, self._target_port)
        pumps = {
            asyncio.create_task(self._pump(task, reader, target_writer)),
            asyncio.create_task(self._pump(task, target_reader, writer)),
        }
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            target_writer.transport.abort()

    async def _pump(
        self, task: asyncio.Task[None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError):
            while chunk := await reader.read(1 << 16):
                if self._delay_seconds:
                    await asyncio.sleep(self._delay_seconds)
                if self._swallows:
                    self._lost.add(task)
                    continue
                writer.write(chunk)
                await writer.drain()

    async def _end(self, connections: set[asyncio.Task[None]]) -> None:
        ending = list(connections)
        for connection in ending:
            connection.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
