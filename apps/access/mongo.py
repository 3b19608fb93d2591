"""Keys and the audit log in MongoDB: of a key only its digest, of an action never its body."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from odmantic import Field, Model
from pydantic import AwareDatetime
from pymongo import DESCENDING, IndexModel

from apps.access.domain import digest_of, prefix_of
from apps.kit.access import Scope
from apps.kit.clock import utc_now
from apps.kit.mongo import Database, parsed
from apps.kit.paging import Position

_NEWEST_FIRST = [("at", DESCENDING), ("_id", DESCENDING)]


class ApiKey(Model):
    """One key, under its prefix."""

    id: str = Field(primary_field=True)
    name: str
    """What it is for, in its owner's words."""
    digest: str
    scopes: list[Scope]
    client: str | None = None
    """The client whose orders only it sees; None sees all."""
    created_at: AwareDatetime
    expires_at: AwareDatetime | None = None
    revoked_at: AwareDatetime | None = None
    last_used_at: AwareDatetime | None = None
    """To the minute."""

    model_config = {"collection": "keys"}


class AuditEntry(Model):
    """One management action: who asked for what, and how it was answered."""

    id: UUID = Field(primary_field=True)
    at: AwareDatetime
    caller: str
    action: str
    """Method, path and query, or the command."""
    request_id: str
    status: int | None = None
    """HTTP status of the answer; None if the process died before it, or MongoDB failed."""

    model_config = {
        "collection": "audit",
        "indexes": lambda: [IndexModel(_NEWEST_FIRST, name="newest")],
    }


DOCUMENTS = (ApiKey, AuditEntry)


class MongoKeys:
    """Every key that was ever made."""

    def __init__(self, database: Database) -> None:
        self._keys = database.collection(ApiKey)

    async def put(
        self,
        key: str,
        *,
        name: str,
        scopes: Sequence[Scope],
        client: str | None = None,
        expires_at: datetime | None = None,
    ) -> None:
        """Store what is to be known of a key; of one that is there already only its rights change.

        Raises:
            ValueError: it is no key.
            DuplicateKeyError: another key has the same prefix.
        """
        prefix = prefix_of(key)
        if prefix is None:
            raise ValueError("no key is of this form")
        rights = {"name": name, "scopes": list(scopes), "client": client, "expires_at": expires_at}
        await self._keys.update_one(
            {"_id": prefix, "digest": digest_of(key)},
            {"$set": rights, "$setOnInsert": {"created_at": utc_now()}},
            upsert=True,
        )

    async def find(self, prefix: str) -> ApiKey | None:
        document = await self._keys.find_one({"_id": prefix})
        return parsed(ApiKey, document)

    async def list(self) -> Sequence[ApiKey]:
        """All keys, the newest first."""
        found = self._keys.find().sort("created_at", DESCENDING)
        return [ApiKey.model_validate_doc(document) async for document in found]

    async def revoke(self, prefix: str) -> bool:
        """Make a key worthless for ever; returns whether there is such a key."""
        changed = await self._keys.update_one(
            {"_id": prefix}, [{"$set": {"revoked_at": {"$ifNull": ["$revoked_at", utc_now()]}}}]
        )
        return changed.matched_count > 0

    async def mark_used(self, prefix: str, at: datetime) -> None:
        await self._keys.update_one({"_id": prefix}, {"$max": {"last_used_at": at}})


class MongoAuditLog:
    """Every management action."""

    def __init__(self, database: Database) -> None:
        self._entries = database.collection(AuditEntry)
        self._keys = database.collection(ApiKey)

    async def begin(self, entry: AuditEntry) -> None:
        """Write down an action that is about to be taken."""
        await self._entries.insert_one(entry.model_dump_doc())

    async def end(self, entry: AuditEntry, status: int) -> None:
        """Write down how it was answered."""
        await self._entries.update_one({"_id": entry.id}, {"$set": {"status": status}})

    async def newest(self, limit: int, after: Position | None = None) -> Sequence[AuditEntry]:
        """Newest first, from just behind `after`."""
        query: dict[str, Any] = {}
        if after is not None:
            query = {"$or": [{"at": {"$lt": after.at}}, {"at": after.at, "_id": {"$lt": after.id}}]}
        found = self._entries.find(query).sort(_NEWEST_FIRST).limit(limit)
        return [AuditEntry.model_validate_doc(document) async for document in found]

    async def names(self, callers: Iterable[str]) -> Mapping[str, str]:
        """What the keys among these callers are for, as far as they are still stored."""
        found = self._keys.find({"_id": {"$in": list(set(callers))}}, {"name": 1})
        return {document["_id"]: document["name"] async for document in found}
