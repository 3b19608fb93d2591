"""Dead letters as operators see them: found, counted, grouped, and changed only as they were read."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from pymongo import ASCENDING, DESCENDING, ReturnDocument

from apps.kit.clock import utc_now
from apps.kit.mongo import Database, parsed
from apps.kit.paging import Position
from apps.kit.readings import LONGEST_READING_MS, MOST_COUNTED
from apps.kit.settings import get_settings
from apps.recovery.application import Group, LetterFilter, Origin
from apps.recovery.domain import OPEN_STATES, Source, State
from apps.recovery.mongo import KEPT_HISTORY, NEWEST_FIRST, BodyPart, DeadLetter, history_entry

_GROUPS_BY = {"largest": ("count", "last_seen_at"), "newest": ("last_seen_at", "count")}
_HOUR_MS = 3_600_000


class MongoLetters:
    """The archive over MongoDB from the operator's side: every repair is a compare-and-set."""

    def __init__(self, database: Database) -> None:
        self._letters = database.collection(DeadLetter)
        self._parts = database.collection(BodyPart)

    async def find(self, letter_id: UUID) -> DeadLetter | None:
        document = await self._letters.find_one({"_id": letter_id})
        return parsed(DeadLetter, document)

    async def body_of(self, letter: DeadLetter) -> bytes:
        """The whole body, also if it is kept in parts."""
        if letter.body is not None:
            return letter.body
        parts = self._parts.find({"letter_id": letter.id}).sort("_id", ASCENDING)
        return b"".join([part["bytes"] async for part in parts])

    async def list(self, wanted: LetterFilter, after: Position | None, limit: int) -> Sequence[DeadLetter]:
        """Newest first, from just behind `after`; without their bodies."""
        query = _query(wanted, after)
        found = self._letters.find(query, {"body": 0}).sort(NEWEST_FIRST).limit(limit)
        return [DeadLetter.model_validate_doc({"body": None, **document}) async for document in found]

    async def count(self, wanted: LetterFilter, after: Position | None) -> int:
        return await self._letters.count_documents(_query(wanted, after))

    async def count_open(self) -> int:
        """How many wait for an operator, counted up to a limit."""
        is_open = {"state": {"$in": [state.value for state in OPEN_STATES]}}
        return await self._letters.count_documents(is_open, limit=MOST_COUNTED, maxTimeMS=LONGEST_READING_MS)

    async def groups(
        self, wanted: LetterFilter, limit: int, *, first: Literal["largest", "newest"] = "largest"
    ) -> Sequence[Group]:
        """Letters that look alike, the largest or the newest group first, its newest letter as its sample."""
        facts = ("queue", "event_type", "error_type", "reason")
        pipeline: list[Mapping[str, Any]] = [
            {"$match": _query(wanted, None)},
            {"$project": dict.fromkeys((*facts, "fingerprint", "opened_at"), 1)},
            {"$sort": dict(NEWEST_FIRST)},
            {
                "$group": {
                    "_id": "$fingerprint",
                    "count": {"$sum": 1},
                    "first_seen_at": {"$min": "$opened_at"},
                    "last_seen_at": {"$max": "$opened_at"},
                    "sample_id": {"$first": "$_id"},
                    **{name: {"$first": f"${name}"} for name in facts},
                }
            },
            {"$sort": {**dict.fromkeys(_GROUPS_BY[first], DESCENDING), "_id": ASCENDING}},
            {"$limit": limit},
        ]
        return [
            Group(fingerprint=document.pop("_id"), **document)
            async for document in await self._letters.aggregate(pipeline, allowDiskUse=True)
        ]

    async def trend(
        self, wanted: LetterFilter, fingerprints: Sequence[str], since: datetime, hours: int
    ) -> Mapping[str, Sequence[int]]:
        """How many letters of each group died last in each hour since then."""
        hour = {"$floor": {"$divide": [{"$subtract": ["$opened_at", since]}, _HOUR_MS]}}
        pipeline: list[Mapping[str, Any]] = [
            {"$match": {**_query(wanted, None), "opened_at": {"$gte": since}}},
            {"$group": {"_id": {"group": "$fingerprint", "hour": hour}, "count": {"$sum": 1}}},
        ]
        counts = {fingerprint: [0] * hours for fingerprint in fingerprints}
        async for document in await self._letters.aggregate(pipeline):
            key = document["_id"]
            if key["group"] in counts:
                counts[key["group"]][min(int(key["hour"]), hours - 1)] += document["count"]
        return counts

    async def origins(self, wanted: LetterFilter, limit: int) -> Sequence[tuple[Origin, int]]:
        """Where letters were found, and how many in each place, the most first."""
        place = {name: f"${name}" for name in Origin._fields} | {
            # What a queue gave up goes back there, whatever it is.
            "event_type": {"$cond": [{"$eq": ["$source", Source.UNROUTED]}, "$event_type", None]}
        }
        pipeline: list[Mapping[str, Any]] = [
            {"$match": _query(wanted, None)},
            {"$group": {"_id": place, "count": {"$sum": 1}}},
            {"$sort": {"count": DESCENDING, "_id": ASCENDING}},
            {"$limit": limit},
        ]
        found = await self._letters.aggregate(pipeline, allowDiskUse=True)
        return [
            (Origin(*map(document["_id"].get, Origin._fields)), document["count"]) async for document in found
        ]

    async def begin_replay(self, letter: DeadLetter, actor: str, detail: str) -> DeadLetter | None:
        """Take a letter for its next replay; None if it has changed since it was read."""
        return await self._change(
            letter,
            {
                "$set": {"state": State.REPLAYING, "closed_at": None, "expires_at": None},
                "$inc": {"replays": 1},
                **_noted("replayed", actor, detail),
            },
        )

    async def take_back(self, letter: DeadLetter, actor: str, detail: str) -> None:
        """A replay that certainly did not arrive leaves its letter open."""
        await self._change(letter, {"$set": {"state": State.OPEN}, **_noted("not replayed", actor, detail)})

    async def finish_replay(self, letter: DeadLetter) -> None:
        """The replay arrived, and the ends of the deaths before it are announced."""
        await self._change(letter, {"$set": _closed(State.REPLAYED)})
        # Also if the replay has died meanwhile, and the letter is open again.
        ended = [occurrence["replay"] for occurrence in letter.occurrences]
        await self._letters.update_one(
            {"_id": letter.id}, {"$pull": {"occurrences": {"replay": {"$in": ended}}}}
        )

    async def discard(self, letter: DeadLetter, actor: str, reason: str) -> bool:
        """Close a letter for good; False if it has changed since it was read."""
        update = {
            "$set": {**_closed(State.DISCARDED), "occurrences": []},
            **_noted("discarded", actor, reason),
        }
        return await self._change(letter, update) is not None

    async def _change(self, letter: DeadLetter, update: Mapping[str, Any]) -> DeadLetter | None:
        """Change a letter that is still as it was read: state and number of replays say so."""
        document = await self._letters.find_one_and_update(
            {"_id": letter.id, "state": letter.state, "replays": letter.replays},
            update,
            return_document=ReturnDocument.AFTER,
        )
        return parsed(DeadLetter, document)


def _query(wanted: LetterFilter, after: Position | None) -> dict[str, Any]:
    query: dict[str, Any] = {name: value for name, value in wanted.exact.items() if value is not None}
    if wanted.states is not None:
        query["state"] = {"$in": list(wanted.states)}
    if after is not None:
        query["$or"] = [
            {"opened_at": {"$lt": after.at}},
            {"opened_at": after.at, "_id": {"$lt": after.id}},
        ]
    return query


def _closed(state: State) -> dict[str, Any]:
    now = utc_now()
    retention = timedelta(days=get_settings().dead_letter_retention_days)
    return {"state": state, "closed_at": now, "expires_at": now + retention}


def _noted(action: str, actor: str, detail: str) -> dict[str, Any]:
    entry = history_entry(action, utc_now(), actor, detail)
    return {"$push": {"history": {"$each": [entry], "$slice": -KEPT_HISTORY}}}
