"""Invoices and credit notes in MongoDB: a group takes its numbers in the very transaction that stores it."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from motor.motor_asyncio import AsyncIOMotorClientSession
from odmantic import AIOEngine
from pymongo import ReturnDocument, UpdateOne

from apps.billing.document import Invoice, NoInvoice, Series, document_of
from apps.billing.domain import Draft, credit_note_series, series, voided
from apps.kit.batching import GroupCommit
from apps.kit.clock import utc_now
from apps.kit.mongo import in_transaction
from contracts import InvoiceIssued, InvoiceVoided, OrderCancelled


class MongoInvoiceBook:
    """The invoice book over MongoDB: concurrent orders share one counter update and one transaction."""

    def __init__(self, engine: AIOEngine) -> None:
        self._engine = engine
        self._series = engine.get_collection(Series)
        self._invoices = engine.get_collection(Invoice)
        self._drafts = GroupCommit(self._issue_group)
        self._cancellations = GroupCommit(self._void_group)

    async def issue(self, draft: Draft) -> InvoiceIssued | None:
        return await self._drafts.add(draft)

    async def void(self, cancellation: OrderCancelled) -> InvoiceVoided | None:
        return await self._cancellations.add(cancellation)

    async def _issue_group(self, drafts: Sequence[Draft]) -> Sequence[InvoiceIssued | None]:
        async def work(session: AsyncIOMotorClientSession) -> dict[UUID, InvoiceIssued | None]:
            known = await self._known([draft.order.order_id for draft in drafts], session)
            issued = {order_id: _issued(document) for order_id, document in known.items()}
            # A dictionary, since one group may hold the same order twice.
            fresh = {draft.order.order_id: draft for draft in drafts if draft.order.order_id not in known}
            if not fresh:
                return issued
            now = utc_now()
            first = await self._take_numbers(series(now), len(fresh), session)
            new = {
                order_id: draft.issue(number, now)
                for number, (order_id, draft) in enumerate(fresh.items(), start=first)
            }
            await self._invoices.insert_many(
                [document_of(invoice).model_dump_doc() for invoice in new.values()], session=session
            )
            return issued | new

        invoices = await in_transaction(self._engine, work)
        return [invoices[draft.order.order_id] for draft in drafts]

    async def _void_group(self, cancellations: Sequence[OrderCancelled]) -> Sequence[InvoiceVoided | None]:
        first_of = {one.order_id: one for one in reversed(cancellations)}

        async def work(session: AsyncIOMotorClientSession) -> dict[UUID, InvoiceVoided | None]:
            known = await self._known(list(first_of), session)
            if ahead := first_of.keys() - known.keys():
                # In the place of the invoice, so that it cannot be issued at the same time.
                await self._invoices.insert_many(
                    [NoInvoice(id=order_id).model_dump_doc() for order_id in sorted(ahead)], session=session
                )
            notes = {order_id: _voided(document) for order_id, document in known.items()}
            to_void = {
                order_id: invoice
                for order_id, document in known.items()
                if notes[order_id] is None and (invoice := _issued(document)) is not None
            }
            if not to_void:
                return notes
            now = utc_now()
            first = await self._take_numbers(credit_note_series(now), len(to_void), session)
            new = {
                order_id: voided(invoice, first_of[order_id], number, now)
                for number, (order_id, invoice) in enumerate(to_void.items(), start=first)
            }
            await self._invoices.bulk_write([_voiding(note) for note in new.values()], session=session)
            return notes | new

        notes = await in_transaction(self._engine, work)
        return [notes.get(cancellation.order_id) for cancellation in cancellations]

    async def _known(
        self, order_ids: Sequence[UUID], session: AsyncIOMotorClientSession
    ) -> dict[UUID, dict[str, Any]]:
        found = self._invoices.find({"_id": {"$in": order_ids}}, session=session)
        return {document["_id"]: document async for document in found}

    async def _take_numbers(self, name: str, count: int, session: AsyncIOMotorClientSession) -> int:
        """The first of so many numbers in a row, which are taken once the transaction commits."""
        counter = await self._series.find_one_and_update(
            {"_id": name},
            {"$inc": {"last_number": count}},
            upsert=True,
            return_document=ReturnDocument.AFTER,
            session=session,
        )
        last: int = counter["last_number"]
        return last - count + 1


def _issued(document: dict[str, Any]) -> InvoiceIssued | None:
    event = document.get("event")
    return event and InvoiceIssued.model_validate(event)


def _voided(document: dict[str, Any]) -> InvoiceVoided | None:
    event = document.get("voided")
    return event and InvoiceVoided.model_validate(event)


def _voiding(note: InvoiceVoided) -> UpdateOne:
    marks = {"credit_note_number": note.credit_note_number, "voided": note.model_dump(mode="json")}
    return UpdateOne({"_id": note.order_id}, {"$set": marks})
