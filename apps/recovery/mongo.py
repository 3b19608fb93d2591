"""Dead letters in MongoDB: one document for a message that died, with each death and each repair of it."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from odmantic import Field, Model
from pydantic import AwareDatetime
from pymongo import ASCENDING, DESCENDING, IndexModel, UpdateOne
from pymongo.errors import BulkWriteError

from apps.kit.batching import GroupCommit
from apps.kit.clock import utc_now
from apps.kit.mongo import Database, is_duplicate_key
from apps.recovery.domain import Death, State

_PART_BYTES = 8 * 1024 * 1024
"""A document holds up to 16 MiB; a larger body is kept in parts."""
_LONGEST_ARCHIVING = timedelta(hours=1)
KEPT_HISTORY = 100
NEWEST_FIRST = [("opened_at", DESCENDING), ("_id", DESCENDING)]


class DeadLetter(Model):
    """A message that could not be handled, or that no queue wanted, and what became of it since."""

    id: UUID = Field(primary_field=True)
    state: str
    source: str
    queue: str | None = None
    event_type: str | None = None
    message_id: str | None = None
    correlation_id: str | None = None
    order_id: UUID | None = None
    app_id: str | None = None
    type: str | None = None
    content_type: str | None = None
    content_encoding: str | None = None
    published_at: AwareDatetime | None = None
    headers: bytes
    """An AMQP field table, in which every type and key survives."""
    body: bytes | None = None
    """None if it is kept in parts."""
    body_bytes: int

    error_type: str
    reason: str
    handler: str | None = None
    traceback: str | None = None
    attempts: int | None = None
    first_failed_at: AwareDatetime | None = None
    last_failed_at: AwareDatetime | None = None
    trace_id: str | None = None
    fingerprint: str

    replays: int
    """How often it was sent again; the number of the latest replay."""
    occurrences: list[dict[str, Any]]
    """Its deaths whose end is not announced yet: the replay that died, and when that was archived."""
    opened_at: AwareDatetime
    closed_at: AwareDatetime | None = None
    expires_at: AwareDatetime | None = None
    history: list[dict[str, Any]] = []
    """What was done with it, when and by whom."""

    model_config = {
        "collection": "dead_letters",
        "indexes": lambda: [
            IndexModel(NEWEST_FIRST, name="newest"),
            IndexModel([("state", ASCENDING), *NEWEST_FIRST], name="by_state"),
            IndexModel([("fingerprint", ASCENDING), ("state", ASCENDING), *NEWEST_FIRST], name="by_group"),
            IndexModel([("order_id", ASCENDING), *NEWEST_FIRST], name="by_order"),
            IndexModel([("expires_at", ASCENDING)], name="expiry", expireAfterSeconds=0),
        ],
    }


class BodyPart(Model):
    """A piece of a body that is too large for one document; ids sort as the pieces do."""

    model_config = {"collection": "body_parts"}

    id: str = Field(primary_field=True)
    letter_id: UUID = Field(index=True)
    bytes: bytes
    stored_at: AwareDatetime


DOCUMENTS = (DeadLetter, BodyPart)


class MongoArchive:
    """What the worker writes: concurrent deaths share one write, and a repeat changes nothing."""

    def __init__(self, database: Database) -> None:
        self._letters = database.collection(DeadLetter)
        self._parts = database.collection(BodyPart)
        self._deaths = GroupCommit("dead-letters", self._keep_group)

    async def keep(self, death: Death) -> datetime | None:
        """Store a death; returns when it was first stored, or None if its end is announced already.

        A repeat changes nothing. The death of a replay opens its letter again, but only while that replay is
        the latest thing that happened to it: what an operator did since stands.
        """
        if len(death.body) > _PART_BYTES:
            await self._keep_parts(death)
        return await self._deaths.add(death)

    async def sweep(self) -> int:
        """Delete the parts of bodies whose letter has expired; returns how many."""
        settled = {"stored_at": {"$lt": utc_now() - _LONGEST_ARCHIVING}}
        owners = await self._parts.distinct("letter_id", settled)
        kept = await self._letters.distinct("_id", {"_id": {"$in": owners}})
        lost = list(set(owners) - set(kept))
        deleted = await self._parts.delete_many({"letter_id": {"$in": lost}, **settled})
        return deleted.deleted_count

    async def _keep_group(self, deaths: Sequence[Death]) -> Sequence[datetime | None]:
        now = utc_now()
        writes = [write for death in deaths for write in (_first_death(death, now), _next_death(death, now))]
        try:
            await self._letters.bulk_write(writes, ordered=False)
        except BulkWriteError as error:
            # Another process stored the same letter first; now it is there.
            if not is_duplicate_key(error):
                raise
            await self._letters.bulk_write(writes, ordered=False)
        ids = [death.letter_id for death in deaths]
        stored = {
            (document["_id"], occurrence["replay"]): occurrence["at"]
            async for document in self._letters.find({"_id": {"$in": ids}}, {"occurrences": 1})
            for occurrence in document["occurrences"]
        }
        return [stored.get((death.letter_id, death.replay)) for death in deaths]

    async def _keep_parts(self, death: Death) -> None:
        for start in range(0, len(death.body), _PART_BYTES):
            part = {
                "letter_id": death.letter_id,
                "bytes": death.body[start : start + _PART_BYTES],
                "stored_at": utc_now(),
            }
            key = f"{death.letter_id}/{start:012}"
            await self._parts.replace_one({"_id": key}, part, upsert=True)


def _first_death(death: Death, now: datetime) -> UpdateOne:
    """Store the letter, unless it is there."""
    letter = DeadLetter(
        id=death.letter_id,
        source=death.source,
        queue=death.queue,
        event_type=death.event_type,
        message_id=death.message_id,
        correlation_id=death.correlation_id,
        order_id=death.order_id,
        app_id=death.app_id,
        type=death.type,
        content_type=death.content_type,
        content_encoding=death.content_encoding,
        published_at=death.published_at,
        body=death.body if len(death.body) <= _PART_BYTES else None,
        body_bytes=len(death.body),
        # The original may have expired when a late replay of it dies.
        replays=death.replay,
        occurrences=[_occurrence(death, now)],
        history=[history_entry("opened", now, "recovery", death.reason)],
        **_failure(death, now),
    )
    return UpdateOne({"_id": letter.id}, {"$setOnInsert": letter.model_dump_doc()}, upsert=True)


def _next_death(death: Death, now: datetime) -> UpdateOne:
    """Open the letter again if it is its latest replay that died."""
    sent = {"$in": [State.REPLAYING, State.REPLAYED]}
    return UpdateOne(
        {"_id": death.letter_id, "state": sent, "replays": death.replay},
        {
            "$set": {**_failure(death, now), "closed_at": None, "expires_at": None},
            "$push": {
                "occurrences": _occurrence(death, now),
                "history": {
                    "$each": [history_entry("died again", now, "recovery", death.reason)],
                    "$slice": -KEPT_HISTORY,
                },
            },
        },
    )


def _failure(death: Death, now: datetime) -> dict[str, Any]:
    """What differs from one death of a letter to the next."""
    return {
        "state": State.OPEN,
        "opened_at": now,
        "headers": death.headers,
        "error_type": death.error_type,
        "reason": death.reason,
        "handler": death.handler,
        "traceback": death.traceback,
        "attempts": death.attempts,
        "first_failed_at": death.first_failed_at,
        "last_failed_at": death.last_failed_at,
        "trace_id": death.trace_id,
        "fingerprint": death.fingerprint,
    }


def _occurrence(death: Death, now: datetime) -> dict[str, Any]:
    return {"replay": death.replay, "at": now}


def history_entry(action: str, at: datetime, actor: str, detail: str) -> dict[str, Any]:
    return {"at": at, "action": action, "actor": actor, "detail": detail}
