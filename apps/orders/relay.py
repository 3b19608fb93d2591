"""The relay: every accepted order is published in the end, however long RabbitMQ was away."""

import asyncio
from datetime import timedelta

from pymongo.errors import PyMongoError
from structlog.stdlib import get_logger

from apps.kit.broker import EventBroker
from apps.kit.publishing import PublishFailed, publish
from apps.orders.mongo import MongoOrderBook
from contracts import OrderCreated

_LEASE = timedelta(seconds=10)
"""How long a claimed order is left to its claimer: longer than a publish may take."""
_POLL_SECONDS = 1.0

log = get_logger()


class Relay:
    """Publishes accepted orders: each at once, and those for which that failed until it succeeds."""

    def __init__(self, orders: MongoOrderBook, broker: EventBroker) -> None:
        self._orders = orders
        self._broker = broker

    async def announce(self, event: OrderCreated) -> None:
        """Publish a fresh order; should it fail, the order is due for `run` a few seconds later."""
        try:
            await self._publish(event)
        except (PublishFailed, PyMongoError) as error:
            log.warning("order waits for RabbitMQ", order_id=str(event.order_id), error=type(error).__name__)

    async def run(self) -> None:
        """Publish what is due, oldest first, for as long as the process lives."""
        while True:
            try:
                while await self._broker.ping(timeout=1) and (
                    event := await self._orders.claim_unpublished(_LEASE)
                ):
                    await self._publish(event)
                    log.info("order published late", order_id=str(event.order_id))
            except (PublishFailed, PyMongoError) as error:
                log.warning("relay waits", error=type(error).__name__)
            except Exception:  # a relay that ended would leave orders behind, and nobody would know
                log.exception("relay failed")
            await asyncio.sleep(_POLL_SECONDS)

    async def _publish(self, event: OrderCreated) -> None:
        await publish(self._broker, event)
        await self._orders.mark_published(event.order_id)
