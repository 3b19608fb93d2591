"""Money and time as they travel: exact decimals in a known currency, instants in UTC."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, core_schema

# ISO 4217 active codes by the number of decimals they use; funds, metals and test codes left out.
_CODES_BY_DECIMALS = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF",
    2: (
        "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF "
        "CHF CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD "
        "HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK "
        "MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD "
        "RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS "
        "UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG"
    ),
    3: "BHD IQD JOD KWD LYD OMR TND",
}
DECIMALS = {code: decimals for decimals, codes in _CODES_BY_DECIMALS.items() for code in codes.split()}
"""Number of decimals of each currency, by ISO 4217 code."""


def _known_currency(code: str) -> str:
    if code not in DECIMALS:
        raise ValueError(f"{code!r} is not an ISO 4217 currency code")
    return code


_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


class _TextOrDecimal:
    """Refuses JSON numbers: a binary float has already lost what a decimal string keeps.

    Said in the schema and not as a function, since a message may hold hundreds of amounts.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        text = core_schema.str_schema(pattern=r"^[0-9]{1,24}(\.[0-9]{1,6})?$", strict=True)
        accepted = core_schema.union_schema([core_schema.is_instance_schema(Decimal), text])
        refusing = core_schema.custom_error_schema(
            accepted,
            custom_error_type="value_error",
            custom_error_context={"error": 'an amount is a decimal string such as "2.55"'},
        )
        return core_schema.chain_schema([refusing, handler(source)])


def _instant(value: Any) -> Any:
    if isinstance(value, datetime) or (isinstance(value, str) and _TIME.fullmatch(value)):
        return value
    raise ValueError('a time is an RFC 3339 string such as "2026-11-22T10:15:00Z"')


def _utc_milliseconds(value: datetime) -> datetime:
    """MongoDB keeps milliseconds; cutting here makes a stored event equal to the one that was sent."""
    try:
        utc = value.astimezone(UTC)
    except OverflowError:
        raise ValueError("a time must lie within the years 1 to 9999 in UTC") from None
    return utc.replace(microsecond=utc.microsecond // 1000 * 1000)


Currency = Annotated[
    str,
    AfterValidator(_known_currency),
    Field(description="ISO 4217 code of all amounts.", examples=["GBP"], min_length=3, max_length=3),
]
Money = Annotated[
    Decimal,
    Field(ge=0, max_digits=24),  # first: behind another annotation it would be checked in Python
    _TextOrDecimal(),
    WithJsonSchema({"type": "string", "pattern": r"^\d{1,24}(\.\d{1,4})?$", "examples": ["15.30"]}),
]
Rate = Annotated[
    Decimal,
    Field(ge=0, le=1, max_digits=7),
    _TextOrDecimal(),
    WithJsonSchema({"type": "string", "pattern": r"^[01](\.\d{1,6})?$", "examples": ["0.20"]}),
]
Timestamp = Annotated[AwareDatetime, BeforeValidator(_instant), AfterValidator(_utc_milliseconds)]


def check_decimals(amount: Decimal, currency: str, name: str) -> None:
    """Require exactly the decimals of the currency.

    Raises:
        ValueError: naming the amount, what it has and what it must have.
    """
    exponent = amount.as_tuple().exponent
    if exponent != -DECIMALS[currency]:
        raise ValueError(f"{name} {amount} must have exactly {DECIMALS[currency]} decimals ({currency})")
