"""Recovery: whatever ends among the dead letters, or was wanted by no queue, is kept for an operator."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any

from faststream import Context
from faststream.rabbit import Channel
from faststream.rabbit.annotations import RabbitMessage
from prometheus_client import Counter
from pymongo.errors import PyMongoError
from structlog.stdlib import get_logger

from apps.kit.broker import EventBroker
from apps.kit.mongo import open_database
from apps.kit.topology import DEAD, DEAD_QUEUE, UNROUTED, UNROUTED_QUEUE, outcome
from apps.kit.worker import worker
from apps.recovery import application, messages
from apps.recovery.domain import Death
from apps.recovery.mongo import DOCUMENTS, MongoArchive
from contracts import DeadLetterOpened

Archive = Annotated[application.Archive, Context("archive")]

_SWEEP_SECONDS = 3600.0

log = get_logger()


@asynccontextmanager
async def adapters() -> AsyncIterator[Mapping[str, Any]]:
    async with open_database("recovery", *DOCUMENTS) as engine:
        archive = MongoArchive(engine)
        sweeper = asyncio.create_task(_sweep(archive))
        yield {"database": engine, "archive": archive}
        sweeper.cancel()
        with suppress(asyncio.CancelledError):
            await sweeper


broker = EventBroker("recovery")
app = worker(broker, "Archives what could not be handled, and what no queue wanted.", adapters)
deaths = Counter(
    "orderflow_dead_letters",
    "Dead letters archived, repeats included.",
    ["source", "queue", "error_type"],
    registry=broker.registry,
)
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
    deaths.labels(death.source, death.queue or "", death.error_type).inc()
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
