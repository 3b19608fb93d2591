"""Invoices in MongoDB: a group takes its numbers in the very transaction that stores it."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

from motor.motor_asyncio import AsyncIOMotorClientSession
from odmantic import AIOEngine, Field, Model
from pydantic import AwareDatetime
from pymongo import ReturnDocument

from apps.billing.domain import Draft, series
from apps.kit.batching import GroupCommit
from apps.kit.clock import utc_now
from apps.kit.mongo import in_transaction
from contracts import InvoiceIssued


class Series(Model):
    """The last number given out in one year; its id is the year."""

    model_config = {"collection": "series"}

    id: str = Field(primary_field=True)
    last_number: int


class Invoice(Model):
    """An invoice under its order's id: fields to look it up by, and the event as it is published again."""

    model_config = {"collection": "invoices"}

    id: UUID = Field(primary_field=True)
    number: str = Field(unique=True)
    customer_id: str = Field(index=True)
    currency: str
    total: Decimal
    issued_at: AwareDatetime
    event: dict[str, Any]


DOCUMENTS = (Series, Invoice)


class MongoInvoiceBook:
    """The invoice book over MongoDB: concurrent orders share one counter update and one transaction."""

    def __init__(self, engine: AIOEngine) -> None:
        self._engine = engine
        self._series = engine.get_collection(Series)
        self._invoices = engine.get_collection(Invoice)
        self._drafts = GroupCommit(self._issue_group)

    async def issue(self, draft: Draft) -> InvoiceIssued:
        return await self._drafts.add(draft)

    async def _issue_group(self, drafts: Sequence[Draft]) -> Sequence[InvoiceIssued]:
        async def work(session: AsyncIOMotorClientSession) -> dict[UUID, InvoiceIssued]:
            issued = {
                document["_id"]: InvoiceIssued.model_validate(document["event"])
                async for document in self._invoices.find(
                    {"_id": {"$in": [draft.order.order_id for draft in drafts]}}, session=session
                )
            }
            # A dictionary, since one group may hold the same order twice.
            fresh = {draft.order.order_id: draft for draft in drafts if draft.order.order_id not in issued}
            if not fresh:
                return issued
            now = utc_now()
            counter = await self._series.find_one_and_update(
                {"_id": series(now)},
                {"$inc": {"last_number": len(fresh)}},
                upsert=True,
                return_document=ReturnDocument.AFTER,
                session=session,
            )
            first = counter["last_number"] - len(fresh) + 1
            new = {
                order_id: draft.issue(number, now)
                for number, (order_id, draft) in enumerate(fresh.items(), start=first)
            }
            await self._invoices.insert_many(
                [_document(invoice).model_dump_doc() for invoice in new.values()], session=session
            )
            return issued | new

        invoices = await in_transaction(self._engine, work)
        return [invoices[draft.order.order_id] for draft in drafts]


def _document(invoice: InvoiceIssued) -> Invoice:
    return Invoice(
        id=invoice.order_id,
        number=invoice.number,
        customer_id=invoice.customer.id,
        currency=invoice.currency,
        total=invoice.total,
        issued_at=invoice.issued_at,
        event=invoice.model_dump(mode="json"),
    )
