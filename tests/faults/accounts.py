"""What the stores of stock, billing and notifications must hold, given what was accepted."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from decimal import Decimal
from uuid import UUID

from tests.faults.books import Books, Document
from tests.faults.load import Load, Placed
from tests.faults.violation import Kind, Violation


def served(books: Books, order_id: UUID) -> bool:
    """Whether stock has reserved all that the order wants."""
    reservation = books.reservations.get(order_id)
    return reservation is not None and not reservation["reasons"]


def templates(books: Books, load: Load, order_id: UUID) -> frozenset[str]:
    """All that the customer of an order must have been told."""
    told = {"order-cancelled"} if order_id in load.cancelled else set[str]()
    if served(books, order_id) and (order_id in books.invoiced or order_id not in load.cancelled):
        told.add("invoice-issued")
    if order_id in books.voided:
        told.add("invoice-voided")
    if order_id in books.reservations and not served(books, order_id):
        told.add(_refusal(books.reservations[order_id]))
    return frozenset(told)


def _refusal(reservation: Document) -> str:
    is_cancelled = all(reason["code"] == "cancelled" for reason in reservation["reasons"])
    return "order-cancelled" if is_cancelled else "order-rejected"


def channel_of(load: Load, placed: Placed) -> str | None:
    """The one way by which a customer can be told."""
    customer = placed.content["customer"]
    if placed.order_id in load.refused:
        return None
    return "email" if "email" in customer else "sms" if "phone" in customer else None


def stock(books: Books, load: Load) -> Iterator[Violation]:
    """Every order took what it wants or nothing, a cancelled one gave it back, and the levels say so."""
    reserved: Counter[str] = Counter()
    for order_id, reservation in books.reservations.items():
        taken = Counter({line["sku"]: line["quantity"] for line in reservation["lines"]})
        is_released = reservation["released_at"] is not None
        reserved += Counter() if is_released else taken
        if is_released and order_id not in load.cancelled:
            yield Violation(Kind.WRONG, f"order {order_id}: released, and nobody has cancelled it")
        if order_id in load.cancelled and not is_released:
            yield Violation(Kind.LOST, f"order {order_id}: cancelled, and stock has not released it")
        if bool(taken) == bool(reservation["reasons"]):
            yield Violation(Kind.WRONG, f"order {order_id}: reserved and refused, or neither")
        elif taken and (placed := load.placed.get(order_id)) and taken != (wanted := _wanted(placed)):
            yield Violation(Kind.WRONG, f"order {order_id}: reserved {dict(taken)}, not {dict(wanted)}")
    for sku, initial in load.initial.items():
        if sku in books.levels:
            yield from _level(books.levels[sku], initial, reserved[sku])
        else:
            yield Violation(Kind.LOST, f"article {sku} has no level")


def _wanted(placed: Placed) -> Counter[str]:
    wanted: Counter[str] = Counter()
    for line in placed.content["lines"]:
        wanted[line["sku"]] += line["quantity"]
    return wanted


def _level(level: Document, initial: int, reserved_by_orders: int) -> Iterator[Violation]:
    sku, available, reserved = level["_id"], level["available"], level["reserved"]
    if available < 0:
        yield Violation(Kind.WRONG, f"article {sku}: {available} available")
    if reserved != initial - available:
        yield Violation(Kind.WRONG, f"article {sku}: {reserved} reserved, {available} available of {initial}")
    if reserved != reserved_by_orders:
        yield Violation(
            Kind.WRONG, f"article {sku}: {reserved} reserved, over all orders {reserved_by_orders}"
        )


def invoices(books: Books, load: Load) -> Iterator[Violation]:
    """One invoice over the right sum for each order that was served, none for any other."""
    by_order = Counter(UUID(invoice["event"]["order_id"]) for invoice in books.invoices)
    for order_id, times in by_order.items():
        if times > 1:
            yield Violation(Kind.DUPLICATED, f"order {order_id} has {times} invoices")
        if not served(books, order_id):
            yield Violation(Kind.WRONG, f"order {order_id} has an invoice and no reservation")
    for order_id in load.placed:
        has_none = order_id not in by_order and order_id not in books.never_invoiced & load.cancelled
        if served(books, order_id) and has_none:
            yield Violation(Kind.LOST, f"order {order_id} has no invoice")
    for invoice in books.invoices:
        placed = load.placed.get(UUID(invoice["event"]["order_id"]))
        if placed and Decimal(invoice["event"]["subtotal"]) != Decimal(placed.content["total"]):
            yield Violation(Kind.WRONG, f"order {placed.order_id}: its invoice has another sum")
        order = books.orders.get(UUID(invoice["event"]["order_id"]), {})
        if order.get("invoice_number") != invoice["number"]:
            yield Violation(Kind.WRONG, f"order {invoice['event']['order_id']} shows another invoice number")
        if order.get("credit_note_number") != invoice["credit_note_number"]:
            yield Violation(Kind.WRONG, f"order {invoice['event']['order_id']} shows another credit note")


def credit_notes(books: Books, load: Load) -> Iterator[Violation]:
    """Exactly the invoices of cancelled orders are void, or were never issued."""
    for order_id in load.cancelled - books.voided - books.never_invoiced:
        yield Violation(Kind.LOST, f"order {order_id}: cancelled, and its invoice is not void")
    for order_id in (books.voided | books.never_invoiced) - load.cancelled:
        yield Violation(Kind.WRONG, f"order {order_id}: its invoice is void, and nobody has cancelled it")


def numbers(books: Books) -> Iterator[Violation]:
    """Within a series every number from 1 to the counter's stands on exactly one invoice or credit note."""
    given: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for invoice in books.invoices:
        for full in (invoice["number"], invoice["credit_note_number"]):
            if full is not None:
                name, _, number = full.rpartition("-")
                given[name][int(number)] += 1
    for name in {*given, *books.series}:
        for number, times in given[name].items():
            if times > 1:
                yield Violation(Kind.DUPLICATED, f"number {name}-{number:06} exists {times} times")
        last = max(books.series.get(name, 0), *given[name], 0)
        for number in set(range(1, last + 1)) - set(given[name]):
            yield Violation(Kind.LOST, f"number {name}-{number:06} is a gap")
        if books.series.get(name) != last:
            yield Violation(Kind.WRONG, f"series {name} stands at {books.series.get(name)}, not {last}")


def notifications(books: Books, load: Load) -> Iterator[Violation]:
    """Each customer was told once what became of the order, by the one way that there is."""
    entries: defaultdict[tuple[UUID, str], list[Document]] = defaultdict(list)
    for entry in books.notifications:
        entries[entry["order_id"], entry["template"]].append(entry)
    for order_id, placed in load.placed.items():
        channel = channel_of(load, placed)
        for template in sorted(templates(books, load, order_id)):
            found = entries.pop((order_id, template), [])
            if not found:
                yield Violation(Kind.LOST, f"order {order_id}: nobody was told {template}")
            if len(found) > 1:
                yield Violation(Kind.DUPLICATED, f"order {order_id}: told {template} {len(found)} times")
            for entry in found:
                if entry["channel"] != channel:
                    yield Violation(
                        Kind.WRONG, f"order {order_id}: told by {entry['channel']}, not {channel}"
                    )
    for order_id, template in entries:
        yield Violation(Kind.WRONG, f"order {order_id}: told {template}, which did not happen")


def mails(books: Books) -> Iterator[Violation]:
    """Each mail in the log was sent, and each that was sent has the Message-ID of the log."""
    logged = {str(entry["_id"]) for entry in books.notifications if entry["channel"] == "email"}
    sent = {message_id.strip(" <>").partition("@")[0] for message_id in books.mails}
    for identity in logged - sent:
        yield Violation(Kind.LOST, f"mail {identity} is in the log and was not sent")
    for identity in sent - logged:
        yield Violation(Kind.WRONG, f"mail {identity} was sent and is not in the log")


def repeated_mails(books: Books) -> int:
    """Mails beyond the first under the same Message-ID: no violation, and told in the report."""
    return books.mails.total() - len(books.mails)
