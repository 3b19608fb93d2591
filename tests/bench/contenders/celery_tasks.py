"""Celery: a task per step and a worker per queue, set up as its documentation advises for quorum queues.

`acks_late`, `reject_on_worker_lost` and confirmed publishing lose nothing; what fails for a lasting reason is
dead-lettered, and an outage of MongoDB is waited out by retries. No results, events, gossip, mingle or remote
control: nobody reads them. A step writes its part of the read model itself, in the transaction where it has
one.
"""

import asyncio
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Any
from uuid import UUID, uuid5

import aio_pika
from celery import Celery
from celery.utils import uuid
from kombu import Connection, Exchange, Queue
from kombu.exceptions import OperationalError
from kombu.serialization import dumps
from pymongo import MongoClient, ReturnDocument, UpdateOne
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError, PyMongoError

from contracts import (
    InvoiceIssued,
    InvoiceLine,
    NotificationSent,
    OrderCreated,
    OrderRejected,
    OrderValidated,
    RejectionCode,
    RejectionReason,
)
from contracts.event import NAMESPACE
from tests.bench.contender import EVENTS, LISTS, TOLD, Books, Entry, Place, shown

Document = dict[str, Any]

RANKS = {"created": 1, "validated": 2, "invoiced": 3, "notified": 4, "rejected": 5}
"""The read model's status is the highest of them, whatever comes first."""
CHILDREN = {"stock": 2, "billing": 1, "notifications": 2}
"""Prefork children of each stage's worker; two that bill collide on the counter."""
PREFETCH_PER_CHILD = 16

TASKS = Exchange("tasks", type="topic")
DEAD = Exchange("dead", type="fanout")
QUORUM = {"x-queue-type": "quorum"}
QUEUES = [
    Queue(name, TASKS, routing_key=name, queue_arguments={**QUORUM, "x-dead-letter-exchange": DEAD.name})
    for name in CHILDREN
]
DEAD_LETTERS = Queue("dead", DEAD, queue_arguments=QUORUM)

app = Celery("orders", broker=os.environ.get("BENCH_RABBITMQ_URL"), set_as_current=False)
app.conf.update(
    task_queues=QUEUES,
    task_default_queue_type="quorum",
    task_default_exchange_type="topic",
    broker_transport_options={"confirm_publish": True},
    broker_connection_retry_on_startup=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_acks_on_failure_or_timeout=False,  # rejected instead, and so dead-lettered
    task_ignore_result=True,
    worker_prefetch_multiplier=PREFETCH_PER_CHILD,
    worker_enable_remote_control=False,
)
RETRIED = {"autoretry_for": (PyMongoError, OperationalError), "max_retries": None, "retry_backoff": True}


class ShortageError(Exception):
    """There is too little of an article."""


@app.task(queue="stock", **RETRIED)
def reserve_stock(body: str) -> None:
    """Reserve all lines of an order or none; a repeat finds the decision and passes it on again."""
    order = OrderCreated.model_validate_json(body)
    decision = _decide(order)
    if reasons := decision.get("reasons"):
        rejected = OrderRejected(
            order_id=order.order_id,
            reference=order.reference,
            customer=order.customer,
            rejected_at=decision["decided_at"],
            reasons=reasons,
        )
        times = {"created": order.placed_at, "rejected": rejected.rejected_at}
        _record(rejected.order_id, "rejected", times, _content(order))
        notify_rejection.delay(rejected.model_dump_json())
        return
    validated = OrderValidated.of(
        order, order_id=order.order_id, placed_at=order.placed_at, validated_at=decision["decided_at"]
    )
    issue_invoice.delay(validated.model_dump_json())


@app.task(queue="billing", **RETRIED)
def issue_invoice(body: str) -> None:
    """Give an order its invoice under the next number; a repeat finds it and passes it on again."""
    order = OrderValidated.model_validate_json(body)

    def issue(session: ClientSession) -> str:
        now = datetime.now(UTC)
        counter = _database().counters.find_one_and_update(
            {"_id": f"{now:%Y}"},
            {"$inc": {"last": 1}},
            upsert=True,
            return_document=ReturnDocument.AFTER,
            session=session,
        )
        event = _invoice(order, counter["last"], now).model_dump_json()
        document = {"_id": order.order_id, "number": counter["last"], "event": event}
        _database().invoices.insert_one(document, session=session)
        facts = {"invoice_number": f"{now:%Y}-{counter['last']:06}"}
        _record(order.order_id, "invoiced", {"invoiced": now}, facts, session)
        return event

    try:
        invoice = _in_transaction(issue)
    except DuplicateKeyError:
        invoice = _database().invoices.find_one({"_id": order.order_id})["event"]
    notify_invoice.delay(invoice)


@app.task(queue="notifications", **RETRIED)
def notify_invoice(body: str) -> None:
    """Tell the customer of the invoice."""
    invoice = InvoiceIssued.model_validate_json(body)
    text = f"{invoice.customer.name}, your invoice {invoice.number}: {invoice.total} {invoice.currency}"
    _tell(invoice, "invoice-issued", text)


@app.task(queue="notifications", **RETRIED)
def notify_rejection(body: str) -> None:
    """Tell the customer that the order cannot be served."""
    rejected = OrderRejected.model_validate_json(body)
    skus = ", ".join(reason.sku or "" for reason in rejected.reasons)
    _tell(rejected, "order-rejected", f"{rejected.customer.name}, we are out of {skus}")


def _decide(order: OrderCreated) -> Document:
    taken = [
        UpdateOne({"_id": sku, "available": {"$gte": units}}, {"$inc": {"available": -units}})
        for sku, units in sorted(order.quantities().items())
    ]
    decision: Document = {"_id": order.order_id, "lines": order.quantities()}

    def take(session: ClientSession) -> Document:
        decision["decided_at"] = now = datetime.now(UTC)
        if _database().shelves.bulk_write(taken, session=session).matched_count < len(taken):
            raise ShortageError
        _database().reservations.insert_one(decision, session=session)
        times = {"created": order.placed_at, "validated": now}
        _record(order.order_id, "validated", times, _content(order), session)
        return decision

    try:
        return _in_transaction(take)
    except ShortageError:
        refusal = {"_id": order.order_id, "reasons": _shortages(order), "decided_at": datetime.now(UTC)}
        with suppress(DuplicateKeyError):  # a repeat, which took what is now short
            _database().reservations.insert_one(refusal)
    except DuplicateKeyError:
        pass
    return _database().reservations.find_one({"_id": order.order_id})


def _shortages(order: OrderCreated) -> list[Document]:
    wanted = order.quantities()
    levels = {
        shelf["_id"]: shelf["available"] for shelf in _database().shelves.find({"_id": {"$in": [*wanted]}})
    }
    return [
        RejectionReason(
            code=RejectionCode.OUT_OF_STOCK if sku in levels else RejectionCode.UNKNOWN_SKU,
            sku=sku,
            requested=units,
            available=levels.get(sku, 0),
        ).model_dump(mode="json")
        for sku, units in wanted.items()
        if levels.get(sku, 0) < units
    ]


def _invoice(order: OrderValidated, number: int, now: datetime) -> InvoiceIssued:
    untaxed = order.total * 0  # with the decimals of its currency
    lines = [InvoiceLine(**dict(line), tax_rate=Decimal(0), tax=untaxed) for line in order.lines]
    return InvoiceIssued(
        invoice_id=uuid5(NAMESPACE, f"invoice/{order.order_id}"),
        number=f"{now:%Y}-{number:06}",
        order_id=order.order_id,
        reference=order.reference,
        customer=order.customer,
        currency=order.currency,
        lines=lines,
        subtotal=order.total,
        tax=untaxed,
        total=order.total,
        issued_at=now,
    )


def _tell(event: InvoiceIssued | OrderRejected, template: str, text: str) -> None:
    """Send, keep and announce; what was sent is not sent again, only announced."""
    recipient = event.customer.phone or event.customer.email or event.customer.id
    known = _database().notifications.find_one({"_id": event.order_id})
    if known is None:
        _send(recipient, text)
        known = {"_id": event.order_id, "template": template, "text": text, "sent_at": datetime.now(UTC)}
        try:
            _database().notifications.insert_one(known)
        except DuplicateKeyError:
            known = _database().notifications.find_one({"_id": event.order_id})
    sent = NotificationSent(
        notification_id=uuid5(NAMESPACE, f"{template}/{event.order_id}"),
        order_id=event.order_id,
        template=template,
        channel="sms",
        recipient=f"***{recipient[-3:]}",
        sent_at=known["sent_at"],
    )
    _record(event.order_id, "notified", {"notified": sent.sent_at})
    with app.producer_pool.acquire(block=True) as producer:
        producer.publish(
            sent.model_dump_json(),
            exchange=EVENTS,
            routing_key=TOLD,
            retry=True,
            content_type="application/json",
            content_encoding="utf-8",
            message_id=str(sent.event_id),
            correlation_id=str(sent.order_id),
            delivery_mode="persistent",
        )


def _send(recipient: str, text: str) -> None:
    """Stand in for the SMS provider."""


def _content(order: OrderCreated) -> Document:
    """What the read model shows of an order, beside how far it is."""
    content = order.model_dump(mode="json", exclude={"order_id"})
    return {"content": content, "customer_id": order.customer.id, "reference": order.reference}


def _record(
    order_id: UUID,
    status: str,
    times: Mapping[str, datetime],
    facts: Mapping[str, Any] = {},
    session: ClientSession | None = None,
) -> None:
    """Write a step down in the read model, in any order and as often as it comes."""
    update = {
        "$max": {"rank": RANKS[status]},
        "$set": {**facts, **{f"{step}_at": time for step, time in times.items()}},
        "$setOnInsert": {"recorded_at": datetime.now(UTC)},
    }
    _database().orders.update_one({"_id": order_id}, update, upsert=True, session=session)


@cache
def _client(url: str) -> MongoClient[Document]:
    """One per process: it is first asked for by a task, and so after the fork."""
    return MongoClient(
        url,
        w="majority",
        journal=True,
        readConcernLevel="majority",
        uuidRepresentation="standard",
        tz_aware=True,
    )


@cache
def _database() -> Database[Document]:
    return _client(os.environ["BENCH_MONGODB_URL"])[os.environ["BENCH_DATABASE"]]


def _in_transaction(work: Callable[[ClientSession], Any]) -> Any:
    with _client(os.environ["BENCH_MONGODB_URL"]).start_session() as session:
        return session.with_transaction(work)


class CeleryTasks:
    """The contender."""

    name = "celery"
    keeps_books = True

    def commands(self, place: Place) -> Mapping[str, Sequence[str]]:
        """Give a worker for each queue."""
        del place
        celery = [sys.executable, "-m", "celery", "-A", f"{__name__}:app", "worker", "--loglevel", "WARNING"]
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        return {
            stage: [*celery, *quiet, "-Q", stage, "-n", f"{stage}@%h", "-c", str(children)]
            for stage, children in CHILDREN.items()
        }

    def queues(self, place: Place) -> Sequence[str]:
        """Name the queue of each stage."""
        del place
        return list(CHILDREN)

    async def prepare(self, place: Place, stock: Mapping[str, int]) -> None:
        """Declare the queues and fill the shelves."""
        await asyncio.to_thread(self._prepare, place, stock)

    def _prepare(self, place: Place, stock: Mapping[str, int]) -> None:
        with Connection(place.rabbitmq_url) as connection, connection.channel() as channel:
            Exchange(EVENTS, type="topic")(channel).declare()
            for queue in (*QUEUES, DEAD_LETTERS):
                queue(channel).declare()
        database = _client(place.mongodb_url)[place.database]
        for collection in ("reservations", "counters", "invoices", "notifications", "orders"):
            database.create_collection(collection)
        for fields in LISTS.values():
            database.orders.create_index(list(fields))
        database.shelves.insert_many(
            [{"_id": sku, "stocked": units, "available": units} for sku, units in stock.items()]
        )

    def entry(self, order: OrderCreated) -> Entry:
        """Build what `reserve_stock.delay` sends."""
        sent = app.amqp.as_task_v2(uuid(), reserve_stock.name, args=(order.model_dump_json(),))
        content_type, content_encoding, body = dumps(sent.body, "json")
        message = aio_pika.Message(
            body.encode(),
            headers=sent.headers,
            content_type=content_type,
            content_encoding=content_encoding,
            correlation_id=sent.properties["correlation_id"],
            reply_to=sent.properties["reply_to"],
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        return Entry(TASKS.name, "stock", message)

    async def books(self, place: Place) -> Books:
        """Count what the tasks stored."""
        return await asyncio.to_thread(self._books, place)

    def _books(self, place: Place) -> Books:
        database = _client(place.mongodb_url)[place.database]
        return Books(
            invoice_numbers=[invoice["number"] for invoice in database.invoices.find({}, {"number": 1})],
            units_reserved=sum(shelf["stocked"] - shelf["available"] for shelf in database.shelves.find()),
            notifications=database.notifications.count_documents({}),
            notified=database.orders.count_documents(shown({"rank": RANKS["notified"]})),
        )


CONTENDER = CeleryTasks()
