"""Numbers and times as people write them: read exactly or refused, never rounded or guessed."""

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Literal

from contracts.amounts import DECIMALS

DecimalMark = Literal[".", ","]
DateOrder = Literal["ymd", "mdy", "dmy"]

_GROUPING: dict[DecimalMark, DecimalMark] = {".": ",", ",": "."}
_NUMBERS = {
    mark: re.compile(
        rf"[+-]?(?:(?:[0-9]{{1,24}}|[1-9][0-9]{{0,2}}(?:{re.escape(group)}[0-9]{{3}}){{1,7}})"
        rf"(?:{re.escape(mark)}[0-9]{{0,12}})?|{re.escape(mark)}[0-9]{{1,12}})"
    )
    for mark, group in _GROUPING.items()
}
_MARK_NAMES: dict[DecimalMark, str] = {".": "point", ",": "comma"}
_TIME = re.compile(
    r"(?P<date>[0-9]{1,4}[-/.][0-9]{1,2}[-/.][0-9]{1,4})"
    r"(?:(?:T|\s+)(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})"
    r"(?::(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]{1,9}))?)?"
    r"(?:\s*(?P<half>[AP]M))?\s*(?P<offset>Z|[+-][0-9]{2}:?[0-9]{2})?)?",
    re.IGNORECASE,
)
_DATE_ORDER_NAMES: dict[DateOrder, str] = {
    "ymd": "year, month, day",
    "mdy": "month, day, year",
    "dmy": "day, month, year",
}
_EXACT = Context(prec=60, traps=[Inexact, InvalidOperation])


def read_number(text: str, mark: DecimalMark) -> Decimal:
    """The number, with the other mark allowed between thousands.

    Raises:
        ValueError: it is not a number in this notation.
    """
    if not _NUMBERS[mark].fullmatch(text):
        raise ValueError(f"{text!r} is not a number with a decimal {_MARK_NAMES[mark]}")
    return Decimal(text.replace(_GROUPING[mark], "").replace(mark, "."))


def read_quantity(text: str, mark: DecimalMark) -> int:
    """A whole number; `6.0`, as spreadsheets write it, is one too."""
    number = read_number(text, mark)
    if number != int(number):
        raise ValueError(f"{text!r} is not a whole number")
    return int(number)


def read_price(text: str, mark: DecimalMark, currency: str) -> Decimal:
    """The amount with exactly the currency's decimals: `2.1` becomes `2.10`, `0.001` is refused."""
    number = read_number(text, mark)
    try:
        return number.quantize(Decimal(1).scaleb(-DECIMALS[currency]), context=_EXACT)
    except Inexact:
        raise ValueError(f"{text!r} has more than the {DECIMALS[currency]} decimals of {currency}") from None


def read_time(text: str, order: DateOrder, zone: tzinfo) -> datetime:
    """The moment in UTC; `zone` counts where the text names none, midnight where it has no time.

    A date that begins with its four-digit year is read as such in every order.

    Raises:
        ValueError: it is not a time in this order.
    """
    problem = ValueError(f"{text!r} is not a date in the order {_DATE_ORDER_NAMES[order]}")
    match = _TIME.fullmatch(text)
    if not match:
        raise problem
    try:
        moment = datetime(
            *_year_month_day(match["date"], order),
            _hour(int(match["hour"] or 0), match["half"]),
            int(match["minute"] or 0),
            int(match["second"] or 0),
            int((match["fraction"] or "0").ljust(6, "0")[:6]),
            tzinfo=_zone(match["offset"]) or zone,
        )
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise problem from None


def _year_month_day(date: str, order: DateOrder) -> tuple[int, int, int]:
    parts = re.split(r"[-/.]", date)
    if len(parts[0]) == 4:  # noqa: PLR2004
        order = "ymd"
    year, month, day = (parts[order.index(part)] for part in "ymd")
    if len(year) == 2 and order != "ymd":  # noqa: PLR2004
        # As POSIX reads two digits: 69 to 99 are of the twentieth century.
        year = f"{'19' if year >= '69' else '20'}{year}"
    if len(year) != 4:  # noqa: PLR2004
        raise ValueError(date)
    return int(year), int(month), int(day)


def _hour(hour: int, half: str | None) -> int:
    if half is None:
        return hour
    if not 1 <= hour <= 12:  # noqa: PLR2004
        raise ValueError(hour)
    return hour % 12 + (12 if half.upper() == "PM" else 0)


def _zone(offset: str | None) -> tzinfo | None:
    if offset is None:
        return None
    if offset in "Zz":
        return UTC
    minutes = int(offset[1:3]) * 60 + int(offset[-2:])
    return timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes))
