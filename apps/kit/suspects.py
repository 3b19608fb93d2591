"""Messages that may have killed their worker run one by one: the innocent must not die with the guilty."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aio_pika import IncomingMessage

_REDELIVERIES = 2
_LONGEST_PAUSE_SECONDS = 0.5


class Suspects:
    """Messages of one process that came back unanswered more than once.

    When a message kills its worker, all that were in work beside it come back with it, each time, until
    RabbitMQ gives all of them up together. One by one and in random order, every run lets some of them
    through before the guilty one has its turn.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def turn(self, message: IncomingMessage) -> AsyncIterator[None]:
        """Wait for the message's turn, if it is a suspect."""
        redeliveries = message.headers.get("x-delivery-count", 0)
        if not isinstance(redeliveries, int) or redeliveries < _REDELIVERIES:
            yield
            return
        await asyncio.sleep(random.uniform(0, _LONGEST_PAUSE_SECONDS))  # noqa: S311  # an order, no secret
        async with self._turn:
            yield
