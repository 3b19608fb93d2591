"""The relay: every accepted order and cancellation is published, however long RabbitMQ was away."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from pymongo.errors import PyMongoError
from structlog.stdlib import get_logger

from apps.kit.broker import EventBroker
from apps.kit.publishing import PublishFailed, publish
from apps.kit.settings import get_settings
from apps.orders.application import Announcement
from apps.orders.mongo import MongoOrderBook

_AT_ONCE = 50
"""Events of a kind claimed and published together: 7 times as many per second as one at a time."""
_POLL_SECONDS = 1.0

log = get_logger()


class Relay:
    """Publishes what was accepted: each at once, and that for which it failed until it succeeds."""

    def __init__(self, orders: MongoOrderBook, broker: EventBroker) -> None:
        self._orders = orders
        self._broker = broker
        # For so long claimed events are left to their claimer: longer than it takes to publish them.
        self._lease = timedelta(seconds=2 * get_settings().publish_timeout_seconds)

    async def announce(self, event: Announcement) -> None:
        """Publish a fresh event; should it fail, the event is due for `run` a few seconds later."""
        try:
            await self.publish(event)
        except (PublishFailed, PyMongoError) as error:
            log.warning(
                "event waits for RabbitMQ",
                event_type=event.topic,
                order_id=str(event.order_id),
                error=type(error).__name__,
            )

    async def publish(self, event: Announcement) -> None:
        """Publish an event, for the first time or again, and note that RabbitMQ has it.

        Raises:
            PublishFailed: whether RabbitMQ has it is not known.
        """
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
        results = await asyncio.gather(*map(self.publish, due), return_exceptions=True)
        for event, result in zip(due, results, strict=True):
            if result is None:
                log.info("event published late", event_type=event.topic, order_id=str(event.order_id))
        for result in results:
            if result is not None:
                raise result
