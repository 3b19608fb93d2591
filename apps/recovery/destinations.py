"""Where a dead letter goes when it is replayed, and what is in the way; asked without sending anything."""

from dataclasses import dataclass

from faststream.rabbit import RabbitExchange

from apps.kit.topology import EVENTS, REPLAY
from apps.recovery.application import Origin
from apps.recovery.consumers import Consumers
from apps.recovery.domain import Source
from apps.recovery.mongo import DeadLetter


@dataclass(frozen=True, kw_only=True)
class Destination:
    """Where letters of one origin lead, and nowhere else."""

    exchange: RabbitExchange
    routing_key: str
    consumers: int | None = None
    """How many take them there; None where only RabbitMQ knows which queues that are, or if there is none."""
    obstacle: str | None = None
    """Why nothing is sent there now."""
    may_be_forced: bool = False

    def refusal(self, *, force: bool) -> str | None:
        """Why a replay is refused; None if it is not."""
        return None if force and self.may_be_forced else self.obstacle


def origin_of(letter: DeadLetter) -> Origin:
    return Origin(letter.source, letter.queue, letter.event_type)


async def destination_of(origin: Origin, consumers: Consumers) -> Destination:
    """Find out where letters of an origin would go now.

    Raises:
        apps.kit.errors.DependencyUnavailable: RabbitMQ does not answer.
    """
    if origin.source == Source.UNROUTED:
        # If still no queue is bound, the alternate exchange brings it back, and it is open again.
        return Destination(exchange=EVENTS, routing_key=origin.event_type or "")
    if origin.queue is None:
        obstacle = "it does not say which queue it came from"
        return Destination(exchange=REPLAY, routing_key="", obstacle=obstacle)
    queue = origin.queue
    count = await consumers.of(queue)
    if count is None:
        return Destination(exchange=REPLAY, routing_key=queue, obstacle=f"there is no queue {queue}")
    nobody = f"nobody consumes {queue} now; forced, it would wait there"
    return Destination(
        exchange=REPLAY,
        routing_key=queue,
        consumers=count,
        obstacle=None if count else nobody,
        may_be_forced=not count,
    )
