"""Invoices and credit notes in MongoDB: a group takes its numbers in the very transaction that stores it."""

from collections.abc import Mapping, Sequence
from typing import Any, cast
from uuid import UUID

from pymongo import ReturnDocument, UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession

from apps.billing.document import Invoice, NoInvoice, Series, document_of, issued_in, voided_in
from apps.billing.domain import Draft, credit_note_series, series, voided
from apps.kit.batching import GroupCommit
from apps.kit.clock import utc_now
from apps.kit.mongo import Database, in_transaction
from contracts import InvoiceIssued, InvoiceVoided, OrderCancelled


class MongoInvoiceBook:
    """The invoice book over MongoDB: concurrent orders share one counter update and one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._series = database.collection(Series)
        self._invoices = database.collection(Invoice)
        self._drafts = GroupCommit("invoices", self._issue_group)
        self._cancellations = GroupCommit("credit-notes", self._void_group)

    async def issue(self, draft: Draft) -> InvoiceIssued | None:
        return await self._drafts.add(draft)

    async def void(self, cancellation: OrderCancelled) -> InvoiceVoided | None:
        return await self._cancellations.add(cancellation)

    async def _issue_group(self, drafts: Sequence[Draft]) -> Sequence[InvoiceIssued | None]:
        # A dictionary, since one group may hold the same order twice.
        by_order = {draft.order.order_id: draft for draft in drafts}

        async def issue_all(session: AsyncClientSession) -> dict[UUID, InvoiceIssued | None]:
            return await self._issue(by_order, session)

        async def issue_missing(session: AsyncClientSession) -> dict[UUID, InvoiceIssued | None]:
            known = await self._known(list(by_order), session)
            missing = {order_id: draft for order_id, draft in by_order.items() if order_id not in known}
            issued = {order_id: issued_in(document) for order_id, document in known.items()}
            return issued | (await self._issue(missing, session) if missing else {})

        # As a rule no order of a group has an invoice yet; if one has, its id is refused.
        invoices = await in_transaction(self._database, issue_all, careful=issue_missing)
        return [invoices[draft.order.order_id] for draft in drafts]

    async def _issue(
        self, drafts: Mapping[UUID, Draft], session: AsyncClientSession
    ) -> dict[UUID, InvoiceIssued | None]:
        """Store an invoice for each order, under the next numbers."""
        now = utc_now()
        first = await self._take_numbers(series(now), len(drafts), session)
        new: dict[UUID, InvoiceIssued | None] = {}
        documents = []
        for number, (order_id, draft) in enumerate(drafts.items(), start=first):
            new[order_id] = invoice = draft.issue(number, now)
            documents.append(document_of(invoice).model_dump_doc())
        await self._invoices.insert_many(documents, session=session)
        return new

    async def _void_group(self, cancellations: Sequence[OrderCancelled]) -> Sequence[InvoiceVoided | None]:
        first_of = {one.order_id: one for one in reversed(cancellations)}

        async def work(session: AsyncClientSession) -> dict[UUID, InvoiceVoided | None]:
            known = await self._known(list(first_of), session)
            if ahead := first_of.keys() - known.keys():
                # In the place of the invoice, so that it cannot be issued at the same time.
                await self._invoices.insert_many(
                    [NoInvoice(id=order_id).model_dump_doc() for order_id in sorted(ahead)], session=session
                )
            notes = {order_id: voided_in(document) for order_id, document in known.items()}
            to_void = {
                order_id: invoice
                for order_id, document in known.items()
                if notes[order_id] is None and (invoice := issued_in(document)) is not None
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

        notes = await in_transaction(self._database, work)
        return [notes.get(cancellation.order_id) for cancellation in cancellations]

    async def _known(
        self, order_ids: Sequence[UUID], session: AsyncClientSession
    ) -> dict[UUID, dict[str, Any]]:
        found = self._invoices.find({"_id": {"$in": order_ids}}, session=session)
        return {document["_id"]: document async for document in found}

    async def _take_numbers(self, name: str, count: int, session: AsyncClientSession) -> int:
        """The first of so many numbers in a row, which are taken once the transaction commits."""
        counter = await self._series.find_one_and_update(
            {"_id": name},
            {"$inc": {"last_number": count}},
            upsert=True,
            return_document=ReturnDocument.AFTER,
            session=session,
        )
        return cast("dict[str, int]", counter)["last_number"] - count + 1


def _voiding(note: InvoiceVoided) -> UpdateOne:
    marks = {"credit_note_number": note.credit_note_number, "voided": note.model_dump(mode="json")}
    return UpdateOne({"_id": note.order_id}, {"$set": marks})
