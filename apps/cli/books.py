"""The demo's auditor: what must have happened, by the CSV alone, and what did, by the stores.

Nothing here is shared with the importer or the apps: a mistake of theirs would otherwise pass unseen.
"""

import csv
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from pymongo import MongoClient

from apps.cli.demo_plan import CANCELLED, SOLD_OUT_SKU, UNKNOWN_SKU, is_told_by_sms

_NOTIFIED, _REJECTED, _CANCELLED = 5, 6, 7
"""Ranks of the statuses in which the demo's orders end."""


@dataclass(frozen=True)
class Account:
    """What the books hold, counted one way or another."""

    orders: int
    notified: int
    rejected: int
    cancelled: int
    units_reserved: int
    stock_errors: int
    """Articles whose available and reserved units do not make up the initial ones, or that are below zero."""
    invoices: int
    invoiced: Decimal
    credit_notes: int
    number_gaps: int
    mails: int
    texts: int
    documents: int
    """PDFs of invoices and credit notes."""
    webhooks: int
    """Those that the demo's receiver has verified."""


@dataclass(frozen=True)
class _Sale:
    reference: str
    lines: list[tuple[str, int, Decimal]]

    @property
    def is_served(self) -> bool:
        return not {SOLD_OUT_SKU, UNKNOWN_SKU} & {sku for sku, _, _ in self.lines}


def expected(sample: Path, web: list[dict[str, Any]]) -> Account:
    """What must come of the CSV's invoices and the web shop's orders.

    Args:
        sample: the online-retail file; invoices that begin with C are cancellations and no orders.
        web: bodies of the orders placed over HTTP.
    """
    invoices: dict[str, _Sale] = {}
    with sample.open(newline="") as lines:
        for row in csv.DictReader(lines):
            number = row["InvoiceNo"]
            if not number.startswith("C"):
                sale = invoices.setdefault(number, _Sale(number, []))
                sale.lines.append((row["StockCode"], int(row["Quantity"]), Decimal(row["UnitPrice"])))
    sales = list(invoices.values()) + [
        _Sale(
            body["reference"],
            [(line["sku"], line["quantity"], Decimal(line["unit_price"])) for line in body["lines"]],
        )
        for body in web
    ]
    served = [sale for sale in sales if sale.is_served]
    cancelled = [sale for sale in served if sale.reference in CANCELLED]
    # Of an order, and of its cancellation and its credit note.
    told = [*sales, *cancelled, *cancelled]
    texts = sum(is_told_by_sms(sale.reference) for sale in told)
    return Account(
        orders=len(sales),
        notified=len(served) - len(cancelled),
        rejected=len(sales) - len(served),
        cancelled=len(cancelled),
        units_reserved=sum(
            quantity for sale in served if sale not in cancelled for _, quantity, _ in sale.lines
        ),
        stock_errors=0,
        invoices=len(served),
        invoiced=sum((quantity * price for sale in served for _, quantity, price in sale.lines), Decimal(0)),
        credit_notes=len(cancelled),
        number_gaps=0,
        mails=len(told) - texts,
        texts=texts,
        documents=len(served) + len(cancelled),
        # Of every invoice and every refusal, and of each cancellation and its credit note.
        webhooks=len(sales) + 2 * len(cancelled),
    )


class Stores:
    """Reads the databases of the apps, as an auditor does: directly."""

    def __init__(self, mongodb_url: str, prefix: str) -> None:
        self._client: MongoClient[dict[str, Any]] = MongoClient(mongodb_url, tz_aware=True)
        self._prefix = prefix

    def levels_counted(self) -> int:
        """How many articles have a level."""
        return self._client[f"{self._prefix}_stock"]["levels"].count_documents({})

    def settled(self) -> int:
        """How many orders are final with the customer told."""
        events = {"$objectToArray": {"$ifNull": ["$events", {}]}}
        seen = {"$map": {"input": events, "as": "seen", "in": "$$seen.v.event"}}
        decided = {
            "$size": {"$setIntersection": [seen, ["InvoiceIssued", "OrderRejected", "OrderCancelled"]]}
        }
        outcomes = ["NotificationSent", "NotificationSkipped", "NotificationFailed"]
        told = {"$size": {"$setIntersection": [seen, outcomes]}}
        return self._count(
            "orders", "orders", {"$expr": {"$and": [{"$gt": [decided, 0]}, {"$gt": [told, 0]}]}}
        )

    def cancelled(self) -> int:
        """How many orders are cancelled with everything undone and the customer told of both."""
        templates = ["order-cancelled", "invoice-voided"]
        told = self._count("notifications", "notifications", {"template": {"$in": templates}})
        released = self._count("stock", "reservations", {"released_at": {"$ne": None}})
        shown = self._count("orders", "orders", {"rank": _CANCELLED, "credit_note_number": {"$ne": None}})
        return min(told // len(templates), released, shown)

    def account(self, initial_levels: dict[str, str], documents: int, webhooks: int) -> Account:
        """What did happen; documents and webhooks are counted where they arrive."""
        statuses = Counter(
            order["rank"] for order in self._client[f"{self._prefix}_orders"]["orders"].find({}, {"rank": 1})
        )
        levels = list(self._client[f"{self._prefix}_stock"]["levels"].find())
        invoices = list(self._client[f"{self._prefix}_billing"]["invoices"].find({"number": {"$ne": None}}))
        credit_notes = [invoice["credit_note_number"] for invoice in invoices if invoice["voided"]]
        return Account(
            orders=statuses.total(),
            notified=statuses[_NOTIFIED],
            rejected=statuses[_REJECTED],
            cancelled=statuses[_CANCELLED],
            units_reserved=sum(level["reserved"] for level in levels),
            stock_errors=sum(not _adds_up(level, initial_levels) for level in levels),
            invoices=len(invoices),
            invoiced=sum((invoice["total"].to_decimal() for invoice in invoices), Decimal(0)),
            credit_notes=len(credit_notes),
            number_gaps=_gaps([invoice["number"] for invoice in invoices]) + _gaps(credit_notes),
            mails=self._count("notifications", "notifications", {"channel": "email"}),
            texts=self._count("notifications", "notifications", {"channel": "sms"}),
            documents=documents,
            webhooks=webhooks,
        )

    def _count(self, app: str, collection: str, query: dict[str, Any]) -> int:
        return self._client[f"{self._prefix}_{app}"][collection].count_documents(query)


def _gaps(numbers: list[str]) -> int:
    given = {int(number.rpartition("-")[2]) for number in numbers}
    return max(given, default=0) - len(given)


def _adds_up(level: dict[str, Any], initial_levels: dict[str, str]) -> bool:
    initial = initial_levels.get(level["_id"])
    if initial == "unlimited":
        return level["available"] is None
    return (
        initial is not None
        and level["available"] >= 0
        and level["available"] + level["reserved"] == int(initial)
    )
