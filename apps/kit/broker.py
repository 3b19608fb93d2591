"""A FastStream broker as every app uses it: typed events in and out, one recovery policy, bounded work."""

import asyncio
import math
import time
from contextlib import suppress
from datetime import datetime
from typing import Any, cast

import aio_pika
import pamqp.decode
from aio_pika import RobustConnection
from aio_pika.exceptions import AMQPError
from faststream.rabbit import Channel, RabbitBroker, RabbitExchange
from faststream.rabbit.response import RabbitPublishCommand
from faststream.rabbit.subscriber.usecase import RabbitSubscriber
from faststream.response.publish_type import PublishType
from structlog.stdlib import get_logger
from yarl import URL

from apps.kit.acknowledgements import Acknowledgements
from apps.kit.broker_metrics import BrokerMetrics
from apps.kit.errors import DependencyUnavailable
from apps.kit.injection import injecting
from apps.kit.producer import Producer
from apps.kit.recovery import begin_counting
from apps.kit.settings import get_settings
from apps.kit.subscriber import EventSubscriber
from apps.kit.suspects import Suspects
from apps.kit.topology import ARCHIVED_QUEUES, EVENTS, declare, event_of
from apps.kit.tracing.messages import published
from apps.kit.upkeep import keep_bound
from apps.kit.waiting import Waiting
from contracts import Event
from contracts.envelope import envelope

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
        self.waiting = Waiting()
        self.suspects = Suspects()
        self.metrics = BrokerMetrics(app)
        self.acknowledgements = Acknowledgements()
        self._upkeep: asyncio.Task[None] | None = None

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
            logger=None,
            # What the AsyncAPI document shows instead of the real address and its password.
            specification_url="amqp://localhost:5672",
            description="RabbitMQ",
            apply_types=False,  # instead of it:
        )
        self.config.broker_config.fd_config.call_decorators = (injecting(self),)
        self._sender = Producer()
        self.config.broker_config.producer = self._sender

    def subscriber(self, *arguments: Any, **options: Any) -> RabbitSubscriber:
        """As FastStream's; what is delivered goes the way of `EventSubscriber`."""
        subscriber = super().subscriber(*arguments, **options)
        if event_of(subscriber.queue) is not None or subscriber.queue in ARCHIVED_QUEUES:
            subscriber.__class__ = EventSubscriber
        return subscriber

    async def announce(self, event: Event) -> None:
        """Publish an event under the routing key of its class; raises as `send` does."""
        await self.send(
            aio_pika.Message(**envelope(event), app_id=f"orderflow.{self.app}"), EVENTS, event.topic
        )

    async def send(self, message: aio_pika.Message, exchange: RabbitExchange, routing_key: str) -> None:
        """Publish a message and wait for the confirm.

        Raises:
            RabbitUnavailable: RabbitMQ is away, has blocked its publishers, or did not confirm in time.
            aio_pika.exceptions.AMQPError: it refused or returned the message.
        """
        command = RabbitPublishCommand(
            message, exchange=exchange, routing_key=routing_key, _publish_type=PublishType.PUBLISH
        )
        with published(message, exchange, routing_key), self.metrics.publishing(exchange, routing_key):
            await self.config.broker_config.producer.publish(command)

    async def start(self) -> None:
        """Connect, declare what is shared, then consume; tries again until all of it has succeeded."""
        for consumer in self.consumers:
            begin_counting(consumer.queue)
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
        # What is acknowledged meanwhile would have RabbitMQ assign as much again, only to take it back.
        with suppress(TimeoutError), self.acknowledgements.held():
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
