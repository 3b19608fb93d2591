"""What the demo orders and what is on its shelves: the real invoices, and some orders from a web shop."""

from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

from apps.cli.csv_format import find_format
from apps.cli.import_options import format_hints, order_terms
from apps.cli.order_csv import OrderFile
from contracts import Customer, OrderCreated

SAMPLE = Path(__file__).parent / "demo_data" / "online_retail_sample.csv"
PRESET = "online-retail"

UNLIMITED_SKUS = frozenset({"POST"})
"""Postage: a line of the data, but no good."""
SOLD_OUT_SKU = "85099C"
"""Its level is 0, so every order for it is rejected."""
UNKNOWN_SKU = "22941"
"""Never counted, so every order for it is rejected."""

WEB_ORDERS = 24
CANCELLED = frozenset({"WEB-6", "WEB-12"})
"""Orders of the web shop that are cancelled once they are through."""
_WEB_ARTICLES = (
    ("22632", "1.85"),
    ("85123A", "2.55"),
    ("22633", "1.85"),
    ("84029E", "3.39"),
    ("22961", "1.45"),
)


def sample_orders() -> list[OrderCreated]:
    """The sample's orders as the importer reads them, with a contact for each."""
    terms = order_terms(preset=PRESET)
    with OrderFile(SAMPLE, find_format(SAMPLE, format_hints(preset=PRESET)), terms) as orders:
        return [
            order.model_copy(update={"customer": _reachable(order.customer, order.reference or "")})
            for order in orders
            if isinstance(order, OrderCreated)
        ]


def web_orders() -> list[dict[str, Any]]:
    """Bodies for POST /v1/orders: one to three lines of the articles that sell best."""
    return [
        {
            "reference": f"WEB-{number}",
            "customer": _reachable(
                Customer(id=f"web-{number % 7}", country="GB"), f"WEB-{number}"
            ).model_dump(),
            "currency": "GBP",
            "lines": [
                {"sku": sku, "quantity": 1 + (number + position) % 4, "unit_price": price}
                for position, (sku, price) in enumerate(_WEB_ARTICLES[: 1 + number % 3])
            ],
        }
        for number in range(1, WEB_ORDERS + 1)
    ]


def initial_levels(orders: Iterable[OrderCreated], web: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Just enough of every article for all orders, but for the two that are short on purpose."""
    demand: Counter[str] = Counter()
    for order in orders:
        demand.update(order.quantities())
    for body in web:
        for line in body["lines"]:
            demand[line["sku"]] += line["quantity"]
    levels = {sku: str(quantity) for sku, quantity in demand.items()}
    levels |= dict.fromkeys(UNLIMITED_SKUS, "unlimited") | {SOLD_OUT_SKU: "0"}
    del levels[UNKNOWN_SKU]
    return levels


def is_told_by_sms(reference: str) -> bool:
    """Every fifth customer of the demo has given a phone number and no e-mail address."""
    return _number(reference) % 5 == 0


def _number(reference: str) -> int:
    return int("".join(character for character in reference if character.isdigit()))


def _reachable(customer: Customer, reference: str) -> Customer:
    """The data names nobody, so addresses are made up, in domains and numbers that reach nobody."""
    number = _number(reference)
    if is_told_by_sms(reference):
        return customer.model_copy(update={"phone": f"+4470090{number % 10_000:04}"})
    contact = {
        "email": f"customer.{customer.id}@example.com",
        "locale": "pt-BR" if number % 5 == 1 else "en-GB",
    }
    return customer.model_copy(update=contact)


def money(amount: Decimal) -> str:
    """Pounds with thousands apart."""
    return f"£{amount:,.2f}"
