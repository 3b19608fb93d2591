"""What happens to one delivered message: handled, its outcome published, and only then acknowledged.

FastStream declares the topology and finds the handler; the way in between is ours, one straight line in the
place of its stack of middlewares, which took a third of the CPU time of every message.
"""

from typing import TYPE_CHECKING, Any

from aio_pika import IncomingMessage
from faststream.exceptions import NackMessage
from faststream.message import StreamMessage
from faststream.rabbit.subscriber.usecase import RabbitSubscriber
from faststream.response import Response, ensure_response
from structlog.stdlib import get_logger

from apps.kit.envelope import open_envelope
from apps.kit.logs import logged_with
from apps.kit.producer import RabbitUnavailable
from apps.kit.recovery import set_aside
from apps.kit.topology import ARCHIVED_QUEUES, event_of
from apps.kit.tracing.messages import handles, received
from apps.kit.waiting import OUT_OF_REACH
from contracts import Event

if TYPE_CHECKING:  # it imports this module
    from apps.kit.broker import EventBroker

log = get_logger()


class EventSubscriber(RabbitSubscriber):
    """A queue's consumer; a failure follows the one recovery policy, see `apps.kit.recovery`."""

    __slots__ = ()  # so that a subscriber which FastStream has made can become one

    async def process_message(self, msg: IncomingMessage) -> Response:
        """See a message through; FastStream calls it for each delivery, and so does its TestBroker."""
        broker: EventBroker = self._outer_config.extra_context["broker"]
        outcome = None
        with self.lock, received(msg, self.queue.name):  # a stop waits for whoever holds the lock
            message: StreamMessage[IncomingMessage] = await self._parser(msg)
            message.set_decoder(self._read)
            try:
                outcome = await self._handle(broker, message)
                if outcome is not None:
                    self._require_declared(outcome)
                    await broker.waiting.out(lambda: broker.announce(outcome), msg, (RabbitUnavailable,))
                is_done = True
            except NackMessage:
                is_done = False
            except Exception as error:  # noqa: BLE001  # whatever it was, the policy says what becomes of it
                is_done = await set_aside(broker, self, msg, error)
            settle = broker.acknowledgements.ack if is_done else broker.acknowledgements.nack
            await settle(msg)
        return ensure_response(outcome)

    async def _read(self, message: StreamMessage[IncomingMessage]) -> Event | bytes:
        expected = event_of(self.queue)
        return message.body if expected is None else open_envelope(message.raw_message, expected)

    async def _handle(self, broker: "EventBroker", message: StreamMessage[IncomingMessage]) -> Event | None:
        """Call the handler as often as it takes until nothing that it needs is out of reach."""
        raw = message.raw_message
        with broker.metrics.handling(self.queue.name, len(raw.body)):
            content = await message.decode()
            if isinstance(content, Event):
                handles(content)

            async def attempt() -> Any:
                async with broker.suspects.turn(raw):
                    if isinstance(content, Event):
                        return await self._call(message)
                    # Whoever takes any message also wants what surrounds it.
                    with broker.context.scope("message", message):
                        return await self._call(message)

            with logged_with(lambda: _about(content, message)):
                # What is in an archive's queue has no other place to go: whatever fails, it waits.
                out_of_reach = (Exception,) if self.queue in ARCHIVED_QUEUES else OUT_OF_REACH
                outcome: Event | None = await broker.waiting.out(attempt, raw, out_of_reach)
                log.debug("handled", outcome=outcome and outcome.topic)
                return outcome

    async def _call(self, message: StreamMessage[IncomingMessage]) -> Any:
        return await self.calls[0].call(message=message, _extra_middlewares=())

    def _require_declared(self, outcome: Event) -> None:
        publishers: Any = self.calls[0].handler._publishers  # noqa: SLF001
        if all(publisher.routing_key != outcome.topic for publisher in publishers):
            raise TypeError(f"{self.calls[0].name} returns {outcome.topic} and has no publisher for it")


def _about(content: Any, message: StreamMessage[IncomingMessage]) -> dict[str, str]:
    """What the log says of a message in all its lines."""
    if not isinstance(content, Event):  # a queue that takes any message
        return {"message_id": message.message_id}
    about = "order_id" if hasattr(content, "order_id") else content.identity_field
    return {
        "event_type": content.topic,
        "event_id": str(content.event_id),
        about: content.correlation_id,
    }
