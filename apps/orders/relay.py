"""The relay: every accepted order and cancellation is published, however long RabbitMQ was away."""

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import datetime, timedelta

from pymongo.errors import PyMongoError
from structlog.stdlib import get_logger

from apps.kit.broker import EventBroker
from apps.kit.clock import utc_now
from apps.kit.publishing import PublishFailed, publish
from apps.kit.settings import get_settings
from apps.kit.tracing import continued
from apps.orders.application import Announcement
from apps.orders.mongo import MongoOrderBook

_AT_ONCE = 50
"""Events of a kind claimed and published together: 7 times as many per second as one at a time."""
_POLL_SECONDS = 1.0
UNCONFIRMED = 100
"""Fresh events that RabbitMQ may have in hand at a time; what comes meanwhile waits its turn."""

log = get_logger()


class Relay:
    """Publishes what was accepted: each at once, and that for which it failed until it succeeds."""

    def __init__(self, orders: MongoOrderBook, broker: EventBroker) -> None:
        self._orders = orders
        self._broker = broker
        # For so long claimed events are left to their claimer: longer than it takes to publish them.
        self._lease = timedelta(seconds=2 * get_settings().publish_timeout_seconds)
        self._unconfirmed = asyncio.Semaphore(UNCONFIRMED)
        self._announcing: set[asyncio.Task[None]] = set()

    def announce(self, event: Announcement, publish_at: datetime) -> None:
        """Publish a fresh event, and keep nobody waiting for it; should it fail, `run` will.

        Args:
            event: what was accepted just now.
            publish_at: from when on it is due for `run`: until then it is not published twice.
        """
        task = asyncio.create_task(self._announce(event, publish_at))
        self._announcing.add(task)  # else it may be collected before it is done
        task.add_done_callback(self._announcing.discard)

    async def announced(self) -> None:
        """Wait until every fresh event is published, or due for `run`."""
        await asyncio.gather(*self._announcing, return_exceptions=True)

    async def _announce(self, event: Announcement, publish_at: datetime) -> None:
        try:
            # However long it waits for its turn: once it is due for `run`, it is left to it.
            async with asyncio.timeout((publish_at - utc_now()).total_seconds()), self._unconfirmed:
                await self.publish(event)
        except (PublishFailed, PyMongoError, TimeoutError) as error:
            log.warning(
                "event waits for RabbitMQ",
                event_type=event.topic,
                order_id=str(event.order_id),
                error=type(error).__name__,
            )
        except Exception:  # `run` will publish it, and nobody waits for this task to hear of it
            log.exception("announcing failed", order_id=str(event.order_id))

    async def publish(self, event: Announcement, trace: dict[str, str] | None = None) -> None:
        """Publish an event, for the first time or again, and note that RabbitMQ has it.

        Args:
            event: what is published.
            trace: the headers of the trace in which it was accepted, if that is another than the present one.

        Raises:
            PublishFailed: whether RabbitMQ has it is not known.
        """
        with continued(trace) if trace else nullcontext():
            await publish(self._broker, event)
            await self._orders.mark_published(event)

    async def run(self) -> None:
        """Publish what is due, oldest first, for as long as the process lives."""
        while True:
            try:
                while await self._broker.ping(timeout=1) and (
                    due := await self._orders.claim_unpublished(self._lease, _AT_ONCE)
                ):
                    await self._publish_all(due)
            except (PublishFailed, PyMongoError) as error:
                log.warning("relay waits", error=type(error).__name__)
            except Exception:  # a relay that ended would leave orders behind, and nobody would know
                log.exception("relay failed")
            await asyncio.sleep(_POLL_SECONDS)

    async def _publish_all(self, due: Sequence[Announcement]) -> None:
        """Publish all that can be; then raise what the first failed with, if any did."""
        traces = await self._orders.traces_of(due)
        results = await asyncio.gather(*map(self.publish, due, traces), return_exceptions=True)
        for event, result in zip(due, results, strict=True):
            if result is None:
                log.info("event published late", event_type=event.topic, order_id=str(event.order_id))
        for result in results:
            if result is not None:
                raise result
