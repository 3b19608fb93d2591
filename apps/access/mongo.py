"""Keys and the audit log in MongoDB: of a key only its digest, of an action never its body."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from odmantic import AIOEngine, Field, Model
from pydantic import AwareDatetime
from pymongo import DESCENDING, IndexModel

from apps.access.domain import digest_of, prefix_of
from apps.kit.access import Scope
from apps.kit.clock import utc_now


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
    """Method and path, or the command."""
    request_id: str
    status: int | None = None
    """HTTP status of the answer; None if the process died before it, or MongoDB failed."""

    model_config = {
        "collection": "audit",
        "indexes": lambda: [IndexModel([("at", DESCENDING), ("_id", DESCENDING)], name="newest")],
    }


DOCUMENTS = (ApiKey, AuditEntry)


class MongoKeys:
    """Every key that was ever made."""

    def __init__(self, engine: AIOEngine) -> None:
        self._engine = engine
        self._keys = engine.get_collection(ApiKey)

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
        return await self._engine.find_one(ApiKey, ApiKey.id == prefix)

    async def list(self) -> Sequence[ApiKey]:
        """All keys, the newest first."""
        return await self._engine.find(ApiKey, sort=ApiKey.created_at.desc())  # type: ignore[attr-defined]

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

    def __init__(self, engine: AIOEngine) -> None:
        self._engine = engine
        self._entries = engine.get_collection(AuditEntry)

    async def begin(self, entry: AuditEntry) -> None:
        """Write down an action that is about to be taken."""
        await self._entries.insert_one(entry.model_dump_doc())

    async def end(self, entry: AuditEntry, status: int) -> None:
        """Write down how it was answered."""
        await self._entries.update_one({"_id": entry.id}, {"$set": {"status": status}})

    async def newest(self, limit: int) -> Sequence[AuditEntry]:
        return await self._engine.find(AuditEntry, sort=AuditEntry.at.desc(), limit=limit)  # type: ignore[attr-defined]
