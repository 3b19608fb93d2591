"""A FastStream broker as every app uses it: typed events in and out, one recovery policy, bounded work."""

import asyncio
from typing import cast

from faststream.message import StreamMessage
from faststream.rabbit import Channel, RabbitBroker
from faststream.rabbit.prometheus import RabbitPrometheusMiddleware
from faststream.rabbit.subscriber.usecase import RabbitSubscriber
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from apps.kit.envelope import EnvelopeMiddleware, open_envelope
from apps.kit.recovery import RecoveryMiddleware
from apps.kit.settings import get_settings
from apps.kit.topology import declare, event_of
from contracts import Event

_TURNS_UNTIL_HANDLED = 20


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

        super().__init__(
            rabbitmq_url or settings.rabbitmq_url.get_secret_value(),
            app_id=f"orderflow.{app}",
            # A worker that starts before RabbitMQ waits for it.
            fail_fast=False,
            reconnect_interval=1.0,
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
        """Connect, declare what is shared, then start consuming."""
        await self.connect()
        await declare(self)
        await super().start()

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
