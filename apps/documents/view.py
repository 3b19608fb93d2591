"""What a document shows: every value as text in the customer's language, ready to be set."""

import re
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from itertools import accumulate
from typing import Any

from babel import Locale

from apps.documents.domain import Statement, paper_of
from apps.kit import wording
from apps.kit.settings import Settings
from apps.kit.wording import one_line
from contracts import InvoiceVoided


def view_of(statement: Statement, settings: Settings) -> dict[str, Any]:
    """The values by the names under which the template takes them; those that may lack come in lists."""
    locale = wording.locale_of(statement.customer.locale)
    language = wording.language_of(statement.customer.locale)
    date = partial(wording.date, locale=locale)
    bare = partial(wording.money, currency=statement.currency, locale=locale, symbol="")
    paper = paper_of(statement)
    moment = paper.issued_at
    return {
        "language": language,
        "lang": locale.language,
        "region": locale.territory if (locale.territory or "").isalpha() else None,
        "kind": paper.kind,
        "number": paper.number,
        "date": date(moment),
        "created": {"year": moment.year, "month": moment.month, "day": moment.day},
        "shop": {
            "name": settings.shop_name,
            "address": (settings.shop_address or "").splitlines(),
            "tax_id": [settings.shop_tax_id] if settings.shop_tax_id else [],
        },
        "customer": list(_customer(statement, locale)) or [_breakable(statement.customer.id)],
        "customer_number": _breakable(statement.customer.id),
        "reference": _breakable(statement.reference or str(statement.order_id)),
        "cancels": [
            {
                "number": statement.number,
                "date": date(statement.issued_at),
                "reason": _breakable(statement.reason),
            }
        ]
        if isinstance(statement, InvoiceVoided)
        else [],
        "currency": statement.currency,
        "lines": _lines(statement, locale),
        "rates": [
            {"rate": wording.percentage(rate, locale), "net": bare(net), "tax": bare(tax)}
            for rate, (net, tax) in sorted(_by_rate(statement).items())
        ],
        "subtotal": bare(statement.subtotal),
        "tax": bare(statement.tax),
        "total": wording.money(statement.total, statement.currency, locale),
    }


def _breakable(text: str, word_characters: int = 24) -> str:
    """The text on one line, which the template may break within words that are too long for a column."""
    return re.sub(rf"[^\s-]{{{word_characters}}}(?=[^\s-])", "\\g<0>\N{ZERO WIDTH SPACE}", one_line(text))


def _customer(statement: Statement, locale: Locale) -> Iterator[str]:
    customer = statement.customer
    if customer.name:
        yield _breakable(customer.name)
    if customer.email:
        yield _breakable(customer.email, 40)
    if customer.country:
        yield locale.territories.get(customer.country, customer.country)


def _lines(statement: Statement, locale: Locale) -> list[dict[str, str]]:
    """The table's rows, each with the sums so far, which are carried from page to page."""
    bare = partial(wording.money, currency=statement.currency, locale=locale, symbol="")
    amounts = accumulate(line.amount for line in statement.lines)
    taxes = accumulate(line.tax for line in statement.lines)
    return [
        {
            "sku": _breakable(line.sku, 10),
            "description": _breakable(line.description),
            "quantity": wording.number(line.quantity, locale),
            "unit_price": bare(line.unit_price),
            "rate": wording.percentage(line.tax_rate, locale),
            "tax": bare(line.tax),
            "amount": bare(line.amount),
            "so_far": bare(amount),
            "tax_so_far": bare(tax),
        }
        for line, amount, tax in zip(statement.lines, amounts, taxes, strict=True)
    ]


def _by_rate(statement: Statement) -> dict[Decimal, tuple[Decimal, Decimal]]:
    """Net amount and tax of each tax rate."""
    sums: defaultdict[Decimal, tuple[Decimal, Decimal]] = defaultdict(lambda: (Decimal(0), Decimal(0)))
    for line in statement.lines:
        net, tax = sums[line.tax_rate]
        sums[line.tax_rate] = (net + line.amount, tax + line.tax)
    return sums
