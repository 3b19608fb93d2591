"""Amounts, numbers and dates as the customer's country writes them."""

import copy
import re
from datetime import datetime
from decimal import Decimal
from functools import lru_cache

from babel import Locale, UnknownLocaleError
from babel.dates import format_date
from babel.numbers import NumberPattern, format_decimal, get_currency_symbol

from apps.notifications import gsm
from apps.notifications.domain import Language, language_of
from contracts.amounts import DECIMALS

_DEFAULTS = {
    Language.ENGLISH: Locale("en", "001"),  # "22 November 2026" is read the same way everywhere
    Language.BRAZILIAN_PORTUGUESE: Locale("pt", "BR"),
}


@lru_cache(maxsize=256)
def locale_of(tag: str | None) -> Locale:
    """The customer's own where the message speaks its language, else the usual one of that language.

    A German reads English text here: "£1.234,56" in the midst of it would be read as one pound.
    """
    default = _DEFAULTS[language_of(tag)]
    try:
        own = Locale.parse((tag or "").replace("_", "-"), sep="-")
    except (ValueError, UnknownLocaleError):
        return default
    return own if own.language == default.language else default


def money(amount: Decimal, currency: str, locale: Locale) -> str:
    """`£1,234.56` or `R$ 1.234,56`."""
    return _amount(amount, currency, get_currency_symbol(currency, locale), locale)


def money_for_sms(amount: Decimal, currency: str, locale: Locale) -> str:
    """The same with the currency's code where the alphabet of SMS lacks its symbol: `INR 1,234.56`."""
    symbol = get_currency_symbol(currency, locale)
    return _amount(amount, currency, currency if gsm.septets(symbol) is None else symbol, locale)


def number(value: int, locale: Locale) -> str:
    """`1,000` or `1.000`."""
    return format_decimal(value, locale=locale)


def date(moment: datetime, locale: Locale) -> str:
    """The day in UTC, with the month in words."""
    return format_date(moment.date(), format="long", locale=locale)


def _amount(amount: Decimal, currency: str, symbol: str, locale: Locale) -> str:
    pattern: NumberPattern = copy.copy(locale.currency_formats["standard"])
    # The contract's decimals: Unicode's own table drops the fils of a dinar.
    pattern.frac_prec = (DECIMALS[currency], DECIMALS[currency])
    written: str = pattern.apply(amount, locale)
    if symbol[-1].isalpha():
        written = re.sub(r"¤(?=\d)", "¤\N{NO-BREAK SPACE}", written)  # "KWD 1.500", but "£1.50"
    return written.replace("¤", symbol)
