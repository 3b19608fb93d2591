"""taskiq: an asynchronous task per step, a worker per queue, on its RabbitMQ broker with quorum queues.

Acknowledged when executed, published with confirms, retried for as long as MongoDB is away. The formatter
leaves all JSON to pydantic, the loop is uvloop. Many tasks run at once, but those that bill take turns, since
transactions on one counter collide. A step writes its part of the read model itself, in the transaction
where it has one.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Any
from uuid import UUID, uuid5

import aio_pika
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError
from pymongo import AsyncMongoClient, ReturnDocument, UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError, PyMongoError
from taskiq import SmartRetryMiddleware, TaskiqEvents, TaskiqState
from taskiq.exceptions import SendTaskError
from taskiq.formatters.json_formatter import JSONFormatter
from taskiq_aio_pika import AioPikaBroker, Exchange, Queue

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
TASKS_AT_ONCE = {"stock": 10, "billing": 10, "notifications": 20}
"""Of each stage's worker; it fetches as many again."""

TASKS = Exchange(name="tasks")
FOR_EVER = 2**31


def _broker(stage: str) -> AioPikaBroker:
    broker = AioPikaBroker(
        os.environ.get("BENCH_RABBITMQ_URL"),
        qos=2 * TASKS_AT_ONCE[stage],
        exchange=TASKS,
        task_queues=[Queue(name=stage)],
        delay_queue=Queue(name=f"{stage}.delay"),
    )
    retry = SmartRetryMiddleware(
        default_retry_label=True,
        default_retry_count=FOR_EVER,
        default_delay=2,
        types_of_exceptions=(
            PyMongoError,
            SendTaskError,
            AMQPError,
            ChannelInvalidStateError,
        ),  # else acknowledged though not passed on
    )
    return broker.with_formatter(JSONFormatter()).with_middlewares(retry)


stock, billing, notifications = (_broker(stage) for stage in TASKS_AT_ONCE)
_turn_to_bill = asyncio.Lock()


@stock.on_event(TaskiqEvents.WORKER_STARTUP)
async def _before_stock(_: TaskiqState) -> None:
    await billing.startup()
    await notifications.startup()


@stock.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def _after_stock(_: TaskiqState) -> None:
    await billing.shutdown()
    await notifications.shutdown()


@billing.on_event(TaskiqEvents.WORKER_STARTUP)
async def _before_billing(_: TaskiqState) -> None:
    await notifications.startup()


@billing.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def _after_billing(_: TaskiqState) -> None:
    await notifications.shutdown()


class ShortageError(Exception):
    """There is too little of an article."""


@stock.task
async def reserve_stock(order: OrderCreated) -> None:
    """Reserve all lines of an order or none; a repeat finds the decision and passes it on again."""
    decision = await _decide(order)
    if reasons := decision.get("reasons"):
        rejected = OrderRejected(
            order_id=order.order_id,
            reference=order.reference,
            customer=order.customer,
            rejected_at=decision["decided_at"],
            reasons=reasons,
        )
        times = {"created": order.placed_at, "rejected": rejected.rejected_at}
        await _record(rejected.order_id, "rejected", times, _content(order))
        await notify_rejection.kiq(rejected)
        return
    await issue_invoice.kiq(
        OrderValidated.of(
            order, order_id=order.order_id, placed_at=order.placed_at, validated_at=decision["decided_at"]
        )
    )


@billing.task
async def issue_invoice(order: OrderValidated) -> None:
    """Give an order its invoice under the next number; a repeat finds it and passes it on again."""

    async def issue(session: AsyncClientSession) -> InvoiceIssued:
        now = datetime.now(UTC)
        counter = await _database().counters.find_one_and_update(
            {"_id": f"{now:%Y}"},
            {"$inc": {"last": 1}},
            upsert=True,
            return_document=ReturnDocument.AFTER,
            session=session,
        )
        invoice = _invoice(order, counter["last"], now)
        document = {"_id": order.order_id, "number": counter["last"], "event": invoice.model_dump_json()}
        await _database().invoices.insert_one(document, session=session)
        facts = {"invoice_number": invoice.number}
        await _record(order.order_id, "invoiced", {"invoiced": invoice.issued_at}, facts, session)
        return invoice

    try:
        async with _turn_to_bill:
            invoice = await _in_transaction(issue)
    except DuplicateKeyError:
        stored = await _database().invoices.find_one({"_id": order.order_id})
        invoice = InvoiceIssued.model_validate_json(stored["event"])
    await notify_invoice.kiq(invoice)


@notifications.task
async def notify_invoice(invoice: InvoiceIssued) -> None:
    """Tell the customer of the invoice."""
    text = f"{invoice.customer.name}, your invoice {invoice.number}: {invoice.total} {invoice.currency}"
    await _tell(invoice, "invoice-issued", text)


@notifications.task
async def notify_rejection(rejected: OrderRejected) -> None:
    """Tell the customer that the order cannot be served."""
    skus = ", ".join(reason.sku or "" for reason in rejected.reasons)
    await _tell(rejected, "order-rejected", f"{rejected.customer.name}, we are out of {skus}")


async def _decide(order: OrderCreated) -> Document:
    taken = [
        UpdateOne({"_id": sku, "available": {"$gte": units}}, {"$inc": {"available": -units}})
        for sku, units in sorted(order.quantities().items())
    ]
    decision: Document = {"_id": order.order_id, "lines": order.quantities()}

    async def take(session: AsyncClientSession) -> Document:
        decision["decided_at"] = now = datetime.now(UTC)
        done = await _database().shelves.bulk_write(taken, session=session)
        if done.matched_count < len(taken):
            raise ShortageError
        await _database().reservations.insert_one(decision, session=session)
        times = {"created": order.placed_at, "validated": now}
        await _record(order.order_id, "validated", times, _content(order), session)
        return decision

    try:
        return await _in_transaction(take)
    except ShortageError:
        refusal = {"_id": order.order_id, "reasons": await _shortages(order), "decided_at": datetime.now(UTC)}
        with suppress(DuplicateKeyError):  # a repeat, which took what is now short
            await _database().reservations.insert_one(refusal)
    except DuplicateKeyError:
        pass
    return await _database().reservations.find_one({"_id": order.order_id})


async def _shortages(order: OrderCreated) -> list[Document]:
    wanted = order.quantities()
    found = _database().shelves.find({"_id": {"$in": [*wanted]}})
    levels = {shelf["_id"]: shelf["available"] async for shelf in found}
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


async def _tell(event: InvoiceIssued | OrderRejected, template: str, text: str) -> None:
    """Send, keep and announce; what was sent is not sent again, only announced."""
    recipient = event.customer.phone or event.customer.email or event.customer.id
    known = await _database().notifications.find_one({"_id": event.order_id})
    if known is None:
        await _send(recipient, text)
        known = {"_id": event.order_id, "template": template, "text": text, "sent_at": datetime.now(UTC)}
        try:
            await _database().notifications.insert_one(known)
        except DuplicateKeyError:
            known = await _database().notifications.find_one({"_id": event.order_id})
    sent = NotificationSent(
        notification_id=uuid5(NAMESPACE, f"{template}/{event.order_id}"),
        order_id=event.order_id,
        template=template,
        channel="sms",
        recipient=f"***{recipient[-3:]}",
        sent_at=known["sent_at"],
    )
    await _record(event.order_id, "notified", {"notified": sent.sent_at})
    message = aio_pika.Message(
        sent.model_dump_json().encode(),
        content_type="application/json",
        content_encoding="utf-8",
        message_id=str(sent.event_id),
        correlation_id=str(sent.order_id),
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
    )
    events = await notifications.write_channel.get_exchange(EVENTS, ensure=False)
    await events.publish(message, TOLD)


async def _send(recipient: str, text: str) -> None:
    """Stand in for the SMS provider."""


def _content(order: OrderCreated) -> Document:
    """What the read model shows of an order, beside how far it is."""
    content = order.model_dump(mode="json", exclude={"order_id"})
    return {"content": content, "customer_id": order.customer.id, "reference": order.reference}


async def _record(
    order_id: UUID,
    status: str,
    times: Mapping[str, datetime],
    facts: Mapping[str, Any] = {},
    session: AsyncClientSession | None = None,
) -> None:
    """Write a step down in the read model, in any order and as often as it comes."""
    update = {
        "$max": {"rank": RANKS[status]},
        "$set": {**facts, **{f"{step}_at": time for step, time in times.items()}},
        "$setOnInsert": {"recorded_at": datetime.now(UTC)},
    }
    await _database().orders.update_one({"_id": order_id}, update, upsert=True, session=session)


def _connect(url: str) -> AsyncMongoClient[Document]:
    return AsyncMongoClient(
        url,
        w="majority",
        journal=True,
        readConcernLevel="majority",
        uuidRepresentation="standard",
        tz_aware=True,
    )


@cache
def _client() -> AsyncMongoClient[Document]:
    """One per worker, in the loop of its tasks."""
    return _connect(os.environ["BENCH_MONGODB_URL"])


@cache
def _database() -> AsyncDatabase[Document]:
    return _client()[os.environ["BENCH_DATABASE"]]


async def _in_transaction(work: Callable[[AsyncClientSession], Awaitable[Any]]) -> Any:
    async with _client().start_session() as session:
        return await session.with_transaction(work)


class TaskiqTasks:
    """The contender."""

    name = "taskiq"
    keeps_books = True

    def commands(self, place: Place) -> Mapping[str, Sequence[str]]:
        """Give a worker for each queue."""
        del place
        taskiq = [sys.executable, "-m", "taskiq", "worker", "--workers", "1", "--log-level", "WARNING"]
        return {
            stage: [
                *taskiq,
                *(
                    "--ack-type",
                    "when_executed",
                    "--max-async-tasks",
                    str(tasks),
                    "--max-prefetch",
                    str(tasks),
                ),
                f"{__name__}:{stage}",
            ]
            for stage, tasks in TASKS_AT_ONCE.items()
        }

    def queues(self, place: Place) -> Sequence[str]:
        """Name the queue of each stage."""
        del place
        return list(TASKS_AT_ONCE)

    async def prepare(self, place: Place, stock: Mapping[str, int]) -> None:
        """Declare what the announcements need and fill the shelves; workers declare their queues."""
        async with await aio_pika.connect(place.rabbitmq_url) as connection, connection.channel() as channel:
            await channel.declare_exchange(EVENTS, aio_pika.ExchangeType.TOPIC, durable=True)
        async with _connect(place.mongodb_url) as client:
            database = client[place.database]
            for collection in ("reservations", "counters", "invoices", "notifications", "orders"):
                await database.create_collection(collection)
            for fields in LISTS.values():
                await database.orders.create_index(list(fields))
            await database.shelves.insert_many(
                [{"_id": sku, "stocked": units, "available": units} for sku, units in stock.items()]
            )

    def entry(self, order: OrderCreated) -> Entry:
        """Build what `reserve_stock.kiq` sends."""
        task = stock.formatter.dumps(reserve_stock.kicker()._prepare_message(order))
        message = aio_pika.Message(
            task.message,
            headers={"task_id": task.task_id, "task_name": task.task_name, **task.labels},
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        return Entry(TASKS.name, "stock", message)

    async def books(self, place: Place) -> Books:
        """Count what the tasks stored."""
        async with _connect(place.mongodb_url) as client:
            database = client[place.database]
            return Books(
                invoice_numbers=[one["number"] async for one in database.invoices.find({}, {"number": 1})],
                units_reserved=sum(
                    [one["stocked"] - one["available"] async for one in database.shelves.find()]
                ),
                notifications=await database.notifications.count_documents({}),
                notified=await database.orders.count_documents(shown({"rank": RANKS["notified"]})),
            )


CONTENDER = TaskiqTasks()
