"""A FastStream broker as every app uses it: typed events in and out, one recovery policy, bounded work."""

import asyncio
import math
import time
from typing import cast

from aio_pika.exceptions import AMQPError
from faststream.message import StreamMessage
from faststream.rabbit import Channel, RabbitBroker
from faststream.rabbit.prometheus import RabbitPrometheusMiddleware
from faststream.rabbit.subscriber.usecase import RabbitSubscriber
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from structlog.stdlib import get_logger
from yarl import URL

from apps.kit.envelope import EnvelopeMiddleware, open_envelope
from apps.kit.errors import DependencyUnavailable
from apps.kit.recovery import RecoveryMiddleware
from apps.kit.settings import get_settings
from apps.kit.topology import declare, event_of
from contracts import Event

AMQP_PORT = 5672
_RECONNECT_SECONDS = 1.0
_TURNS_UNTIL_HANDLED = 20

log = get_logger()


class EventBroker(RabbitBroker):
    """A broker whose subscribers receive events and whose publishers send them."""

    def __init__(self, app: str, rabbitmq_url: str | None = None) -> None:
        settings = get_settings()
        self.app = app
        self.registry = CollectorRegistry()
        """Metrics of this process, served at `/metrics`."""
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

        async def decode(message: StreamMessage) -> Event:  # type: ignore[type-arg]
            return open_envelope(message, event_of(self.context.get_local("handler_").queue))

        url = URL(rabbitmq_url or settings.rabbitmq_url.get_secret_value())
        self._address = f"{url.host}:{url.port or AMQP_PORT}"
        super().__init__(
            str(url),
            app_id=f"orderflow.{app}",
            # `start` waits for RabbitMQ by itself: aio-pika's own first connect cannot be cancelled.
            fail_fast=True,
            reconnect_interval=_RECONNECT_SECONDS,
            graceful_timeout=settings.drain_timeout_seconds,
            default_channel=Channel(prefetch_count=settings.prefetch, on_return_raises=True),
            decoder=decode,
            middlewares=[
                RabbitPrometheusMiddleware(registry=self.registry, app_name=app),
                RecoveryMiddleware,
                EnvelopeMiddleware,
            ],
            logger=None,
            # What the AsyncAPI document shows instead of the real address and its password.
            specification_url="amqp://localhost:5672",
            description="RabbitMQ",
        )

    async def start(self) -> None:
        """Connect, declare what is shared, then start consuming; RabbitMQ may come up later than we do."""
        await self.connect_within(math.inf)
        await declare(self)
        await super().start()

    async def connect_within(self, timeout_seconds: float) -> None:
        """Connect, again and again until RabbitMQ is there.

        Raises:
            DependencyUnavailable: it was not, in the given time.
        """
        give_up_at = time.monotonic() + timeout_seconds
        while True:
            try:
                await self.connect()
            except (AMQPError, OSError) as error:
                if time.monotonic() >= give_up_at:
                    reason = str(error) or type(error).__name__
                    raise DependencyUnavailable(
                        f"RabbitMQ at {self._address} is out of reach: {reason}"
                    ) from None
                log.warning("waiting for RabbitMQ", error=type(error).__name__)
                await asyncio.sleep(_RECONNECT_SECONDS)
            else:
                return

    @property
    def consumers(self) -> list[RabbitSubscriber]:
        return cast("list[RabbitSubscriber]", self.subscribers)

    async def stop_consuming(self) -> None:
        """Cancel the consumers; left to itself, FastStream goes on taking messages only to put them back."""
        for consumer in self.consumers:
            if consumer._consumer_tag is not None and consumer._queue_obj is not None:  # noqa: SLF001
                await consumer._queue_obj.cancel(consumer._consumer_tag)  # noqa: SLF001
                consumer._consumer_tag = None  # noqa: SLF001
        # What was delivered before the cancel still has to become a running handler, or it would be put
        # back as if it had failed: that takes a few turns of the loop.
        for _ in range(_TURNS_UNTIL_HANDLED):
            await asyncio.sleep(0)
