"""The catalogue in MongoDB: one entry per order and kind, and no number in two of them."""

from datetime import datetime
from hashlib import sha256
from uuid import UUID

from odmantic import Field, Model
from pydantic import AwareDatetime
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from apps.documents.domain import Kind, Paper
from apps.kit.clock import utc_now
from apps.kit.errors import PermanentError
from apps.kit.mongo import Database, parsed


class Entry(Model):
    """A document under its order and kind; `sha256` and what follows once it is stored."""

    model_config = {"collection": "documents"}

    id: str = Field(primary_field=True)
    order_id: UUID
    kind: Kind
    number: str = Field(unique=True)
    path: str
    issued_at: AwareDatetime
    sha256: str | None = None
    size: int | None = None
    rendered_at: datetime | None = None


DOCUMENTS = (Entry,)


class NumberTakenError(PermanentError):
    """A document never takes the place of another one."""

    def __init__(self, paper: Paper) -> None:
        super().__init__(
            f"number: {paper.number} is taken, or order {paper.order_id} has another {paper.kind}"
        )


class MongoCatalogue:
    """Entries by order and kind; claimed before the store is touched, so that nothing is stored over."""

    def __init__(self, database: Database) -> None:
        self._entries = database.collection(Entry)

    async def claim(self, paper: Paper) -> bool:
        entry = Entry(
            id=_key(paper.order_id, paper.kind),
            order_id=paper.order_id,
            kind=paper.kind,
            number=paper.number,
            path=paper.path,
            issued_at=paper.issued_at,
        )
        claim = {"$setOnInsert": entry.model_dump_doc()}
        try:
            document = await self._entries.find_one_and_update(
                {"_id": entry.id}, claim, upsert=True, return_document=ReturnDocument.AFTER
            )
        except DuplicateKeyError:
            # Another process has claimed it meanwhile, or another order has the number.
            document = await self._entries.find_one({"_id": entry.id, "number": paper.number})
        if document is None or document["number"] != paper.number:
            raise NumberTakenError(paper)
        return document["sha256"] is None

    async def stored(self, paper: Paper, content: bytes) -> None:
        facts = {"sha256": sha256(content).hexdigest(), "size": len(content), "rendered_at": utc_now()}
        await self._entries.update_one({"_id": _key(paper.order_id, paper.kind)}, {"$set": facts})

    async def find(self, order_id: UUID, kind: Kind) -> Entry | None:
        """The entry of a document that is stored."""
        document = await self._entries.find_one({"_id": _key(order_id, kind), "sha256": {"$ne": None}})
        return parsed(Entry, document)


def _key(order_id: UUID, kind: Kind) -> str:
    return f"{order_id}/{kind}"
