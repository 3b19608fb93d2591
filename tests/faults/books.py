"""Reads all that a system has left in its stores and in RabbitMQ, as an auditor does: past the apps."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import UUID

import aio_pika

from tests.faults.system import DEAD_NOW, System
from tests.faults.wiretap import Heard

Document = dict[str, Any]


@dataclass(frozen=True)
class DeadLetter:
    """A message that some queue's consumer gave up."""

    message_id: str
    queue: str


@dataclass(frozen=True)
class Books:
    """Everything at one moment at which nothing moves."""

    orders: Mapping[UUID, Document]
    reservations: Mapping[UUID, Document]
    levels: Mapping[str, Document]
    adjustments: frozenset[UUID]
    invoices: Sequence[Document]
    never_invoiced: frozenset[UUID]
    """Orders that were cancelled before they had an invoice."""
    series: Mapping[str, int]
    """Last number given out, by year, `CN-<year>` for credit notes."""
    documents: frozenset[str]
    """Numbers of the invoices and credit notes that lie in the store of documents."""
    notifications: Sequence[Document]
    mails: Counter[str]
    """How often each Message-ID was taken by the mail server."""
    published: Sequence[Heard]
    dead: Counter[DeadLetter]
    unrouted: Counter[str]
    """Message ids that no queue wanted and nobody has replayed since."""
    queues: Mapping[str, int]
    bindings: frozenset[tuple[str, str]]
    """Queue and routing key of each binding to the events exchange."""

    @cached_property
    def invoiced(self) -> frozenset[UUID]:
        """Orders that have an invoice."""
        return frozenset(invoice["_id"] for invoice in self.invoices)

    @cached_property
    def voided(self) -> frozenset[UUID]:
        """Orders whose invoice a credit note cancels."""
        return frozenset(invoice["_id"] for invoice in self.invoices if invoice["voided"])

    @cached_property
    def told(self) -> frozenset[UUID]:
        """Ids of what customers were told."""
        return frozenset(entry["_id"] for entry in self.notifications)


async def read_books(system: System) -> Books:
    stock, billing = system.database("stock"), system.database("billing")
    return Books(
        orders=await _by_id(system.database("orders")["orders"]),
        reservations=await _by_id(stock["reservations"]),
        levels=await _by_id(stock["levels"]),
        adjustments=frozenset(await _by_id(stock["adjustments"])),
        invoices=await billing["invoices"].find({"event": {"$ne": None}}).to_list(None),
        never_invoiced=frozenset(
            [one["_id"] async for one in billing["invoices"].find({"event": None}, {"_id": 1})]
        ),
        series={year: one["last_number"] for year, one in (await _by_id(billing["series"])).items()},
        documents=frozenset(
            [
                one["number"]
                async for one in system.database("documents")["documents"].find({"sha256": {"$ne": None}})
            ]
        ),
        notifications=await system.database("notifications")["notifications"].find().to_list(None),
        mails=system.mails(),
        published=list(await system.wiretap.heard()),
        dead=await _waiting_dead_letters(system) + await _archived_dead_letters(system),
        unrouted=await _unrouted(system),
        queues=await system.queue_sizes(),
        bindings=frozenset(
            (one["destination"], one["routing_key"])
            for one in await system.management("bindings")
            if one["source"] == "events"
        ),
    )


async def _by_id(collection: Any) -> dict[Any, Document]:
    return {document["_id"]: document async for document in collection.find()}


async def _waiting_dead_letters(system: System) -> Counter[DeadLetter]:
    """Those in the queue `dead`, where they stay: they are put back when the channel closes."""
    found: Counter[DeadLetter] = Counter()
    async with await aio_pika.connect(system.rabbitmq_url, timeout=10) as connection:
        queue = await (await connection.channel()).get_queue("dead")
        while message := await queue.get(fail=False):
            headers = message.headers
            # What RabbitMQ itself gave up has its header only.
            origin = headers.get("orderflow-queue") or headers.get("x-first-death-queue")
            found[DeadLetter(str(message.message_id), str(origin))] += 1
    return found


async def _archived_dead_letters(system: System) -> Counter[DeadLetter]:
    archive = system.database("recovery")["dead_letters"]
    found = archive.find(DEAD_NOW)
    return Counter([DeadLetter(str(one["message_id"]), str(one["queue"])) async for one in found])


async def _unrouted(system: System) -> Counter[str]:
    archive = system.database("recovery")["dead_letters"]
    found = archive.find({"source": "unrouted", "state": {"$ne": "replayed"}})
    return Counter([str(one["message_id"]) async for one in found])
