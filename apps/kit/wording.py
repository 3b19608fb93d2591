"""Words, amounts, numbers and dates as a customer's language and country write them."""

import copy
import re
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache

from babel import Locale, UnknownLocaleError
from babel.dates import format_date
from babel.numbers import NumberPattern, format_decimal, format_percent, get_currency_symbol

from contracts.amounts import DECIMALS

# Control characters, line separators and what reverses the direction of text: none belongs in a name.
_NOT_ON_ONE_LINE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]+")


class Language(StrEnum):
    """The languages that customers are written to in."""

    ENGLISH = "en"
    BRAZILIAN_PORTUGUESE = "pt_BR"


_DEFAULTS = {
    Language.ENGLISH: Locale("en", "001"),  # "22 November 2026" is read the same way everywhere
    Language.BRAZILIAN_PORTUGUESE: Locale("pt", "BR"),
}


def language_of(locale: str | None) -> Language:
    """Brazilian Portuguese for every kind of Portuguese, English for all others."""
    primary = re.split("[-_]", locale or "")[0].lower()
    return Language.BRAZILIAN_PORTUGUESE if primary == "pt" else Language.ENGLISH


@lru_cache(maxsize=256)
def locale_of(tag: str | None) -> Locale:
    """The customer's own where we speak its language, else the usual one of the language we speak.

    A German reads English text here: "£1.234,56" in the midst of it would be read as one pound.
    """
    default = _DEFAULTS[language_of(tag)]
    try:
        own = Locale.parse((tag or "").replace("_", "-"), sep="-")
    except (ValueError, UnknownLocaleError):
        return default
    return own if own.language == default.language else default


def one_line(text: str) -> str:
    """The text without anything that could start a line or turn one around."""
    return _NOT_ON_ONE_LINE.sub(" ", text)


def money(amount: Decimal, currency: str, locale: Locale, symbol: str | None = None) -> str:
    """`£1,234.56` or `R$ 1.234,56`; with another symbol, or none if it is empty."""
    symbol = get_currency_symbol(currency, locale) if symbol is None else symbol
    pattern: NumberPattern = copy.copy(locale.currency_formats["standard"])
    # The contract's decimals: Unicode's own table drops the fils of a dinar.
    pattern.frac_prec = (DECIMALS[currency], DECIMALS[currency])
    written: str = pattern.apply(amount, locale)
    if symbol[-1:].isalpha():
        written = re.sub(r"¤(?=\d)", "¤\N{NO-BREAK SPACE}", written)  # "KWD 1.500", but "£1.50"
    return written.replace("¤", symbol).strip()


def number(value: int, locale: Locale) -> str:
    """`1,000` or `1.000`."""
    return format_decimal(value, locale=locale)


def percentage(rate: Decimal, locale: Locale) -> str:
    """`17.5%` or `17,5%`, with all the decimals that a rate has."""
    return format_percent(rate.normalize(), locale=locale, decimal_quantization=False)


def date(moment: datetime, locale: Locale) -> str:
    """The day in UTC, with the month in words."""
    return format_date(moment.date(), format="long", locale=locale)
