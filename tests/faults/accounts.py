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


def stock(books: Books, load: Load) -> Iterator[Violation]:
    """Every order took what it wants or nothing, and each level is what they left of it."""
    reserved: Counter[str] = Counter()
    for order_id, reservation in books.reservations.items():
        taken = Counter({line["sku"]: line["quantity"] for line in reservation["lines"]})
        reserved += taken
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
        if served(books, order_id) and order_id not in by_order:
            yield Violation(Kind.LOST, f"order {order_id} has no invoice")
    for invoice in books.invoices:
        placed = load.placed.get(UUID(invoice["event"]["order_id"]))
        if placed and Decimal(invoice["event"]["subtotal"]) != Decimal(placed.content["total"]):
            yield Violation(Kind.WRONG, f"order {placed.order_id}: its invoice has another sum")
        order = books.orders.get(UUID(invoice["event"]["order_id"]), {})
        if order.get("invoice_number") != invoice["number"]:
            yield Violation(Kind.WRONG, f"order {invoice['event']['order_id']} shows another invoice number")


def numbers(books: Books) -> Iterator[Violation]:
    """Within a year every number from 1 to the counter's stands on exactly one invoice."""
    given: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for invoice in books.invoices:
        year, _, number = invoice["number"].partition("-")
        given[year][int(number)] += 1
    for year in {*given, *books.series}:
        for number, times in given[year].items():
            if times > 1:
                yield Violation(Kind.DUPLICATED, f"invoice {year}-{number:06} exists {times} times")
        last = max(books.series.get(year, 0), *given[year], 0)
        for number in set(range(1, last + 1)) - set(given[year]):
            yield Violation(Kind.LOST, f"invoice {year}-{number:06} is a gap")
        if books.series.get(year) != last:
            yield Violation(Kind.WRONG, f"series {year} stands at {books.series.get(year)}, not {last}")


def notifications(books: Books, load: Load) -> Iterator[Violation]:
    """Each customer was told once what became of the order, by the one way that there is."""
    entries: defaultdict[tuple[UUID, str], list[Document]] = defaultdict(list)
    for entry in books.notifications:
        entries[entry["order_id"], entry["template"]].append(entry)
    for order_id, placed in load.placed.items():
        template = "invoice-issued" if served(books, order_id) else "order-rejected"
        found = entries.pop((order_id, template), [])
        if not found:
            yield Violation(Kind.LOST, f"order {order_id}: nobody was told {template}")
        if len(found) > 1:
            yield Violation(Kind.DUPLICATED, f"order {order_id}: told {template} {len(found)} times")
        customer = placed.content["customer"]
        channel = "email" if "email" in customer else "sms" if "phone" in customer else None
        for entry in found:
            if entry["channel"] != channel:
                yield Violation(Kind.WRONG, f"order {order_id}: told by {entry['channel']}, not {channel}")
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
