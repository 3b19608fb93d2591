"""FastStream 0.7 and ODMantic as their documentation shows them: one app per step, one order at a time.

Settings, each the best of those that were tried on two cores:

- `faststream run` with uvloop, one process for each app; more of them only share the same cores.
- `prefetch_count` is the concurrency, and unlimited if not given: see `_PREFETCH`.
- `persist=True`, publisher confirms, `on_return_raises`: FastStream sends what a handler returns, waits for
  the confirm and only then acknowledges what came in.
- `NACK_ON_ERROR` with a delivery limit and a dead letter queue: a message is tried again, never dropped.
- `logger=None`: a line for each message costs a tenth of the throughput.
- The engine is the module's, as in ODMantic's documentation: FastStream 0.7 resolves a `Context` argument
  in a worker thread, for each message anew, which cost a sixth of the CPU time.
- ODMantic's models, `find_one`, `save` and `transaction`; the collection itself where the engine has no
  atomic update, since to find, change and save loses updates and takes three times as long.
"""

import asyncio
import os
import random
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, TypeVar
from uuid import UUID, uuid5

import aio_pika
from faststream import AckPolicy, FastStream
from faststream.rabbit import Channel, ExchangeType, QueueType, RabbitBroker, RabbitExchange, RabbitQueue
from motor.motor_asyncio import AsyncIOMotorClient
from odmantic import AIOEngine, Field, Model
from odmantic.session import AIOTransaction
from pydantic import AwareDatetime
from pymongo import IndexModel, UpdateOne
from pymongo.errors import PyMongoError

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
from contracts.envelope import envelope
from contracts.event import NAMESPACE
from tests.bench.contender import EVENTS, LISTS, Books, Entry, Place, shown

_PREFETCH = {"stock": 10, "billing": 10, "notifications": 20, "orders": 20}
"""Twice as many were no faster, half as many or fewer were slower."""
_DELIVERY_LIMIT = 20
_TAX_RATE = Decimal(0)
_RANKS = {OrderCreated: 1, OrderRejected: 2, OrderValidated: 2, InvoiceIssued: 3, NotificationSent: 4}
_NOTIFIED = _RANKS[NotificationSent]

Result = TypeVar("Result")

events = RabbitExchange(EVENTS, type=ExchangeType.TOPIC, durable=True)
dead = RabbitQueue("dead", queue_type=QueueType.QUORUM, durable=True)


class StockLevel(Model):
    id: str = Field(primary_field=True)
    counted: int
    available: int


class Reservation(Model):
    id: UUID = Field(primary_field=True)
    lines: dict[str, int]
    reasons: list[dict[str, Any]]
    decided_at: AwareDatetime


class Series(Model):
    id: str = Field(primary_field=True)
    last_number: int


class Invoice(Model):
    id: UUID = Field(primary_field=True)
    number: int = Field(unique=True)
    event: dict[str, Any]


class Notification(Model):
    id: UUID = Field(primary_field=True)
    text: str
    event: dict[str, Any]


class OrderView(Model):
    id: UUID = Field(primary_field=True)
    rank: int
    recorded_at: AwareDatetime
    times: dict[str, AwareDatetime]
    content: dict[str, Any] | None = None
    customer_id: str | None = None
    reference: str | None = None
    invoice_number: str | None = None

    model_config = {  # noqa: RUF012  # as ODMantic has it
        "indexes": lambda: [IndexModel(list(fields), name=name) for name, fields in LISTS.items()]
    }


def open_engine(mongodb_url: str, database: str) -> AIOEngine:
    """The engine with durable writes."""
    client: AsyncIOMotorClient[Any] = AsyncIOMotorClient(
        mongodb_url,
        tz_aware=True,
        uuidRepresentation="standard",
        w="majority",
        journal=True,
        readConcernLevel="majority",
    )
    return AIOEngine(client=client, database=database)


engine = open_engine(
    os.environ.get("BENCH_MONGODB_URL", "mongodb://localhost/"), os.environ.get("BENCH_DATABASE", "bench")
)


def _broker(app: str) -> RabbitBroker:
    return RabbitBroker(
        os.environ.get("BENCH_RABBITMQ_URL", "amqp://guest:guest@localhost:5672/"),
        default_channel=Channel(prefetch_count=_PREFETCH[app], on_return_raises=True),
        ack_policy=AckPolicy.NACK_ON_ERROR,
        graceful_timeout=5,
        logger=None,
    )


def inbox(app: str, event: type[Event]) -> RabbitQueue:
    """The queue of an app for one kind of event."""
    return RabbitQueue(
        f"{app}.{event.topic}",
        queue_type=QueueType.QUORUM,
        durable=True,
        routing_key=event.topic,
        arguments={
            "x-delivery-limit": _DELIVERY_LIMIT,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": dead.name,
        },
    )


async def in_transaction(work: Callable[[AIOTransaction], Awaitable[Result]]) -> Result:
    """Run `work` in one transaction, again while others are faster: ODMantic does not repeat it by itself."""
    while True:
        try:
            async with engine.transaction() as transaction:
                result = await work(transaction)
                await transaction.commit()
                return result
        except PyMongoError as error:
            if not error.has_error_label("TransientTransactionError"):
                raise
        await asyncio.sleep(random.uniform(0, 0.02))  # noqa: S311  # spreads contenders, no secret


def now() -> datetime:
    return datetime.now(UTC)


stock_broker = _broker("stock")
stock = FastStream(stock_broker, logger=None)
validated = stock_broker.publisher(exchange=events, routing_key=OrderValidated.topic, persist=True)
rejected = stock_broker.publisher(exchange=events, routing_key=OrderRejected.topic, persist=True)


@stock_broker.subscriber(inbox("stock", OrderCreated), events)
async def reserve(order: OrderCreated) -> None:
    decision = await in_transaction(lambda transaction: _decide(order, transaction))
    order_id = order.order_id
    if decision.reasons:
        outcome: Event = OrderRejected(
            order_id=order_id,
            reference=order.reference,
            customer=order.customer,
            rejected_at=decision.decided_at,
            reasons=decision.reasons,
        )
        await rejected.publish(outcome, correlation_id=str(order_id))
        return
    outcome = OrderValidated.of(
        order, order_id=order_id, placed_at=order.placed_at, validated_at=decision.decided_at
    )
    await validated.publish(outcome, correlation_id=str(order_id))


async def _decide(order: OrderCreated, transaction: AIOTransaction) -> Reservation:
    known = await transaction.find_one(Reservation, Reservation.id == order.order_id)
    if known is not None:
        return known
    wanted = order.quantities()
    found = await transaction.find(StockLevel, StockLevel.id.in_(wanted))  # type: ignore[attr-defined]
    available = {level.id: level.available for level in found}
    reasons = [
        RejectionReason(
            code=RejectionCode.OUT_OF_STOCK if sku in available else RejectionCode.UNKNOWN_SKU,
            sku=sku,
            requested=quantity,
            available=available.get(sku, 0),
        ).model_dump(mode="json")
        for sku, quantity in wanted.items()
        if available.get(sku, 0) < quantity
    ]
    if not reasons:
        # What was read cannot have changed: the transaction would fail with a write conflict.
        await engine.get_collection(StockLevel).bulk_write(
            [UpdateOne({"_id": sku}, {"$inc": {"available": -wanted[sku]}}) for sku in sorted(wanted)],
            session=transaction.get_driver_session(),
        )
    lines = {} if reasons else wanted
    return await transaction.save(
        Reservation(id=order.order_id, lines=lines, reasons=reasons, decided_at=now())
    )


billing_broker = _broker("billing")
billing = FastStream(billing_broker, logger=None)
_one_at_a_time = asyncio.Lock()


@billing_broker.publisher(exchange=events, routing_key=InvoiceIssued.topic, persist=True)
@billing_broker.subscriber(inbox("billing", OrderValidated), events)
async def issue(order: OrderValidated) -> InvoiceIssued:
    # All want the same counter: side by side their transactions would only conflict and start again.
    async with _one_at_a_time:
        invoice = await in_transaction(lambda transaction: _issue(order, transaction))
    return InvoiceIssued.model_validate(invoice.event)


async def _issue(order: OrderValidated, transaction: AIOTransaction) -> Invoice:
    known = await transaction.find_one(Invoice, Invoice.id == order.order_id)
    if known is not None:
        return known
    issued_at = now()
    counter = await engine.get_collection(Series).find_one_and_update(
        {"_id": f"{issued_at:%Y}"},
        {"$inc": {"last_number": 1}},
        upsert=True,
        return_document=True,
        session=transaction.get_driver_session(),
    )
    number = counter["last_number"]
    event = _invoice(order, f"{issued_at:%Y}-{number:06}", issued_at)
    return await transaction.save(
        Invoice(id=order.order_id, number=number, event=event.model_dump(mode="json"))
    )


def _invoice(order: OrderValidated, number: str, issued_at: datetime) -> InvoiceIssued:
    lines = [
        InvoiceLine(
            **dict(line),
            tax_rate=_TAX_RATE,
            tax=(line.amount * _TAX_RATE).quantize(line.unit_price, ROUND_HALF_UP),
        )
        for line in order.lines
    ]
    tax = sum((line.tax for line in lines), Decimal(0))
    return InvoiceIssued(
        invoice_id=uuid5(NAMESPACE, f"invoice/{order.order_id}"),
        number=number,
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


notifications_broker = _broker("notifications")
notifications = FastStream(notifications_broker, logger=None)


async def send(recipient: str, text: str) -> None:
    """Stands for a mail server that takes everything at once."""


@notifications_broker.publisher(exchange=events, routing_key=NotificationSent.topic, persist=True)
@notifications_broker.subscriber(inbox("notifications", InvoiceIssued), events)
async def notify(invoice: InvoiceIssued) -> NotificationSent:
    known = await engine.find_one(Notification, Notification.id == invoice.order_id)
    if known is not None:
        return NotificationSent.model_validate(known.event)
    customer = invoice.customer
    recipient = customer.email or customer.phone or customer.id
    text = f"{customer.name or 'Customer'}: invoice {invoice.number}, {invoice.total} {invoice.currency}"
    await send(recipient, text)
    sent = NotificationSent(
        notification_id=uuid5(NAMESPACE, f"notification/{invoice.order_id}"),
        order_id=invoice.order_id,
        template="invoice-issued",
        channel="email" if customer.email else "sms",
        recipient=f"{recipient[0]}***",
        sent_at=now(),
    )
    await engine.save(Notification(id=invoice.order_id, text=text, event=sent.model_dump(mode="json")))
    return sent


orders_broker = _broker("orders")
orders = FastStream(orders_broker, logger=None)


async def _record(event: Any, **facts: Any) -> None:
    """Write down what became of an order; any order of arrival and any repeat ends the same."""
    times = {f"times.{type(event).__name__}": event.occurred_at}
    await engine.get_collection(OrderView).update_one(
        {"_id": event.order_id},
        {
            "$max": {"rank": _RANKS[type(event)]},
            "$min": times,
            "$set": facts,
            "$setOnInsert": {"recorded_at": now()},
        },
        upsert=True,
    )


@orders_broker.subscriber(inbox("orders", OrderCreated), events)
async def on_created(order: OrderCreated) -> None:
    content = order.model_dump(mode="json", exclude={"order_id"})
    await _record(order, content=content, customer_id=order.customer.id, reference=order.reference)


@orders_broker.subscriber(inbox("orders", OrderValidated), events)
async def on_validated(order: OrderValidated) -> None:
    await _record(order)


@orders_broker.subscriber(inbox("orders", OrderRejected), events)
async def on_rejected(order: OrderRejected) -> None:
    await _record(order)


@orders_broker.subscriber(inbox("orders", InvoiceIssued), events)
async def on_invoiced(invoice: InvoiceIssued) -> None:
    await _record(invoice, invoice_number=invoice.number)


@orders_broker.subscriber(inbox("orders", NotificationSent), events)
async def on_notified(notification: NotificationSent) -> None:
    await _record(notification)


_BROKERS = (stock_broker, billing_broker, notifications_broker, orders_broker)


class FastStreamPlain:
    """The contender."""

    name = "faststream-plain"
    keeps_books = True

    def commands(self, place: Place) -> Mapping[str, Sequence[str]]:  # noqa: ARG002  # all is in the environment
        run = (sys.executable, "-m", "faststream", "run")
        return {app: [*run, f"tests.bench.contenders.faststream_plain:{app}"] for app in _PREFETCH}

    def queues(self, place: Place) -> Sequence[str]:  # noqa: ARG002  # the same everywhere
        return [subscriber.queue.name for broker in _BROKERS for subscriber in broker.subscribers]

    async def prepare(self, place: Place, stock: Mapping[str, int]) -> None:
        async with RabbitBroker(place.rabbitmq_url, logger=None) as broker:
            exchange = await broker.declare_exchange(events)
            await broker.declare_queue(dead)
            for one in _BROKERS:
                for subscriber in one.subscribers:
                    queue = await broker.declare_queue(subscriber.queue)
                    await queue.bind(exchange, subscriber.queue.routing_key)
        store = open_engine(place.mongodb_url, place.database)
        await store.configure_database([StockLevel, Reservation, Series, Invoice, Notification, OrderView])
        for model in (Reservation, Series, Invoice, Notification, OrderView):
            if model.__collection__ not in await store.database.list_collection_names():
                await store.database.create_collection(model.__collection__)
        await store.save_all(
            [StockLevel(id=sku, counted=units, available=units) for sku, units in stock.items()]
        )
        store.client.close()

    def entry(self, order: OrderCreated) -> Entry:
        return Entry(EVENTS, order.topic, aio_pika.Message(**envelope(order)))

    async def books(self, place: Place) -> Books:
        store = open_engine(place.mongodb_url, place.database)
        try:
            return Books(
                invoice_numbers=[invoice.number async for invoice in store.find(Invoice)],
                units_reserved=sum(
                    [level.counted - level.available async for level in store.find(StockLevel)]
                ),
                notifications=await store.count(Notification),
                notified=await store.count(OrderView, shown({"rank": _NOTIFIED})),
            )
        finally:
            store.client.close()


CONTENDER = FastStreamPlain()
