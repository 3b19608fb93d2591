"""The one ledger: whether what is in the books is what the load makes necessary, to the last message."""

from collections import Counter
from collections.abc import Container, Iterable, Iterator
from uuid import UUID

from apps.notifications.domain import notification_id, template_of
from apps.orders.domain import Status
from contracts import (
    Event,
    InvoiceIssued,
    InvoiceVoided,
    OrderCancelled,
    OrderCreated,
    OrderRejected,
    OrderValidated,
    StockAdjusted,
)
from tests.faults import accounts
from tests.faults.accounts import channel_of, served, templates
from tests.faults.books import Books, DeadLetter, read_books
from tests.faults.load import INBOXES, Load, Placed, queues_of
from tests.faults.system import System
from tests.faults.violation import Kind, Violation
from tests.faults.wiretap import QUEUE as WIRETAP

TOLD = {"NotificationSent", "NotificationSkipped", "NotificationFailed"}


async def audit(system: System, load: Load, *, keeps: frozenset[str] = frozenset()) -> list[Violation]:
    """Read everything and name every violation; none if all promises were kept.

    Call it when the system is settled. `keeps` names queues that may hold something in the end.
    """
    return list(violations(await read_books(system), load, keeps=keeps))


def violations(books: Books, load: Load, *, keeps: frozenset[str] = frozenset()) -> Iterator[Violation]:
    """Every violation in the books, given what the load was told."""
    contradicted = tuple(map(str, load.contradicted))
    for one in _violations(books, load, keeps):
        # Whatever contradicts itself cannot be right, but even that must not be lost.
        if one.kind is Kind.LOST or not any(order_id in one.what for order_id in contradicted):
            yield one


def _violations(books: Books, load: Load, keeps: frozenset[str]) -> Iterator[Violation]:
    yield from _orders(books, load)
    yield from accounts.stock(books, load)
    yield from accounts.invoices(books, load)
    yield from accounts.credit_notes(books, load)
    yield from accounts.numbers(books)
    yield from accounts.notifications(books, load)
    yield from accounts.mails(books)
    yield from _published(books, load)
    yield from _dead_letters(books, load)
    yield from _queues(books, keeps)


def _orders(books: Books, load: Load) -> Iterator[Violation]:
    for order_id, placed in load.placed.items():
        if order_id not in books.reservations:
            yield Violation(Kind.LOST, f"order {order_id}: stock has not decided")
        if order_id in books.orders:
            yield from _order(books, load, placed)
        else:
            yield Violation(Kind.LOST, f"order {order_id} is not in the read model")
    dying = {poison.order_id for poison in load.poison.values()}
    for order_id in {*books.orders, *books.reservations} - {*load.placed, *dying}:
        yield Violation(Kind.WRONG, f"order {order_id} was never accepted")
    for order_id, order in books.orders.items():
        if order.get("publish_at") or order.get("cancel_publish_at"):
            yield Violation(Kind.LEFT_OVER, f"order {order_id} is not published")


def _order(books: Books, load: Load, placed: Placed) -> Iterator[Violation]:
    """One terminal state, the one that the decisions lead to, and everything on the way to it."""
    order, expected = books.orders[placed.order_id], _expected(books, load, placed.order_id)
    seen = Counter(
        "told" if one["event"] in TOLD else one["event"]
        for one in order["events"].values()
        if not one["event"].startswith("DeadLetter")
    )
    for name in sorted(expected.keys() - seen.keys()):
        yield Violation(Kind.LOST, f"order {placed.order_id}: {name} is not in its timeline")
    for name in sorted(seen.keys() - expected.keys()):
        yield Violation(Kind.WRONG, f"order {placed.order_id}: {name} contradicts what was decided")
    for name, times in sorted(expected.items()):
        if seen[name] > times:
            yield Violation(Kind.DUPLICATED, f"order {placed.order_id}: {name} under {seen[name]} ids")
    if (shown := Status.of_rank(order["rank"])) != (status := _status(load, placed, expected)):
        yield Violation(Kind.WRONG, f"order {placed.order_id} is {shown}, not {status}")


def _expected(books: Books, load: Load, order_id: UUID) -> Counter[str]:
    """What the timeline must hold, and how often, by what stock, billing and whoever cancels have decided."""
    told = templates(books, load, order_id)
    expected = Counter({"OrderCreated": 1, "told": len(told)})
    expected["OrderValidated" if served(books, order_id) else "OrderRejected"] = 1
    for name, is_expected in (
        ("OrderCancelled", order_id in load.cancelled),
        ("InvoiceIssued", "invoice-issued" in told),
        ("InvoiceVoided", "invoice-voided" in told),
    ):
        if is_expected:
            expected[name] = 1
    return expected


def _status(load: Load, placed: Placed, expected: Counter[str]) -> Status:
    if "OrderCancelled" in expected:
        return Status.CANCELLED
    if "OrderRejected" in expected:
        return Status.REJECTED
    return Status.NOTIFIED if channel_of(load, placed) else Status.UNREACHABLE


def _published(books: Books, load: Load) -> Iterator[Violation]:
    """Every event that was ever published left its trace behind each queue that is there for it."""
    bodies: dict[UUID, bytes] = {}
    created = set()
    contradicted = set()
    for heard in books.published:
        event = heard.event()
        if event is None or heard.message_id in load.poison:
            continue  # the dead letters account for it
        if isinstance(event, OrderCreated):
            created.add(event.order_id)
        if bodies.setdefault(event.event_id, heard.body) != heard.body:
            contradicted.add((event.topic, event.event_id))
        for queue in queues_of(event.topic):
            died = DeadLetter(heard.message_id or str(event.event_id), queue) in books.dead
            if not died and not _is_consumed(books, queue, event):
                yield Violation(Kind.LOST, f"{event.topic} {event.correlation_id} left no trace of {queue}")
    for topic, event_id in sorted(contradicted, key=str):
        yield Violation(Kind.WRONG, f"{topic} {event_id} was published with different contents")
    for order_id in load.placed.keys() - created:
        yield Violation(Kind.LOST, f"order {order_id} was never published")
    yield from _poison_in_part(books, load)


def _poison_in_part(books: Books, load: Load) -> Iterator[Violation]:
    """A message that only some of its queues cannot handle is handled by the others."""
    for heard in books.published:
        event = heard.event()
        poison = load.poison.get(heard.message_id or "")
        if event is not None and poison is not None and poison.order_id is not None:
            for queue in queues_of(event.topic) - poison.queues:
                if not _is_consumed(books, queue, event):
                    yield Violation(Kind.LOST, f"{heard.message_id} left no trace of {queue}")


def _is_consumed(books: Books, queue: str, event: Event) -> bool:
    """Whether the store behind a queue knows of the event.

    Raises:
        LookupError: the queue is new, and the ledger has yet to be told where its trace is.
    """
    app = queue.partition(".")[0]
    about = UUID(event.correlation_id)
    match app, event:
        case "orders", _:
            return str(event.event_id) in books.orders.get(about, {}).get("events", {})
        case "stock", OrderCreated() | OrderCancelled() | StockAdjusted():
            return about in _known_to_stock(books, event)
        case "billing", OrderValidated() | OrderCancelled():
            ended = books.voided if isinstance(event, OrderCancelled) else books.invoiced
            return about in ended | books.never_invoiced
        case "notifications", InvoiceIssued() | InvoiceVoided() | OrderCancelled() | OrderRejected():
            return notification_id(about, template_of(event)) in books.told
        case "documents", InvoiceIssued() | InvoiceVoided():
            number = event.credit_note_number if isinstance(event, InvoiceVoided) else event.number
            return number in books.documents
        case "webhooks", _:
            return True  # nobody has asked for any event, so none is kept
        case _:
            raise LookupError(f"where does {queue} leave its trace?")


def _known_to_stock(books: Books, event: Event) -> Container[UUID]:
    match event:
        case StockAdjusted():
            return books.adjustments
        case OrderCancelled():
            return {key for key, one in books.reservations.items() if one["released_at"] is not None}
        case _:
            return books.reservations


def _dead_letters(books: Books, load: Load) -> Iterator[Violation]:
    """The dead letters are exactly the poison: in each queue that it reached, and nothing else."""
    expected = {
        DeadLetter(poison.message_id, queue): poison.kind
        for poison in load.poison.values()
        for queue in poison.queues
    }
    for letter in expected.keys() - set(books.dead):
        yield Violation(
            Kind.LOST, f"{expected[letter]} {letter.message_id} is not among the dead of {letter.queue}"
        )
    for letter in set(books.dead) - expected.keys():
        yield Violation(Kind.WRONG, f"{letter.message_id} is among the dead of {letter.queue}, and no poison")
    for message_id in books.unrouted:
        yield Violation(Kind.LEFT_OVER, f"{message_id} was wanted by no queue and is not replayed")


def _queues(books: Books, keeps: Iterable[str]) -> Iterator[Violation]:
    for queue, size in books.queues.items():
        if size and queue not in {"dead", WIRETAP, *keeps}:
            yield Violation(Kind.LEFT_OVER, f"{size} messages in {queue}")
    for queue, key in sorted(INBOXES - books.bindings):
        yield Violation(Kind.LOST, f"{queue} is no longer bound for {key}")
