"""The options of `orderflow import`: what was typed becomes what it means, or one line says why not."""

from typing import TypeVar, get_args
from zoneinfo import ZoneInfo

from apps.cli.csv_format import FIELDS, Field, FormatHints
from apps.cli.csv_values import DateOrder, DecimalMark
from apps.cli.errors import UsageError
from apps.cli.order_csv import OrderTerms
from apps.cli.presets import PRESETS, Preset
from contracts.amounts import DECIMALS

Choice = TypeVar("Choice", bound=str)


def format_hints(
    *,
    preset: str | None = None,
    columns: list[str] | None = None,
    delimiter: str | None = None,
    decimal: str | None = None,
    date_order: str | None = None,
    encoding: str | None = None,
) -> FormatHints:
    """What the user and the preset say of the file; the user comes first."""
    known = _preset(preset)
    return FormatHints(
        columns={**(known.columns if known else {}), **_columns(columns or [])},
        delimiter=_delimiter(delimiter),
        decimal=_one_of("--decimal", decimal, get_args(DecimalMark)),
        date_order=_one_of("--date-order", date_order, get_args(DateOrder)),
        likely_date_order=known.likely_date_order if known else None,
        encoding=encoding,
    )


def order_terms(
    *,
    preset: str | None = None,
    source: str | None = None,
    currency: str | None = None,
    timezone: str = "UTC",
    cancellation_prefix: str = "C",
) -> OrderTerms:
    """What the user and the preset say of the orders; the user comes first."""
    known = _preset(preset)
    return OrderTerms(
        source=source or preset or "csv",
        currency=_currency(currency or (known.currency if known else None)),
        timezone=_zone(timezone),
        cancellation_prefix=cancellation_prefix,
    )


def _preset(name: str | None) -> Preset | None:
    if name is not None and name not in PRESETS:
        raise UsageError(f"--preset {name}: there is no such preset, only {', '.join(PRESETS)}")
    return PRESETS[name] if name is not None else None


def _columns(assignments: list[str]) -> dict[Field, str]:
    columns: dict[Field, str] = {}
    for assignment in assignments:
        name, _, title = assignment.partition("=")
        if name not in FIELDS or not title.strip():
            raise UsageError(f"--column {assignment}: must be FIELD=NAME, the fields are {', '.join(FIELDS)}")
        columns[name] = title.strip()
    return columns


def _delimiter(given: str | None) -> str | None:
    delimiter = {"tab": "\t", "\\t": "\t"}.get(given or "", given)
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
        raise UsageError(f"--delimiter {given!r}: must be one character, or tab")
    return delimiter


def _one_of(flag: str, given: str | None, choices: tuple[Choice, ...]) -> Choice | None:
    if given is None:
        return None
    for choice in choices:
        if choice == given:
            return choice
    raise UsageError(f"{flag} {given}: must be one of {' '.join(choices)}")


def _currency(code: str | None) -> str:
    if code is None:
        raise UsageError("--currency is needed: the ISO 4217 code of all prices, such as --currency EUR")
    if code.upper() not in DECIMALS:
        raise UsageError(f"--currency {code}: not an ISO 4217 code")
    return code.upper()


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:
        raise UsageError(f"--timezone {name}: no such zone, name one as in Europe/London") from error
