"""The read model on a real MongoDB: whatever the order of arrival, the order ends the same."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from conftest import System, eventually, new_order

from apps.billing.domain import draft, voided
from apps.kit.clock import utc_now
from apps.kit.mongo import Database
from apps.kit.paging import Position
from apps.orders.application import AcceptedOrder, OrderFilter
from apps.orders.document import Order
from apps.orders.domain import FROM_THE_START, Status, Step
from apps.orders.mongo import DOCUMENTS, MongoOrderBook
from apps.orders.views import OrderView
from contracts import (
    DeadLetterClosed,
    DeadLetterOpened,
    Event,
    InvoiceIssued,
    NotificationSent,
    NotificationSkipped,
    OrderCancelled,
    OrderCreated,
    OrderRejected,
    OrderValidated,
    RejectionCode,
    RejectionReason,
)

pytestmark = pytest.mark.connected

AT_ONCE = timedelta(milliseconds=-1)
"""Any order is unchanged for so long."""


@pytest.fixture
async def database(system: System) -> AsyncIterator[Database]:
    """A database of the test's own."""
    database = Database(system.mongo, f"orderflow_read_model_{uuid4().hex[:8]}")
    await database.prepare(DOCUMENTS)
    yield database
    await system.mongo.drop_database(database.name)


@pytest.fixture
def book(database: Database) -> MongoOrderBook:
    return MongoOrderBook(database)


def _life(order: OrderCreated) -> list[Event]:
    """Every event of an order that goes through, after a message about it was dead for a while."""
    order_id = {"order_id": order.order_id}
    validated = OrderValidated.of(
        order, **order_id, placed_at=order.placed_at, validated_at="2026-11-22T10:15:01Z"
    )
    death = order_id | {"occurrence_id": order.order_id}
    return [
        order,
        validated,
        draft(validated, {}).issue(1, validated.validated_at),
        NotificationSent.model_validate(
            NotificationSent.example | order_id | {"notification_id": order.order_id}
        ),
        DeadLetterOpened.model_validate(DeadLetterOpened.example | death),
        DeadLetterClosed.model_validate(DeadLetterClosed.example | death),
    ]


def _accepted(order: OrderCreated, **due: float) -> AcceptedOrder:
    return AcceptedOrder(order, publish_at=utc_now() + timedelta(**due))


def _end(order: OrderCreated) -> list[Event]:
    """Every event of its cancellation, after those of its life."""
    invoice = next(event for event in _life(order) if isinstance(event, InvoiceIssued))
    cancellation = OrderCancelled(
        order_id=order.order_id, customer=order.customer, reason="any", cancelled_at=utc_now()
    )
    told = [
        NotificationSkipped(
            notification_id=uuid4(),
            order_id=order.order_id,
            template=template,
            reason="switched_off",
            skipped_at=utc_now(),
        )
        for template in ("order-cancelled", "invoice-voided")
    ]
    return [cancellation, voided(invoice, cancellation, 1, invoice.issued_at), *told]


async def _stuck(book: MongoOrderBook, unchanged_for: timedelta = AT_ONCE) -> list[UUID]:
    """The ids of all stuck orders, read in pages of two."""
    ids: list[UUID] = []
    after = None
    while page := await book.list_stuck(unchanged_for, OrderFilter(), after, 2):
        ids += [order.id for order in page]
        after = Position(page[-1].changed_at, page[-1].id)
    return ids


async def _record_all(book: MongoOrderBook, events: Iterable[Event]) -> None:
    """One after the other."""
    for event in events:
        await book.record(event)


async def test_any_order_of_arrival_with_repeats_ends_the_same(database: Database) -> None:
    """Fifty orders whose events come shuffled, tripled and through two processes' adapters at once."""
    seed = random.randrange(1_000_000)  # noqa: S311  # as below
    shuffler = random.Random(seed)  # noqa: S311  # a seed to repeat a failure by
    books = [MongoOrderBook(database) for _ in range(2)]
    orders = [new_order(("any", 2)) for _ in range(50)]
    deliveries = [event for order in orders for event in _life(order) * 3]
    shuffler.shuffle(deliveries)

    await asyncio.gather(*(shuffler.choice(books).record(event) for event in deliveries))

    collection = database.collection(Order)
    own = {"_id", "recorded_at", "changed_at", "events", "dead_letters"}
    ends: list[dict[str, Any]] = []
    for order in orders:
        document = await collection.find_one({"_id": order.order_id})
        assert document is not None
        assert set(document["events"]) == {str(event.event_id) for event in _life(order)}, f"seed {seed}"
        assert document["dead_letters"][str(order.order_id)].keys() == {"opened", "closed"}
        ends.append({name: value for name, value in document.items() if name not in own})
    assert (ends[0]["rank"], ends[0]["awaits"]) == (Status.NOTIFIED.rank, {})
    assert all(end == ends[0] for end in ends), f"seed {seed}"
    assert await _stuck(books[0]) == []


async def test_stored_order_survives_a_read_before_its_first_event(book: MongoOrderBook) -> None:
    """An order of which only a late event is known can be shown: what is missing is empty."""
    told = _life(new_order(("any", 1)))[3]
    assert isinstance(told, NotificationSent)

    await book.record(told)

    order = await book.find(told.order_id)
    assert order is not None
    assert (order.rank, order.content, order.reasons) == (Status.NOTIFIED.rank, None, [])
    assert order.created is None
    assert await book.find(uuid4()) is None


async def test_order_whose_announcement_was_missed_can_be_announced_again(book: MongoOrderBook) -> None:
    """OrderValidated tells all that OrderCreated did, so the very same event can be published from it."""
    order = new_order(("any", 1), email="a@example.com")
    _, validated, invoice, *_ = _life(order)

    await _record_all(book, [invoice])
    known = await book.find(order.order_id)
    assert known is not None
    assert known.created is None
    await _record_all(book, [validated])

    known = await book.find(order.order_id)
    assert known is not None
    assert known.created == order


async def test_order_is_stuck_until_all_its_steps_were_heard_of(book: MongoOrderBook) -> None:
    """From the moment it is accepted, an order awaits each step; the last one takes it off the list."""
    order = new_order(("any", 1)).model_copy(update={"placed_at": utc_now()})
    created, validated, invoice, told, *_ = _life(order)
    await book.accept(_accepted(order, hours=1))
    awaited = []
    for event in (created, validated, told, invoice):
        assert await _stuck(book) == [order.order_id]
        assert await _stuck(book, timedelta(hours=1)) == []
        assert await book.count_stuck(AT_ONCE, 10) == 1
        known = await book.find(order.order_id)
        assert known is not None
        awaited.append(set(known.awaits))
        await book.record(event)

    assert awaited == [
        set(FROM_THE_START),
        {Step.STOCK, Step.INVOICE, Step.NOTIFICATION},
        {Step.INVOICE, Step.NOTIFICATION},
        {Step.INVOICE},
    ]
    assert await _stuck(book) == []
    assert await book.count_stuck(AT_ONCE, 10) == 0


async def test_list_of_stuck_orders_agrees_with_what_they_show(book: MongoOrderBook) -> None:
    """An order is in it just when it shows that it awaits something, whatever of its end was missed."""
    shuffler = random.Random(7)  # noqa: S311  # the same cases in every run
    orders = [new_order(("any", 1)) for _ in range(40)]
    for order in orders:
        events = [*_life(order), *_end(order)]
        missed = shuffler.sample(events, shuffler.choice([0, 0, 1, 1, 1, 2]))
        heard = [event for event in events if event not in missed]
        await _record_all(book, shuffler.sample(heard, len(heard)))

    known = await book.list(OrderFilter(), None, len(orders))
    awaiting = {order.id for order in known if order.awaited}
    assert 0 < len(awaiting) < len(orders) == len(known)
    assert set(await _stuck(book)) == awaiting
    assert await book.count_stuck(AT_ONCE, 99) == len(awaiting)


async def test_accepted_cancellation_is_awaited_until_it_comes_back(book: MongoOrderBook) -> None:
    """An order that was through long ago is under way again, and not stuck at once."""
    order = new_order(("any", 1))
    await _record_all(book, _life(order))
    cancellation, *rest = _end(order)
    assert isinstance(cancellation, OrderCancelled)
    long_ago = utc_now() - timedelta(days=1)
    await book._orders.update_one({"_id": order.order_id}, {"$set": {"changed_at": long_ago}})

    known = await book.cancel(cancellation, utc_now())
    assert known is not None
    assert known.awaited == [Step.CANCELLATION, Step.CREDIT_NOTE, Step.NOTIFICATION]
    assert await _stuck(book, timedelta(hours=1)) == []
    assert await _stuck(book) == [order.order_id]
    await _record_all(book, rest)
    known = await book.find(order.order_id)
    assert known is not None
    assert known.awaited == [Step.CANCELLATION]
    await book.record(cancellation)
    assert await _stuck(book) == []


async def test_order_is_found_by_what_its_cancellation_tells(book: MongoOrderBook) -> None:
    """By customer and reference, until the order itself is known by its own."""
    order = new_order(("any", 1), id="c-own")
    wish = OrderCancelled(
        order_id=order.order_id,
        reference="r-wish",
        customer={"id": "c-wish"},
        reason="any",
        cancelled_at=utc_now(),
    )

    async def found(**wanted: str) -> bool:
        return bool(await book.list(OrderFilter(**wanted), None, 9))

    await book.record(wish)
    assert await found(customer_id="c-wish", reference="r-wish")
    assert not await found(customer_id="c-own")
    await book.record(order)
    assert await found(customer_id="c-own")
    assert not await found(customer_id="c-wish")
    assert not await found(reference="r-wish")


async def test_refused_order_awaits_no_invoice(book: MongoOrderBook) -> None:
    """A refusal of which the customer was told ends the order."""
    order = new_order(("any", 1))
    refusal = OrderRejected.model_validate(
        OrderRejected.example | {"order_id": order.order_id, "customer": order.customer, "reference": None}
    )
    await _record_all(book, [order, refusal])
    assert await _stuck(book) == [order.order_id]
    await book.record(_life(order)[3])
    assert await _stuck(book) == []


async def test_stuck_orders_come_longest_unchanged_first_and_pages_stay_right(book: MongoOrderBook) -> None:
    """What is heard of while the list is read leaves its place; all others are read once."""
    orders = [new_order(("any", 1)) for _ in range(7)]
    await _record_all(book, orders)
    first = await book.list_stuck(AT_ONCE, OrderFilter(), None, 3)
    assert [order.id for order in first] == [order.order_id for order in orders[:3]]

    await book.record(_life(orders[1])[1])  # was read
    await book.record(_life(orders[4])[1])  # was not

    rest = await book.list_stuck(AT_ONCE, OrderFilter(), Position(first[-1].changed_at, first[-1].id), 10)
    assert [order.id for order in rest] == [orders[place].order_id for place in (3, 5, 6, 1, 4)]


async def test_stuck_orders_are_filtered(book: MongoOrderBook) -> None:
    """Status and customer narrow the list of stuck orders as they do any list."""
    mine, other = new_order(("any", 1), id="c-mine"), new_order(("any", 1))
    await _record_all(book, [mine, other])
    assert [one.id for one in await book.list_stuck(AT_ONCE, OrderFilter(None, "c-mine"), None, 9)] == [
        mine.order_id
    ]
    assert not await book.list_stuck(AT_ONCE, OrderFilter(Status.INVOICED), None, 9)


async def test_lists_of_what_waits_have_small_indexes(database: Database, book: MongoOrderBook) -> None:
    """Neither stuck nor unpublished orders are looked for among the thousands that are through."""
    through = [new_order(("any", 1)) for _ in range(200)]
    events = [event for order in through for event in _life(order)]
    events += [event for order in through[::2] for event in _end(order)]
    await asyncio.gather(*(book.record(event) for event in events))
    waiting = new_order(("any", 1)).model_copy(update={"placed_at": utc_now()})
    await book.accept(_accepted(waiting, hours=-1))
    mongo = database.client[database.name]
    await mongo.command("profile", 2)
    assert len(await _stuck(book)) == 1
    assert await book.count_stuck(AT_ONCE, 10) == 1
    assert await book.oldest_unpublished() is not None
    assert len(await book.claim_unpublished(timedelta(seconds=9), 10)) == 1
    await mongo.command("profile", 0)

    reads = [
        read
        async for read in mongo["system.profile"].find({"op": {"$in": ["query", "command"]}})
        if read.get("docsExamined") is not None and "find" in read["command"]
    ]
    assert len(reads) >= 5
    assert max(read["docsExamined"] for read in reads) <= 1
    assert max(read["keysExamined"] for read in reads) <= 2
    summaries = " ".join(read["planSummary"] for read in reads)
    assert "changed_at" in summaries
    assert "publish_at" in summaries


async def test_order_known_only_by_a_dead_letter(book: MongoOrderBook) -> None:
    """It is found as stuck while its message waits for an operator, and no relay publishes it."""
    order = new_order(("any", 1))
    opened, closed = _life(order)[4:]

    await book.record(opened)

    known = await book.find(order.order_id)
    assert known is not None
    view = OrderView.of(known)
    assert (view.status, view.lines, view.open_dead_letters) == (Status.RECEIVED, [], 1)
    assert view.dead_letters[0].queue == "billing.order-validated"
    assert await _stuck(book) == [order.order_id]
    assert await book.claim_unpublished(timedelta(seconds=9), 10) == []
    assert await book.oldest_unpublished() is None

    await book.record(closed)
    assert await _stuck(book) == [], "perhaps there never was such an order"

    await book.record(order)
    assert await _stuck(book) == [order.order_id], "there was"


async def test_relays_share_what_is_due_without_overlap(database: Database) -> None:
    """Four relays that claim at once get every due order between them, none of them twice."""
    books = [MongoOrderBook(database) for _ in range(4)]
    orders = [new_order(("any", 1)) for _ in range(120)]
    await asyncio.gather(*(books[0].accept(_accepted(order, seconds=-1)) for order in orders))
    await books[0].accept(_accepted(new_order(("not due", 1)), hours=1))
    claimed: list[UUID] = []

    async def all_claimed() -> bool:
        lease = timedelta(minutes=5)
        for part in await asyncio.gather(*(book.claim_unpublished(lease, 20) for book in books)):
            claimed.extend(order.order_id for order in part)
        return len(claimed) >= len(orders)

    await eventually(all_claimed, "all claimed")
    assert sorted(claimed) == sorted(order.order_id for order in orders)
    assert await books[0].claim_unpublished(timedelta(minutes=5), 20) == []


async def test_claim_ends_with_its_lease_and_with_the_publish(book: MongoOrderBook) -> None:
    """What its claimer did not publish is due again, the oldest first; what RabbitMQ has is not."""
    orders = [
        new_order(("any", 1)).model_copy(update={"placed_at": utc_now() + timedelta(seconds=age)})
        for age in (-1, -3, -2)
    ]
    for order in orders:
        await book.accept(_accepted(order, seconds=-1))
    over_at_once = timedelta(seconds=-1)

    assert await book.claim_unpublished(over_at_once, 2) == [orders[1], orders[2]]
    assert await book.oldest_unpublished() == orders[1].placed_at
    await book.mark_published(orders[1])
    assert await book.oldest_unpublished() == orders[2].placed_at
    assert await book.claim_unpublished(over_at_once, 9) == [orders[2], orders[0]]
    await _record_all(book, [orders[2]])
    assert await book.claim_unpublished(over_at_once, 9) == [orders[0]], "the other came back from RabbitMQ"


async def test_cancellation_is_due_until_rabbitmq_has_it(book: MongoOrderBook) -> None:
    """The first of two that cancel an order at once is stored, and waits as orders do, beside them."""
    order = new_order(("any", 1))
    await book.accept(_accepted(order, seconds=-1))
    cancellations = [
        OrderCancelled(
            order_id=order.order_id,
            reference=order.reference,
            customer=order.customer,
            reason=reason,
            cancelled_at=utc_now(),
        )
        for reason in ("one", "other")
    ]
    stored = await asyncio.gather(*(book.cancel(each, utc_now()) for each in cancellations))
    (cancelled,) = {
        known.cancelled.reason: known.cancelled for known in stored if known and known.cancelled
    }.values()
    assert cancelled in cancellations

    over_at_once = timedelta(seconds=-1)
    assert await book.claim_unpublished(over_at_once, 9) == [order, cancelled]
    await book.mark_published(order)
    assert await book.claim_unpublished(over_at_once, 9) == [cancelled]
    assert await book.oldest_unpublished() == cancelled.cancelled_at
    await book.mark_published(cancelled)
    assert await book.claim_unpublished(over_at_once, 9) == []
    assert await book.oldest_unpublished() is None


async def test_order_is_due_though_its_cancellation_came_back(book: MongoOrderBook) -> None:
    """A cancellation that overtakes its order in the ingress does not take the order off the list."""
    order = new_order(("any", 1))
    await book.accept(_accepted(order, seconds=-1))
    cancellation = OrderCancelled(
        order_id=order.order_id, customer=order.customer, reason="any", cancelled_at=utc_now()
    )
    await _record_all(book, [cancellation])
    over_at_once = timedelta(seconds=-1)
    assert await book.claim_unpublished(over_at_once, 9) == [order]
    await _record_all(book, [order])
    assert await book.claim_unpublished(over_at_once, 9) == []


async def test_cancellation_that_came_back_is_not_due(book: MongoOrderBook) -> None:
    """What the read model has heard of was published, and the earlier of two cancellations counts."""
    order = new_order(("any", 1))
    await _record_all(book, [order])
    late, early = (
        OrderCancelled(order_id=order.order_id, customer=order.customer, reason=reason, cancelled_at=at)
        for reason, at in (("late", utc_now()), ("early", utc_now() - timedelta(hours=1)))
    )
    await book.cancel(late, utc_now())
    await _record_all(book, [late, early, late])
    assert await book.claim_unpublished(timedelta(seconds=-1), 9) == []
    known = await book.find(order.order_id)
    assert known is not None
    assert known.cancelled == early


async def test_rejected_order_is_not_cancelled(book: MongoOrderBook) -> None:
    """Nothing is stored of the wish, as there is nothing to cancel."""
    order = new_order(("any", 1))
    reasons = (RejectionReason(code=RejectionCode.UNKNOWN_SKU, sku="any", requested=1, available=0),)
    about = {"order_id": order.order_id, "customer": order.customer}
    rejected = OrderRejected(**about, rejected_at=utc_now(), reasons=reasons)
    await _record_all(book, [order, rejected])
    known = await book.cancel(OrderCancelled(**about, reason="any", cancelled_at=utc_now()), utc_now())
    assert known is not None
    assert known.cancelled is None


def test_invoice_of_the_test_is_one_of_billing() -> None:
    """The events that these tests make up agree with one another, as those of the apps do."""
    order = new_order(("any", 2))
    (invoice,) = [event for event in _life(order) if isinstance(event, InvoiceIssued)]
    assert (invoice.subtotal, invoice.customer) == (order.total, order.customer)
