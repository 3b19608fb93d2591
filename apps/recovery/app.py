"""Recovery: whatever ends among the dead letters, or was wanted by no queue, is kept for an operator."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any

from faststream import Context
from faststream.rabbit import Channel
from faststream.rabbit.annotations import RabbitMessage
from pymongo.errors import PyMongoError
from structlog.stdlib import get_logger

from apps.kit.broker import EventBroker
from apps.kit.metrics import DEAD_LETTERS
from apps.kit.mongo import open_database
from apps.kit.topology import DEAD, DEAD_QUEUE, UNROUTED, UNROUTED_QUEUE, outcome
from apps.kit.worker import worker
from apps.recovery import application, messages
from apps.recovery.domain import Death
from apps.recovery.mongo import DOCUMENTS, MongoArchive
from contracts import DeadLetterOpened

Archive = Annotated[application.Archive, Context("archive")]

_SWEEP_SECONDS = 3600.0
_FOUND = {
    "DeliveryLimitExceeded": ("dead", "crash-loop"),
    "DeadLettered": ("dead", "unknown"),
    "Unknown": ("dead", "unknown"),
    "Unrouted": ("unrouted", "unrouted"),
}
"""Queue and reason, for the metrics, of what no worker gave up, by its type of error."""

log = get_logger()


@asynccontextmanager
async def adapters() -> AsyncIterator[Mapping[str, Any]]:
    async with open_database("recovery", *DOCUMENTS) as database:
        for queue, cause in _FOUND.values():  # as 0: Prometheus sees no increase in what begins at 1
            DEAD_LETTERS.labels(queue, cause)
        archive = MongoArchive(database)
        sweeper = asyncio.create_task(_sweep(archive))
        yield {"database": database, "archive": archive}
        sweeper.cancel()
        with suppress(asyncio.CancelledError):
            await sweeper


broker = EventBroker("recovery")
app = worker(broker, "Archives what could not be handled, and what no queue wanted.", adapters)
few = Channel(prefetch_count=10, on_return_raises=True)
"""Dead letters may be as large as messages get, and those in work are all in memory."""

# One publisher for both handlers: two of the same event would share a name in the AsyncAPI document.
opened = broker.publisher(**outcome(DeadLetterOpened))


@opened
@broker.subscriber(DEAD_QUEUE, DEAD, channel=few)
async def on_dead_letter(body: bytes, message: RabbitMessage, archive: Archive) -> DeadLetterOpened | None:  # noqa: ARG001
    """Keep a message that could not be handled, with the reason that its headers give."""
    return await _keep(messages.dead(message.raw_message), archive)


@opened
@broker.subscriber(UNROUTED_QUEUE, UNROUTED, channel=few)
async def on_unrouted(body: bytes, message: RabbitMessage, archive: Archive) -> DeadLetterOpened | None:  # noqa: ARG001
    """Keep a message that no queue was bound for."""
    return await _keep(messages.unrouted(message.raw_message), archive)


async def _keep(death: Death, archive: application.Archive) -> DeadLetterOpened | None:
    event = await application.keep(death, archive)
    # What a worker gave up, it has counted itself.
    if found := _FOUND.get(death.error_type):
        DEAD_LETTERS.labels(*found).inc()
    return event


async def _sweep(archive: MongoArchive) -> None:
    """Delete what expired letters leave behind, every hour."""
    while True:
        try:
            if swept := await archive.sweep():
                log.info("swept", parts=swept)
        except PyMongoError as error:
            log.warning("could not sweep", error=type(error).__name__)
        await asyncio.sleep(_SWEEP_SECONDS)
