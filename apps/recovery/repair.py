"""What an operator does about a dead letter: replay it to the queue it came from, or discard it."""

from typing import Literal
from uuid import UUID

from structlog.stdlib import get_logger

from apps.kit.broker import EventBroker
from apps.kit.clock import utc_now
from apps.kit.publishing import Undeliverable, publish, publish_message
from apps.recovery import messages
from apps.recovery.consumers import Consumers
from apps.recovery.destinations import destination_of, origin_of
from apps.recovery.domain import State, concerns_order, occurrence_id
from apps.recovery.letters import MongoLetters
from apps.recovery.mongo import DeadLetter
from contracts import DeadLetterClosed

log = get_logger()


_RACE = "somebody else has just acted on it: look at it again"


class RefusedError(Exception):
    """Something that is not to be done with a dead letter, and why."""


class UnknownLetterError(Exception):
    """No such dead letter is archived; it may have expired."""

    def __init__(self, letter_id: UUID) -> None:
        super().__init__(f"no dead letter {letter_id} is archived")


class Repair:
    """Replays and discards dead letters; each step is stored before the next, so a crash loses nothing."""

    def __init__(self, letters: MongoLetters, broker: EventBroker) -> None:
        self._letters = letters
        self._broker = broker

    def consumers(self) -> Consumers:
        """Who consumes what now; for one request, however many letters it is about."""
        return Consumers(self._broker)

    async def replay(self, letter_id: UUID, actor: str, consumers: Consumers, *, force: bool) -> None:
        """Send the original again to the queue it came from, or where its routing key leads if none took it.

        A worker knows what it has handled before, so a replay too many changes nothing.

        Raises:
            UnknownLetterError: it is not archived.
            RefusedError: it is closed or its queue has no consumer, unless forced; its queue is gone or not
                known; or somebody else acts on it.
            apps.kit.errors.DependencyUnavailable: RabbitMQ did not confirm; it stays open.
        """
        letter = await self._find(letter_id)
        if not force:
            _require_open(letter)
        destination = await destination_of(origin_of(letter), consumers)
        if refusal := destination.refusal(force=force):
            raise RefusedError(refusal)
        routing_key = destination.routing_key
        body = await self._letters.body_of(letter)
        detail = f"to {routing_key}, forced" if force else f"to {routing_key}"
        taken = await self._letters.begin_replay(letter, actor, detail)
        if taken is None:
            raise RefusedError(_RACE)
        try:
            message = messages.replay(taken, body)
            await publish_message(self._broker, message, destination.exchange, routing_key)
        except Undeliverable as error:
            await self._letters.take_back(taken, actor, str(error))
            raise RefusedError(f"nothing leads to the queue {routing_key}") from error
        await self._announce_ends(taken, "replayed")
        await self._letters.finish_replay(taken)
        log.info("dead letter replayed", dead_letter_id=str(letter_id), queue=letter.queue, actor=actor)

    async def discard(self, letter_id: UUID, actor: str, reason: str) -> None:
        """Close a letter for good, without sending it.

        Raises:
            UnknownLetterError: it is not archived.
            RefusedError: it is closed, or somebody else acts on it.
            apps.kit.errors.DependencyUnavailable: RabbitMQ did not confirm that its order is told.
        """
        letter = await self._find(letter_id)
        _require_open(letter)
        await self._announce_ends(letter, "discarded")
        if not await self._letters.discard(letter, actor, reason):
            raise RefusedError(_RACE)
        log.info("dead letter discarded", dead_letter_id=str(letter_id), queue=letter.queue, actor=actor)

    async def _find(self, letter_id: UUID) -> DeadLetter:
        letter = await self._letters.find(letter_id)
        if letter is None:
            raise UnknownLetterError(letter_id)
        return letter

    async def _announce_ends(self, letter: DeadLetter, resolution: Literal["replayed", "discarded"]) -> None:
        """Tell the order that each death of the letter has been dealt with."""
        if letter.order_id is None or not concerns_order(letter.order_id, letter.event_type):
            return
        for occurrence in letter.occurrences:
            ended = DeadLetterClosed(
                occurrence_id=occurrence_id(letter.id, occurrence["replay"]),
                dead_letter_id=letter.id,
                order_id=letter.order_id,
                resolution=resolution,
                closed_at=utc_now(),
            )
            await publish(self._broker, ended)


def why_closed(letter: DeadLetter) -> str | None:
    """What has been done about a letter; None while it waits for an operator."""
    if State(letter.state).is_open:
        return None
    return f"it is {letter.state} since {letter.closed_at:%Y-%m-%d %H:%M:%S} UTC"


def _require_open(letter: DeadLetter) -> None:
    if closed := why_closed(letter):
        raise RefusedError(closed)
