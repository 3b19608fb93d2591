"""Amounts as an SMS can carry them."""

from decimal import Decimal

from babel import Locale
from babel.numbers import get_currency_symbol

from apps.kit.wording import money
from apps.notifications import gsm


def money_for_sms(amount: Decimal, currency: str, locale: Locale) -> str:
    """With the currency's code where the alphabet of SMS lacks its symbol: `INR 1,234.56`."""
    symbol = get_currency_symbol(currency, locale)
    return money(amount, currency, locale, currency if gsm.septets(symbol) is None else symbol)
