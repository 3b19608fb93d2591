"""Publishing over a connection of its own: an alarm blocks publishers, and must not block consumers."""

import asyncio
from typing import Any, cast

import aio_pika
import aiormq
from aio_pika.abc import AbstractRobustConnection
from aio_pika.exceptions import AMQPConnectionError, ChannelInvalidStateError
from faststream.rabbit.helpers.channel_manager import ChannelManagerImpl
from faststream.rabbit.helpers.declarer import RabbitDeclarerImpl
from faststream.rabbit.parser import AioPikaParser
from faststream.rabbit.publisher.producer import AioPikaFastProducerImpl
from faststream.rabbit.response import RabbitPublishCommand
from faststream.rabbit.schemas import RabbitExchange

from apps.kit.errors import DependencyUnavailable
from apps.kit.settings import get_settings
from apps.kit.topology import PUBLISHING

# Messages that may wait to be written: with its 10, no more than these go out in one turn of the event loop.
aiormq.Connection.FRAME_BUFFER_SIZE = 1000


class RabbitUnavailable(DependencyUnavailable):
    """Not confirmed: the message may have arrived or not; repeated, its id makes it harmless."""

    dependency = "rabbitmq"


class Producer(AioPikaFastProducerImpl):
    """Sends what a broker publishes; every publish is confirmed within a deadline, or raises."""

    def __init__(self) -> None:
        self._channels = ChannelManagerImpl(PUBLISHING)
        self._connection: AbstractRobustConnection | None = None
        super().__init__(declarer=RabbitDeclarerImpl(self._channels), parser=None, decoder=None)

    @property
    def is_connected(self) -> bool:
        return self._connection is not None and self._connection.connected.is_set()

    async def open(self, **connection: Any) -> None:
        """Connect; takes the arguments of `aio_pika.connect_robust`."""
        self._connection = await aio_pika.connect_robust(**connection)
        self._channels.connect(self._connection)  # type: ignore[arg-type]

    async def close(self) -> None:
        """Close the connection; without one this does nothing."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None
            self._channels.disconnect()
            self.declarer.disconnect()

    async def publish(self, cmd: RabbitPublishCommand) -> Any:
        """Publish and wait for the confirm.

        Raises:
            RabbitUnavailable: RabbitMQ is away, has blocked its publishers, or did not confirm in time.
            aio_pika.exceptions.AMQPError: it refused or returned the message.
        """
        try:
            # aio-pika's own timeout does not cover a connection that RabbitMQ has blocked.
            async with asyncio.timeout(get_settings().publish_timeout_seconds):
                await self._unblocked()
                return await super().publish(cmd)
        except asyncio.CancelledError as error:
            # A connection that dies cancels what waits for its confirm; that is no wish to stop us.
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            raise RabbitUnavailable("the connection was lost") from error
        except TimeoutError as error:
            raise RabbitUnavailable("not confirmed in time") from error
        except (AMQPConnectionError, ChannelInvalidStateError, OSError) as error:
            raise RabbitUnavailable(str(error) or type(error).__name__) from error

    async def _publish(
        self,
        message: Any,
        *,
        exchange: RabbitExchange,
        routing_key: str,
        mandatory: bool = True,
        immediate: bool = False,
        timeout: Any = None,  # noqa: ASYNC109, ARG002  # `publish` has its own
        **options: Any,
    ) -> Any:
        """Hand the message to the connection at once, and wait only for its confirm.

        aio-pika's own publish keeps all others waiting until the connection has taken each message, which is
        several turns of the event loop: under load they pile up far behind what RabbitMQ could take.
        """
        sealed = await AioPikaParser.encode_message(
            message, serializer=self.serializer, codec=self.codec, id_generator=self.id_generator, **options
        )
        declared = await self.declarer.declare_exchange(exchange, declare=False)
        if declared.channel.is_closed:
            raise ChannelInvalidStateError("the channel is closed")
        channel = cast("aiormq.Channel", await declared.channel.get_underlay_channel())
        return await channel.basic_publish(
            sealed.body,
            exchange=declared.name,
            routing_key=routing_key,
            properties=sealed.properties,
            mandatory=mandatory,
            immediate=immediate,
            wait=False,
        )

    async def _unblocked(self) -> None:
        """Wait until RabbitMQ reads again: what is written meanwhile would all arrive later."""
        if self._connection is not None:
            await self._connection.ready()
            if (transport := self._connection.transport) is not None:
                await transport.connection.ready()
