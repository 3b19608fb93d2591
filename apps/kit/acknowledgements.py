"""Acknowledging many messages with one frame: those that are done by the time that RabbitMQ can be told."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from aio_pika import IncomingMessage
from aiormq.abc import AbstractChannel


class Acknowledgements:
    """Acknowledges the messages of a process, channel by channel.

    On each channel deliveries are numbered. Where all up to a number are done, one frame says so; a message
    that is done before an earlier one does not wait for it, and has a frame of its own.
    """

    def __init__(self) -> None:
        self._channels: WeakKeyDictionary[AbstractChannel, _Channel] = WeakKeyDictionary()
        self._may_leave = asyncio.Event()
        self._may_leave.set()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let nothing leave meanwhile: each frame makes room, which RabbitMQ fills at once."""
        self._may_leave.clear()
        try:
            yield
        finally:
            self._may_leave.set()

    async def ack(self, message: IncomingMessage) -> None:
        """Return once the message is acknowledged, with others that are done meanwhile.

        Raises:
            aio_pika.exceptions.AMQPError: the channel is gone; RabbitMQ delivers the message again.
        """
        if message.delivery_tag is None:  # of the broker in memory
            await message.ack()
        else:
            await self._channel(message).ack(message.delivery_tag)

    async def nack(self, message: IncomingMessage) -> None:
        """Give the message back to its queue; raises as `ack` does."""
        await message.nack()
        if message.delivery_tag is not None:
            self._channel(message).settle(message.delivery_tag)

    def _channel(self, message: IncomingMessage) -> "_Channel":
        channel = message.channel
        if (known := self._channels.get(channel)) is None:
            known = self._channels[channel] = _Channel(channel, self._may_leave)
        return known


class _Channel:
    def __init__(self, channel: AbstractChannel, may_leave: asyncio.Event) -> None:
        self._channel = channel
        self._may_leave = may_leave
        self._settled_up_to = 0
        """The delivery up to which all are acknowledged, or given back."""
        self._settled_beyond: set[int] = set()
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._telling: asyncio.Task[None] | None = None

    async def ack(self, tag: int) -> None:
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((tag, told))
        if self._telling is None:
            self._telling = asyncio.create_task(self._tell_all())
        await told

    def settle(self, tag: int) -> None:
        """Count one more delivery as settled."""
        self._settled_beyond.add(tag)
        while self._settled_up_to + 1 in self._settled_beyond:
            self._settled_up_to += 1
            self._settled_beyond.remove(self._settled_up_to)

    async def _tell_all(self) -> None:
        """Tell of all that are done, in one go after the other: a number must not be told twice."""
        while self._waiting:
            await self._may_leave.wait()
            group, self._waiting = self._waiting, []
            try:
                await self._tell([tag for tag, _ in group])
            except Exception as error:  # noqa: BLE001  # it belongs to whoever waits
                for _, told in group:
                    if not told.done():
                        told.set_exception(error)
            else:
                for _, told in group:
                    if not told.done():
                        told.set_result(None)
        self._telling = None

    async def _tell(self, tags: Sequence[int]) -> None:
        before = self._settled_up_to
        for tag in tags:
            self.settle(tag)
        together = [tag for tag in tags if before < tag <= self._settled_up_to]
        alone = [tag for tag in tags if tag > self._settled_up_to]
        if together:
            # What lies in between was settled before.
            await self._channel.basic_ack(max(together), multiple=len(together) > 1)
        for tag in alone:
            await self._channel.basic_ack(tag)
