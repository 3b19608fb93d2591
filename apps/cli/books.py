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

from apps.cli.demo_plan import SOLD_OUT_SKU, UNKNOWN_SKU, is_told_by_sms


@dataclass(frozen=True)
class Account:
    """What the books hold, counted one way or another."""

    orders: int
    notified: int
    rejected: int
    units_reserved: int
    stock_errors: int
    """Articles whose available and reserved units do not make up the initial ones, or that are below zero."""
    invoices: int
    invoiced: Decimal
    invoice_gaps: int
    mails: int
    texts: int


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
    texts = sum(is_told_by_sms(sale.reference) for sale in sales)
    return Account(
        orders=len(sales),
        notified=len(served),
        rejected=len(sales) - len(served),
        units_reserved=sum(quantity for sale in served for _, quantity, _ in sale.lines),
        stock_errors=0,
        invoices=len(served),
        invoiced=sum((quantity * price for sale in served for _, quantity, price in sale.lines), Decimal(0)),
        invoice_gaps=0,
        mails=len(sales) - texts,
        texts=texts,
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
        decided = {"$size": {"$setIntersection": [seen, ["InvoiceIssued", "OrderRejected"]]}}
        told = {"$size": {"$setIntersection": [seen, ["NotificationSent", "NotificationSkipped"]]}}
        return self._count(
            "orders", "orders", {"$expr": {"$and": [{"$gt": [decided, 0]}, {"$gt": [told, 0]}]}}
        )

    def account(self, initial_levels: dict[str, str]) -> Account:
        """What did happen."""
        statuses = Counter(
            order["rank"] for order in self._client[f"{self._prefix}_orders"]["orders"].find({}, {"rank": 1})
        )
        levels = list(self._client[f"{self._prefix}_stock"]["levels"].find())
        invoices = list(
            self._client[f"{self._prefix}_billing"]["invoices"].find({}, {"number": 1, "total": 1})
        )
        numbers = {int(invoice["number"].split("-")[1]) for invoice in invoices}
        return Account(
            orders=statuses.total(),
            notified=statuses[5],
            rejected=statuses[6],
            units_reserved=sum(level["reserved"] for level in levels),
            stock_errors=sum(not _adds_up(level, initial_levels) for level in levels),
            invoices=len(invoices),
            invoiced=sum((invoice["total"].to_decimal() for invoice in invoices), Decimal(0)),
            invoice_gaps=max(numbers, default=0) - len(numbers),
            mails=self._count("notifications", "notifications", {"channel": "email"}),
            texts=self._count("notifications", "notifications", {"channel": "sms"}),
        )

    def _count(self, app: str, collection: str, query: dict[str, Any]) -> int:
        return self._client[f"{self._prefix}_{app}"][collection].count_documents(query)


def _adds_up(level: dict[str, Any], initial_levels: dict[str, str]) -> bool:
    initial = initial_levels.get(level["_id"])
    if initial == "unlimited":
        return level["available"] is None
    return (
        initial is not None
        and level["available"] >= 0
        and level["available"] + level["reserved"] == int(initial)
    )
