"""What a good engineer writes in a week: aio-pika, pymongo and uvloop, one commit for each message.

Every message is a task of its own, and the prefetch bounds how many run at once: fewest in stock, where
transactions meet on the same shelves. Invoices queue for their number at a lock, which costs less than
letting their transactions collide on the counter; all else of their work overlaps. Stock takes from the
shelves as the last step of its transaction, so that others are kept out of them for the shortest time; what
touches one document needs no transaction. Events are published on a channel of their own, persistent,
mandatory and confirmed, before the message is acknowledged.
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, NamedTuple
from uuid import UUID, uuid5
from weakref import WeakValueDictionary

import aio_pika
import uvloop
from aio_pika.abc import AbstractIncomingMessage
from pydantic import ValidationError
from pymongo import AsyncMongoClient, ReturnDocument, UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError

from contracts import (
    Event,
    InvoiceIssued,
    InvoiceLine,
    NotificationSent,
    OrderCreated,
    OrderRejected,
    OrderValidated,
    RejectionCode,
    RejectionReason,
)
from contracts.amounts import DECIMALS
from contracts.envelope import envelope
from contracts.event import NAMESPACE
from tests.bench.contender import EVENTS, LISTS, Books, Entry, Place, shown

Document = dict[str, Any]
Database = AsyncDatabase[Document]
Handler = Callable[[Any], Awaitable[Event | None]]

PAUSE_SECONDS = 1.0
"""Before a message that failed goes back to its queue."""
DELIVERY_LIMIT = 20
DEAD = "dead"
TAX_RATES = {"GB": Decimal("0.20")}

log = logging.getLogger(__name__)


class Stage(NamedTuple):
    """One worker process: the events that it hears, and how many it handles at once.

    A variable `BENCH_PREFETCH_<STAGE>` has another prefetch tried.
    """

    events: Sequence[type[Event]]
    prefetch: int


STAGES = {
    "stock": Stage([OrderCreated], 20),
    "billing": Stage([OrderValidated], 50),
    "notifications": Stage([InvoiceIssued], 100),
    "orders": Stage([OrderCreated, OrderValidated, OrderRejected, InvoiceIssued, NotificationSent], 100),
}
RANKS: Mapping[type[Event], tuple[str, int]] = {
    OrderCreated: ("created", 1),
    OrderValidated: ("validated", 2),
    InvoiceIssued: ("invoiced", 3),
    NotificationSent: ("notified", 4),
    OrderRejected: ("rejected", 5),
}


def queue_name(stage: str, event: type[Event]) -> str:
    return f"{stage}.{event.topic.removesuffix('.v1').replace('.', '-')}"


def now() -> datetime:
    """In milliseconds, as MongoDB keeps it, so that a repeated event is the same to the letter."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


class ShortageError(Exception):
    """Not all lines of an order can be served."""


class Stock:
    """Reserves all lines of an order or none."""

    def __init__(self, database: Database) -> None:
        self._client = database.client
        self._shelves = database["shelves"]
        self._reservations = database["reservations"]

    async def handle(self, order: OrderCreated) -> Event:
        while True:
            decision = await self._reserve(order) or await self._reject(order)
            if decision is not None:
                break
        identity, at = {"order_id": order.order_id}, decision["decided_at"]
        if reasons := decision["reasons"]:
            reference, customer = order.reference, order.customer
            return OrderRejected(
                **identity, reference=reference, customer=customer, rejected_at=at, reasons=reasons
            )
        return OrderValidated.of(order, **identity, placed_at=order.placed_at, validated_at=at)

    async def _reserve(self, order: OrderCreated) -> Document | None:
        """What is decided on the order, perhaps earlier; nothing if there is not enough for it."""
        wanted = order.quantities()
        lines = [{"sku": sku, "quantity": quantity} for sku, quantity in wanted.items()]
        decision = {"_id": order.order_id, "lines": lines, "reasons": [], "decided_at": now()}
        updates = [
            UpdateOne({"_id": sku, "available": {"$gte": quantity}}, {"$inc": {"available": -quantity}})
            for sku, quantity in wanted.items()
        ]

        async def reserve(session: AsyncClientSession) -> None:
            await self._reservations.insert_one(decision, session=session)
            taken = await self._shelves.bulk_write(updates, session=session)
            if taken.matched_count < len(updates):
                raise ShortageError

        async with self._client.start_session() as session:
            try:
                await session.with_transaction(reserve)
            except DuplicateKeyError:
                return await self._reservations.find_one({"_id": order.order_id}, session=session)
            except ShortageError:
                return None
        return decision

    async def _reject(self, order: OrderCreated) -> Document | None:
        """The refusal; nothing if by now there is enough for the order, or another decision."""
        wanted = order.quantities()
        shelves = {shelf["_id"]: shelf async for shelf in self._shelves.find({"_id": {"$in": list(wanted)}})}
        reasons = [
            RejectionReason(
                code=RejectionCode.OUT_OF_STOCK if sku in shelves else RejectionCode.UNKNOWN_SKU,
                sku=sku,
                requested=quantity,
                available=available,
            ).model_dump(mode="json")
            for sku, quantity in wanted.items()
            if (available := shelves.get(sku, {"available": 0})["available"]) < quantity
        ]
        decision = {"_id": order.order_id, "lines": [], "reasons": reasons, "decided_at": now()}
        if not reasons:
            return None
        try:
            await self._reservations.insert_one(decision)
        except DuplicateKeyError:
            return None
        return decision


class Billing:
    """Issues one invoice for each order, with the next number."""

    def __init__(self, database: Database) -> None:
        self._client = database.client
        self._series = database["series"]
        self._invoices = database["invoices"]
        self._counter = asyncio.Lock()

    async def handle(self, order: OrderValidated) -> Event:
        rate = TAX_RATES.get(order.customer.country or "", Decimal(0))
        unit = Decimal(1).scaleb(-DECIMALS[order.currency])
        lines = tuple(
            InvoiceLine(
                **dict(line), tax_rate=rate, tax=(line.amount * rate).quantize(unit, rounding=ROUND_HALF_UP)
            )
            for line in order.lines
        )
        tax = sum((line.tax for line in lines), Decimal(0))

        async def issue(session: AsyncClientSession) -> InvoiceIssued:
            series = await self._series.find_one_and_update(
                {"_id": "invoices"},
                {"$inc": {"last": 1}},
                return_document=ReturnDocument.AFTER,
                session=session,
            )
            issued_at = now()
            invoice = InvoiceIssued(
                invoice_id=uuid5(NAMESPACE, f"invoice/{order.order_id}"),
                number=f"{issued_at:%Y}-{series['last']:06}",
                order_id=order.order_id,
                reference=order.reference,
                customer=order.customer,
                currency=order.currency,
                lines=lines,
                subtotal=order.total,
                tax=tax,
                total=order.total + tax,
                issued_at=issued_at,
            )
            await self._invoices.insert_one(
                {"_id": order.order_id, "number": series["last"], "event": invoice.model_dump(mode="json")},
                session=session,
            )
            return invoice

        async with self._client.start_session() as session:
            try:
                async with self._counter:
                    return await session.with_transaction(issue)
            except DuplicateKeyError:
                stored = await self._invoices.find_one({"_id": order.order_id}, session=session)
                return InvoiceIssued.model_validate((stored or {})["event"])


async def send_nowhere(recipient: str, text: str) -> None:
    """Stands for the mail server, the same for every contender."""


class Notifications:
    """Tells the customer once."""

    def __init__(self, database: Database) -> None:
        self._notifications = database["notifications"]
        self._turns: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()

    async def handle(self, invoice: InvoiceIssued) -> Event:
        order_id, template = invoice.order_id, "invoice-issued"
        # The same order may be in work twice, and its customer must not be told twice.
        async with self._turns.setdefault(order_id, asyncio.Lock()):
            if stored := await self._notifications.find_one({"_id": order_id}):
                return NotificationSent.model_validate(stored["event"])
            recipient = invoice.customer.email or invoice.customer.phone or invoice.customer.id
            text = f"Invoice {invoice.number} over {invoice.total} {invoice.currency}: thank you!"
            await send_nowhere(recipient, text)
            sent = NotificationSent(
                notification_id=uuid5(NAMESPACE, f"{template}/{order_id}"),
                order_id=order_id,
                template=template,
                channel="email",
                recipient=f"{recipient[:1]}***",
                sent_at=now(),
            )
            await self._notifications.insert_one({"_id": order_id, "event": sent.model_dump(mode="json")})
            return sent


class ReadModel:
    """Shows each order and how far it is, whatever the order in which its events arrive."""

    def __init__(self, database: Database) -> None:
        self._orders = database["orders"]

    async def handle(self, event: Event) -> None:
        step, rank = RANKS[type(event)]
        await self._orders.update_one(
            {"_id": UUID(event.correlation_id)},
            {
                "$max": {"rank": rank},
                "$set": {f"steps.{step}": event.occurred_at, **facts_of(event)},
                "$setOnInsert": {"recorded_at": now()},
            },
            upsert=True,
        )


def facts_of(event: Event) -> Document:
    """What an event tells of its order, beside how far it is."""
    match event:
        case OrderCreated():
            content = event.model_dump(mode="json", exclude={"order_id"})
            return {"content": content, "customer_id": event.customer.id, "reference": event.reference}
        case InvoiceIssued():
            return {"invoice_number": event.number}
        case _:
            return {}


HANDLERS = {"stock": Stock, "billing": Billing, "notifications": Notifications, "orders": ReadModel}


class Worker:
    """Hears events, hands each to a handler, announces the outcome and then acknowledges."""

    def __init__(self, handle: Handler, exchange: aio_pika.abc.AbstractExchange) -> None:
        self._handle = handle
        self._exchange = exchange
        self._running: set[asyncio.Task[Any]] = set()

    def consumer(self, kind: type[Event]) -> Callable[[AbstractIncomingMessage], Awaitable[None]]:
        async def on_message(message: AbstractIncomingMessage) -> None:
            if task := asyncio.current_task():
                self._running.add(task)
                task.add_done_callback(self._running.discard)
            async with message.process(requeue=True, ignore_processed=True):
                try:
                    event = kind.model_validate_json(message.body)
                except ValidationError:
                    log.exception("%s is no %s", message.message_id, kind.__name__)
                    await message.reject(requeue=False)
                    return
                try:
                    if outcome := await self._handle(event):
                        await self._exchange.publish(aio_pika.Message(**envelope(outcome)), outcome.topic)
                except Exception:
                    log.exception("%s %s goes back", kind.__name__, event.correlation_id)
                    await asyncio.sleep(PAUSE_SECONDS)
                    raise

        return on_message

    async def drain(self) -> None:
        await asyncio.gather(*self._running, return_exceptions=True)


async def work(name: str) -> None:
    """Be the worker process of one stage until SIGTERM."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    stage = STAGES[name]
    place = Place(*(os.environ[f"BENCH_{key}"] for key in ("RABBITMQ_URL", "MONGODB_URL", "DATABASE")))
    async with open_client(place) as client, await aio_pika.connect_robust(place.rabbitmq_url) as connection:
        publishing = await connection.channel(on_return_raises=True)
        worker = Worker(
            HANDLERS[name](client[place.database]).handle,
            await publishing.get_exchange(EVENTS),
        )
        consuming = await connection.channel()
        prefetch = int(os.environ.get(f"BENCH_PREFETCH_{name.upper()}", stage.prefetch))
        await consuming.set_qos(prefetch_count=prefetch)
        queues = [(await consuming.get_queue(queue_name(name, event)), event) for event in stage.events]
        tags = [(queue, await queue.consume(worker.consumer(event))) for queue, event in queues]
        await stopping.wait()
        for queue, tag in tags:
            await queue.cancel(tag)
        await worker.drain()


def open_client(place: Place) -> AsyncMongoClient[Document]:
    return AsyncMongoClient(
        place.mongodb_url,
        w="majority",
        journal=True,
        readConcernLevel="majority",
        uuidRepresentation="standard",
        tz_aware=True,
    )


async def declare_topology(place: Place) -> None:
    """The exchange of all events, a quorum queue for each consumer and event, and one for dead letters."""
    async with await aio_pika.connect(place.rabbitmq_url) as connection:
        channel = await connection.channel()
        events = await channel.declare_exchange(EVENTS, aio_pika.ExchangeType.TOPIC, durable=True)
        dead = await channel.declare_exchange(DEAD, aio_pika.ExchangeType.FANOUT, durable=True)
        quorum = {"x-queue-type": "quorum"}
        await (await channel.declare_queue(DEAD, durable=True, arguments=quorum)).bind(dead)
        limited = {**quorum, "x-dead-letter-exchange": DEAD, "x-delivery-limit": DELIVERY_LIMIT}
        for name, stage in STAGES.items():
            for event in stage.events:
                queue = await channel.declare_queue(queue_name(name, event), durable=True, arguments=limited)
                await queue.bind(events, event.topic)


class HandWritten:
    """The contender."""

    name = "hand-written"
    keeps_books = True

    def commands(self, _place: Place) -> Mapping[str, Sequence[str]]:
        return {stage: [sys.executable, "-m", __name__, stage] for stage in STAGES}

    def queues(self, _place: Place) -> Sequence[str]:
        return [queue_name(name, event) for name, stage in STAGES.items() for event in stage.events]

    async def prepare(self, place: Place, stock: Mapping[str, int]) -> None:
        await declare_topology(place)
        async with open_client(place) as client:
            database = client[place.database]
            # Ahead of the first transaction, which would otherwise have to wait for them.
            for collection in ("shelves", "reservations", "series", "invoices", "notifications", "orders"):
                await database.create_collection(collection)
            await database["invoices"].create_index("number", unique=True)
            for fields in LISTS.values():
                await database["orders"].create_index(list(fields))
            await database["series"].insert_one({"_id": "invoices", "last": 0})
            await database["shelves"].insert_many(
                {"_id": sku, "counted": units, "available": units} for sku, units in stock.items()
            )

    def entry(self, order: OrderCreated) -> Entry:
        return Entry(EVENTS, order.topic, aio_pika.Message(**envelope(order)))

    async def books(self, place: Place) -> Books:
        async with open_client(place) as client:
            database = client[place.database]
            shelves = await database["shelves"].find().to_list()
            return Books(
                invoice_numbers=[invoice["number"] async for invoice in database["invoices"].find()],
                units_reserved=sum(shelf["counted"] - shelf["available"] for shelf in shelves),
                notifications=await database["notifications"].count_documents({}),
                notified=await database["orders"].count_documents(
                    shown({"rank": RANKS[NotificationSent][1]})
                ),
            )


CONTENDER = HandWritten()

if __name__ == "__main__":
    uvloop.run(work(sys.argv[1]))
