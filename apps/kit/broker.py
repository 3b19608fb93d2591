"""A FastStream broker as every app uses it: typed events in and out, one recovery policy, bounded work."""

import asyncio
import math
import time
from contextlib import suppress
from datetime import datetime
from typing import Any, cast

import pamqp.decode
from aio_pika import RobustConnection
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
from apps.kit.producer import Producer
from apps.kit.recovery import RecoveryMiddleware
from apps.kit.settings import get_settings
from apps.kit.suspects import Suspects
from apps.kit.topology import declare, event_of
from apps.kit.upkeep import keep_bound
from apps.kit.waiting import Waiting
from contracts import Event

AMQP_PORT = 5672
_RECONNECT_SECONDS = 1.0
_CONNECT_TIMEOUT_SECONDS = 10.0
_CANCEL_TIMEOUT_SECONDS = 5.0
_TURNS_UNTIL_HANDLED = 20
_TIMESTAMP_BYTES = 8

log = get_logger()


def _tolerant_timestamp(value: bytes) -> tuple[int, datetime | None]:
    """A `timestamp` property that is no time, as when a publisher sends nanoseconds, counts as absent."""
    try:
        return pamqp.decode.timestamp(value)
    except (ValueError, OverflowError, OSError):
        return _TIMESTAMP_BYTES, None


# As it is, one such message ends the connection, and with it every handler, at each redelivery.
pamqp.decode.METHODS["timestamp"] = _tolerant_timestamp


class EventBroker(RabbitBroker):
    """A broker whose subscribers receive events and whose publishers send them."""

    def __init__(self, app: str, rabbitmq_url: str | None = None) -> None:
        settings = get_settings()
        self.app = app
        self.registry = CollectorRegistry()
        """Metrics of this process, served at `/metrics`."""
        self.waiting = Waiting()
        self.suspects = Suspects()
        self._upkeep: asyncio.Task[None] | None = None
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

        async def decode(message: StreamMessage) -> Event | bytes:  # type: ignore[type-arg]
            expected = event_of(self.context.get_local("handler_").queue)
            return message.body if expected is None else open_envelope(message, expected)

        url = URL(rabbitmq_url or settings.rabbitmq_url.get_secret_value())
        self._address = f"{url.host}:{url.port or AMQP_PORT}"
        super().__init__(
            str(url),
            app_id=f"orderflow.{app}",
            # `start` waits for RabbitMQ by itself: aio-pika's own first connect cannot be cancelled.
            fail_fast=True,
            timeout=_CONNECT_TIMEOUT_SECONDS,
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
        self._sender = Producer()
        self.config.broker_config.producer = self._sender

    async def start(self) -> None:
        """Connect, declare what is shared, then consume; tries again until all of it has succeeded."""
        while True:
            await self.connect_within(math.inf)
            try:
                await self.start_once()
            except (AMQPError, OSError, RuntimeError) as error:
                log.error("could not start consuming", error=str(error) or type(error).__name__)  # noqa: TRY400
                await self.stop()
                await asyncio.sleep(_RECONNECT_SECONDS)
            else:
                self.waiting.begin()
                if self.consumers:
                    self._upkeep = asyncio.create_task(keep_bound(self))
                return

    async def start_once(self) -> None:
        """Declare what is shared, then consume, over the connection that is there.

        Raises:
            aio_pika.exceptions.AMQPError: RabbitMQ refuses something, or went away.
        """
        await declare(self._sender.declarer, self.config.declarer)
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

    async def _connect(self) -> RobustConnection:
        await self._sender.open(**self._connection_kwargs)
        try:
            return await super()._connect()
        except BaseException:
            await self._sender.close()
            raise

    async def stop(self, *exception: Any) -> None:
        """Finish what runs, within the drain timeout, and close both connections."""
        self.waiting.end()
        if self._upkeep is not None:
            self._upkeep.cancel()
            self._upkeep = None
        await super().stop(*exception)
        await self._sender.close()

    async def ping(self, timeout: float | None) -> bool:  # noqa: ASYNC109  # as FastStream has it
        """Whether both connections are there."""
        return await super().ping(timeout) and self._sender.is_connected

    @property
    def consumers(self) -> list[RabbitSubscriber]:
        return cast("list[RabbitSubscriber]", self.subscribers)

    async def stop_consuming(self) -> None:
        """Cancel the consumers; left to itself, FastStream goes on taking messages only to put them back."""
        self.waiting.end()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CANCEL_TIMEOUT_SECONDS):
                for consumer in self.consumers:
                    tag, queue = consumer._consumer_tag, consumer._queue_obj  # noqa: SLF001
                    # With RabbitMQ away there is nothing to cancel, and a cancel would wait for its return.
                    if tag is not None and queue is not None and not queue.channel.is_closed:
                        await queue.cancel(tag)
                        consumer._consumer_tag = None  # noqa: SLF001
        # What was delivered before the cancel still has to become a running handler, or it would be put
        # back as if it had failed: that takes a few turns of the loop.
        for _ in range(_TURNS_UNTIL_HANDLED):
            await asyncio.sleep(0)
