"""The ledger bites: after a clean run it finds nothing, and every violation that is planted is named."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel

from apps.kit.clock import utc_now
from apps.kit.topology import DEAD_QUEUE, EVENTS
from apps.notifications.domain import notification_id
from apps.orders.domain import Status
from contracts import Event, InvoiceIssued, OrderValidated
from tests.connected.conftest import eventually
from tests.faults.accounts import served
from tests.faults.books import read_books
from tests.faults.ledger import audit
from tests.faults.load import SKUS, Load, Poison
from tests.faults.services import Services
from tests.faults.system import System, running_system
from tests.faults.violation import Kind
from tests.faults.wiretap import QUEUE as WIRETAP

pytestmark = pytest.mark.representative

FIGURES_SECONDS = 10
"""RabbitMQ's figures follow what is in its queues; a store says the same at once."""


@dataclass
class Audited:
    """A system after a clean run, and what to plant violations in."""

    system: System
    load: Load

    async def an_order(self, *, is_served: bool = True, is_cancelled: bool = False, **customer: bool) -> Any:
        """Id of an order that stock served or refused, cancelled or not, with such contacts."""
        books = await read_books(self.system)
        return next(
            order_id
            for order_id, placed in self.load.placed.items()
            if served(books, order_id) is is_served
            and (order_id in self.load.cancelled) is is_cancelled
            and all((name in placed.content["customer"]) is has for name, has in customer.items())
        )

    def collection(self, name: str) -> Any:
        app, _, collection = name.partition(".")
        return self.system.database(app)[collection]

    @asynccontextmanager
    async def restored(self, *names: str) -> AsyncIterator[None]:
        """Whatever is done to these collections, they are as before in the end."""
        before = {name: await self.collection(name).find().to_list(None) for name in names}
        yield
        for name, documents in before.items():
            await self.collection(name).delete_many({})
            if documents:
                await self.collection(name).insert_many(documents)

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[AbstractChannel]:
        async with await aio_pika.connect(self.system.rabbitmq_url) as connection:
            yield await connection.channel()

    @asynccontextmanager
    async def overheard(self, event: Event) -> AsyncIterator[None]:
        """The event as the wiretap hears it, over an exchange that leads to no other queue."""
        before = list(await self.system.wiretap.heard())
        async with self.channel() as channel:
            exchange = await channel.declare_exchange("planted", "topic", auto_delete=True)
            await (await channel.get_queue(WIRETAP)).bind(exchange, "#")
            message = aio_pika.Message(event.model_dump_json().encode(), message_id=str(event.event_id))
            await exchange.publish(message, event.topic)
            yield
            await exchange.delete()
        self.system.wiretap.kept[:] = before

    async def until_archived(self, message_id: str) -> None:
        archive = self.collection("recovery.dead_letters")
        await eventually(lambda: archive.count_documents({"message_id": message_id}), "archived")

    async def found(self, kind: Kind, *parts: Any) -> None:
        """The ledger names, in time, a violation of this kind with all these parts in its text."""
        deadline = time.monotonic() + FIGURES_SECONDS
        while True:
            named = await audit(self.system, self.load)
            if any(one.kind is kind and all(str(part) in one.what for part in parts) for one in named):
                return
            assert time.monotonic() < deadline, [str(one) for one in named]
            await asyncio.sleep(0.2)


@pytest.fixture(scope="module")
async def audited(services: Services, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Audited]:
    home = tmp_path_factory.mktemp("ledger")
    async with running_system(services, home, "ledger") as system:
        # Few units, so that some orders are refused; much poison, so that there is some.
        async with system.load(orders=40, units=20, poison_share=0.2) as load:
            # Of articles that no other order wants: however slow the machine is, it is served.
            order = load.order()
            lines = tuple(line.model_copy(update={"sku": f"own-{line.sku}"}) for line in order.lines)
            invoiced = order.model_copy(update={"lines": lines})
            for line in lines:
                await load.count(line.sku, line.quantity)
            await system.counted(load)
            await load.publish(invoiced)
            invoices = system.database("billing")["invoices"]
            await eventually(lambda: invoices.find_one({"_id": invoiced.order_id}), "invoiced")
            await load.publish_cancellation(invoiced)
        await system.settled(load)
        yield Audited(system, load)


async def test_clean_run_has_no_violations(audited: Audited) -> None:
    """Orders served and refused, duplicates and poison: all of it balances."""
    books = await read_books(audited.system)

    assert await audit(audited.system, audited.load) == []
    assert {served(books, order_id) for order_id in audited.load.placed} == {True, False}
    assert audited.load.poison


STORES = (
    *("orders.orders", "stock.reservations", "stock.levels", "stock.adjustments"),
    *("billing.invoices", "billing.series", "notifications.notifications"),
)
Expected = tuple[Kind, Any, str]
"""Kind of the violation, what it is about, and words of its text."""
Plant = Callable[[Audited], Awaitable[Expected]]


async def order_missing(audited: Audited) -> Expected:
    order = await audited.an_order()
    await audited.collection("orders.orders").delete_one({"_id": order})
    return Kind.LOST, order, "not in the read model"


async def order_stuck(audited: Audited) -> Expected:
    order = await audited.an_order()
    document = await audited.collection("orders.orders").find_one({"_id": order})
    (invoiced,) = (key for key, one in document["events"].items() if one["event"] == "InvoiceIssued")
    await audited.collection("orders.orders").update_one(
        {"_id": order}, {"$unset": {f"events.{invoiced}": ""}}
    )
    return Kind.LOST, order, "InvoiceIssued is not in its timeline"


async def order_in_another_state(audited: Audited) -> Expected:
    order = await audited.an_order()
    update = {"$set": {"rank": Status.VALIDATED.rank}}
    await audited.collection("orders.orders").update_one({"_id": order}, update)
    return Kind.WRONG, order, "is validated, not"


async def order_with_two_outcomes(audited: Audited) -> Expected:
    order = await audited.an_order()
    update = {"$set": {f"events.{uuid4()}": {"event": "OrderRejected", "at": None}}}
    await audited.collection("orders.orders").update_one({"_id": order}, update)
    return Kind.WRONG, order, "OrderRejected contradicts"


async def event_under_two_ids(audited: Audited) -> Expected:
    order = await audited.an_order()
    update = {"$set": {f"events.{uuid4()}": {"event": "InvoiceIssued", "at": None}}}
    await audited.collection("orders.orders").update_one({"_id": order}, update)
    return Kind.DUPLICATED, order, "InvoiceIssued under 2 ids"


async def order_that_nobody_placed(audited: Audited) -> Expected:
    order = uuid4()
    document = {"_id": order, "rank": Status.CREATED.rank, "events": {}}
    await audited.collection("orders.orders").insert_one(document)
    return Kind.WRONG, order, "was never accepted"


async def order_not_published(audited: Audited) -> Expected:
    order = await audited.an_order()
    # Not due before the ledger has read it, else the relay publishes it.
    update = {"$set": {"publish_at": utc_now() + timedelta(hours=1)}}
    await audited.collection("orders.orders").update_one({"_id": order}, update)
    return Kind.LEFT_OVER, order, "is not published"


async def order_not_decided(audited: Audited) -> Expected:
    order = await audited.an_order()
    await audited.collection("stock.reservations").delete_one({"_id": order})
    return Kind.LOST, order, "stock has not decided"


async def reservation_of_too_much(audited: Audited) -> Expected:
    order = await audited.an_order()
    update = {"$inc": {"lines.0.quantity": 1}}
    await audited.collection("stock.reservations").update_one({"_id": order}, update)
    return Kind.WRONG, order, "reserved"


async def stock_below_zero(audited: Audited) -> Expected:
    await audited.collection("stock.levels").update_one({"_id": SKUS[0]}, {"$set": {"available": -1}})
    return Kind.WRONG, SKUS[0], "-1 available"


async def stock_that_does_not_add_up(audited: Audited) -> Expected:
    await audited.collection("stock.levels").update_one({"_id": SKUS[0]}, {"$inc": {"available": 1}})
    return Kind.WRONG, SKUS[0], f"of {audited.load.initial[SKUS[0]]}"


async def units_reserved_for_nobody(audited: Audited) -> Expected:
    update = {"$inc": {"reserved": 1, "available": -1}}
    await audited.collection("stock.levels").update_one({"_id": SKUS[0]}, update)
    return Kind.WRONG, SKUS[0], "over all orders"


async def level_missing(audited: Audited) -> Expected:
    await audited.collection("stock.levels").delete_one({"_id": SKUS[0]})
    return Kind.LOST, SKUS[0], "has no level"


async def invoice_missing(audited: Audited) -> Expected:
    order = await audited.an_order()
    await audited.collection("billing.invoices").delete_one({"_id": order})
    return Kind.LOST, order, "has no invoice"


async def invoice_number_missing(audited: Audited) -> Expected:
    order = await audited.an_order()
    invoice = await audited.collection("billing.invoices").find_one_and_update(
        {"_id": order}, {"$set": {"number": "1999-000001"}}
    )
    return Kind.LOST, invoice["number"], "is a gap"


async def invoice_number_twice(audited: Audited) -> Expected:
    invoices = audited.collection("billing.invoices").find({"event": {"$ne": None}})
    first, second = await invoices.limit(2).to_list(None)
    year, _, number = first["number"].partition("-")
    # The unique index knows numbers as text only.
    update = {"$set": {"number": f"{year}-0{number}"}}
    await audited.collection("billing.invoices").update_one({"_id": second["_id"]}, update)
    return Kind.DUPLICATED, first["number"], "exists 2 times"


async def counter_beyond_the_invoices(audited: Audited) -> Expected:
    series = await audited.collection("billing.series").find_one({"_id": {"$regex": "^2"}})
    await audited.collection("billing.series").update_one(
        {"_id": series["_id"]}, {"$inc": {"last_number": 1}}
    )
    return Kind.LOST, f"{series['_id']}-{series['last_number'] + 1:06}", "is a gap"


async def counter_behind_the_invoices(audited: Audited) -> Expected:
    series = await audited.collection("billing.series").find_one({"_id": {"$regex": "^2"}})
    await audited.collection("billing.series").update_one(
        {"_id": series["_id"]}, {"$inc": {"last_number": -1}}
    )
    return Kind.WRONG, series["_id"], "stands at"


async def order_invoiced_twice(audited: Audited) -> Expected:
    order = await audited.an_order()
    invoices = audited.collection("billing.invoices")
    invoice = await invoices.find_one({"_id": order})
    await invoices.insert_one(invoice | {"_id": uuid4(), "number": "1999-000001"})
    return Kind.DUPLICATED, order, "has 2 invoices"


async def refused_order_invoiced(audited: Audited) -> Expected:
    order, refused = await audited.an_order(), await audited.an_order(is_served=False)
    update = {"$set": {"event.order_id": str(refused)}}
    await audited.collection("billing.invoices").update_one({"_id": order}, update)
    return Kind.WRONG, refused, "has an invoice and no reservation"


async def invoice_of_another_sum(audited: Audited) -> Expected:
    order = await audited.an_order()
    update = {"$set": {"event.subtotal": "0.01"}}
    await audited.collection("billing.invoices").update_one({"_id": order}, update)
    return Kind.WRONG, order, "another sum"


async def invoice_number_misread(audited: Audited) -> Expected:
    order = await audited.an_order()
    update = {"$set": {"invoice_number": "1999-000001"}}
    await audited.collection("orders.orders").update_one({"_id": order}, update)
    return Kind.WRONG, order, "shows another invoice number"


async def nobody_told(audited: Audited) -> Expected:
    order = await audited.an_order()
    await audited.collection("notifications.notifications").delete_one({"order_id": order})
    return Kind.LOST, order, "nobody was told"


async def told_twice(audited: Audited) -> Expected:
    order = await audited.an_order()
    log = audited.collection("notifications.notifications")
    await log.insert_one(await log.find_one({"order_id": order}) | {"_id": uuid4()})
    return Kind.DUPLICATED, order, "2 times"


async def told_what_did_not_happen(audited: Audited) -> Expected:
    order = await audited.an_order()
    log = audited.collection("notifications.notifications")
    entry = {"_id": uuid4(), "template": "order-rejected"}
    await log.insert_one(await log.find_one({"order_id": order}) | entry)
    return Kind.WRONG, order, "which did not happen"


async def told_by_another_way(audited: Audited) -> Expected:
    order = await audited.an_order(email=True)
    log = audited.collection("notifications.notifications")
    await log.update_one({"order_id": order}, {"$set": {"channel": "sms"}})
    return Kind.WRONG, order, "told by sms, not email"


async def mail_logged_and_not_sent(audited: Audited) -> Expected:
    entry = {"_id": uuid4(), "order_id": uuid4(), "template": "invoice-issued", "channel": "email"}
    await audited.collection("notifications.notifications").insert_one(entry)
    return Kind.LOST, entry["_id"], "was not sent"


async def mail_sent_and_not_logged(audited: Audited) -> Expected:
    order = await audited.an_order(email=True)
    await audited.collection("notifications.notifications").delete_one({"order_id": order})
    return Kind.WRONG, notification_id(order, "invoice-issued"), "is not in the log"


async def cancelled_order_not_released(audited: Audited) -> Expected:
    order = await audited.an_order(is_cancelled=True)
    update = {"$set": {"released_at": None}}
    await audited.collection("stock.reservations").update_one({"_id": order}, update)
    return Kind.LOST, order, "stock has not released it"


async def order_released_that_nobody_cancelled(audited: Audited) -> Expected:
    order = await audited.an_order()
    update = {"$set": {"released_at": utc_now()}}
    await audited.collection("stock.reservations").update_one({"_id": order}, update)
    return Kind.WRONG, order, "released, and nobody has cancelled it"


async def cancelled_order_with_a_valid_invoice(audited: Audited) -> Expected:
    order = await audited.an_order(is_cancelled=True)
    update = {"$set": {"voided": None}}
    await audited.collection("billing.invoices").update_one({"_id": order}, update)
    return Kind.LOST, order, "its invoice is not void"


async def invoice_void_that_nobody_cancelled(audited: Audited) -> Expected:
    order = await audited.an_order()
    await audited.collection("billing.invoices").update_one({"_id": order}, {"$set": {"voided": {"any": 1}}})
    return Kind.WRONG, order, "its invoice is void"


async def credit_note_number_missing(audited: Audited) -> Expected:
    order = await audited.an_order(is_cancelled=True)
    invoice = await audited.collection("billing.invoices").find_one_and_update(
        {"_id": order}, {"$set": {"credit_note_number": "CN-1999-000001"}}
    )
    return Kind.LOST, invoice["credit_note_number"], "is a gap"


async def credit_note_number_misread(audited: Audited) -> Expected:
    order = await audited.an_order(is_cancelled=True)
    update = {"$set": {"credit_note_number": "CN-1999-000001"}}
    await audited.collection("orders.orders").update_one({"_id": order}, update)
    return Kind.WRONG, order, "shows another credit note"


async def cancelled_order_in_another_state(audited: Audited) -> Expected:
    order = await audited.an_order(is_cancelled=True)
    update = {"$set": {"rank": Status.NOTIFIED.rank}}
    await audited.collection("orders.orders").update_one({"_id": order}, update)
    return Kind.WRONG, order, "is notified, not cancelled"


async def event_not_consumed(audited: Audited) -> Expected:
    adjustment = await audited.collection("stock.adjustments").find_one_and_delete({})
    return Kind.LOST, adjustment["_id"], "left no trace of stock.stock-adjusted"


@pytest.mark.parametrize(
    "plant",
    [
        order_missing,
        order_stuck,
        order_in_another_state,
        order_with_two_outcomes,
        event_under_two_ids,
        order_that_nobody_placed,
        order_not_published,
        order_not_decided,
        reservation_of_too_much,
        stock_below_zero,
        stock_that_does_not_add_up,
        units_reserved_for_nobody,
        level_missing,
        invoice_missing,
        invoice_number_missing,
        invoice_number_twice,
        counter_beyond_the_invoices,
        counter_behind_the_invoices,
        order_invoiced_twice,
        refused_order_invoiced,
        invoice_of_another_sum,
        invoice_number_misread,
        nobody_told,
        told_twice,
        told_what_did_not_happen,
        told_by_another_way,
        mail_logged_and_not_sent,
        mail_sent_and_not_logged,
        cancelled_order_not_released,
        order_released_that_nobody_cancelled,
        cancelled_order_with_a_valid_invoice,
        invoice_void_that_nobody_cancelled,
        credit_note_number_missing,
        credit_note_number_misread,
        cancelled_order_in_another_state,
        event_not_consumed,
    ],
    ids=lambda plant: plant.__name__,
)
async def test_what_is_wrong_in_a_store_is_named(audited: Audited, plant: Plant) -> None:
    """One document that is missing, too many or altered is a violation, by kind and by name."""
    async with audited.restored(*STORES):
        await audited.found(*await plant(audited))


async def test_event_that_reached_nobody_is_named(audited: Audited) -> None:
    """An event that was published and left no trace behind one of its queues is lost."""
    stranger = OrderValidated.model_validate(OrderValidated.example)
    async with audited.overheard(stranger):
        await audited.found(Kind.LOST, stranger.order_id, "left no trace of billing.order-validated")


async def test_event_that_says_two_things_is_named(audited: Audited) -> None:
    """The same event id with another content is wrong: consumers know it as a repeat."""
    order = await audited.an_order()
    invoice = await audited.collection("billing.invoices").find_one({"_id": order})
    other = InvoiceIssued.model_validate(invoice["event"] | {"number": "1999-000001"})
    async with audited.overheard(other):
        await audited.found(Kind.WRONG, other.event_id, "different contents")


async def test_order_that_was_never_published_is_named(audited: Audited) -> None:
    """An accepted order of which RabbitMQ never heard is lost, whatever the stores say."""
    order = await audited.an_order()
    heard = audited.system.wiretap.kept
    before = list(heard)
    heard[:] = [one for one in heard if str(order).encode() not in one.body]
    await audited.found(Kind.LOST, order, "was never published")
    heard[:] = before


async def test_poison_that_vanished_is_named(audited: Audited) -> None:
    """A poisonous message that is in no dead letter is lost."""
    poison = Poison("vanished", frozenset({"stock.order-created"}), "planted")
    audited.load.poison[poison.message_id] = poison
    await audited.found(Kind.LOST, "vanished", "stock.order-created")
    del audited.load.poison[poison.message_id]


async def test_dead_letter_that_is_no_poison_is_named(audited: Audited) -> None:
    """A message that died without need is wrong, in the archive or still on its way there."""
    async with audited.channel() as channel:
        message = aio_pika.Message(
            b"{}", message_id="innocent", headers={"orderflow-queue": "stock.order-created"}
        )
        await channel.default_exchange.publish(message, DEAD_QUEUE.name)
        await audited.found(Kind.WRONG, "innocent", "stock.order-created", "no poison")
        await audited.until_archived("innocent")
        await audited.found(Kind.WRONG, "innocent", "stock.order-created", "no poison")
    await audited.collection("recovery.dead_letters").delete_many({"message_id": "innocent"})


async def test_message_left_in_a_queue_is_named(audited: Audited) -> None:
    """Nothing may wait anywhere in the end, in a retry level or in an inbox."""
    async with audited.channel() as channel:
        queue = await channel.declare_queue("retry.forgotten", durable=True)
        await channel.default_exchange.publish(aio_pika.Message(b"{}"), queue.name)
        await audited.found(Kind.LEFT_OVER, "1 messages in retry.forgotten")
        await queue.delete(if_empty=False)


async def test_binding_that_is_gone_is_named(audited: Audited) -> None:
    """A queue that no longer gets its events is a violation, even while none was published."""
    async with audited.channel() as channel:
        queue = await channel.get_queue("billing.order-validated")
        await queue.unbind(EVENTS.name, OrderValidated.topic)
        await audited.found(Kind.LOST, queue.name, "no longer bound")
        await queue.bind(EVENTS.name, OrderValidated.topic)


async def test_message_that_no_queue_wanted_is_named(audited: Audited) -> None:
    """What was archived as unrouted is left over until somebody replays it."""
    archive = audited.collection("recovery.dead_letters")
    letter = {"_id": uuid4(), "source": "unrouted", "state": "open", "message_id": "unwanted"}
    await archive.insert_one(letter)
    await audited.found(Kind.LEFT_OVER, "unwanted", "no queue")
    await archive.delete_one({"_id": letter["_id"]})
