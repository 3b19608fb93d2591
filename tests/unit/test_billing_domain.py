"""The rules of billing: every sum adds up, and half a unit rounds up."""

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from math import floor
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from apps.billing.domain import draft, invoice_id, series, tax_of
from contracts import InvoiceIssued, OrderCreated, OrderValidated
from contracts.amounts import DECIMALS
from tests.unit.strategies import orders, validated

ISSUED_AT = datetime(2026, 11, 22, 10, 15, tzinfo=UTC)
CURRENCIES = st.sampled_from(["JPY", "GBP", "KWD"])
RATES = st.decimals(0, 1, places=6) | st.sampled_from(
    [Decimal("0.2"), Decimal("0.17"), Decimal(0), Decimal(1)]
)


def exact_tax(amount: Decimal, rate: Decimal, currency: str) -> Decimal:
    """Half up in whole numbers, without a decimal context to trust."""
    units = Fraction(amount) * Fraction(rate) * 10 ** DECIMALS[currency]
    return Decimal(floor(units + Fraction(1, 2))).scaleb(-DECIMALS[currency])


@given(order=orders(), rate=RATES)
def test_invoice_adds_up(order: OrderCreated, rate: Decimal) -> None:
    """Subtotal, tax and total are the sums of the lines, in exact decimals, for any lines and rate."""
    country = order.customer.country
    invoice = draft(validated(order), {country: rate} if country else {}).issue(7, ISSUED_AT)
    applied = rate if country else Decimal(0)
    assert invoice.subtotal == order.total
    assert invoice.tax == sum(exact_tax(line.amount, applied, order.currency) for line in order.lines)
    assert invoice.total == invoice.subtotal + invoice.tax
    for amount in (invoice.subtotal, invoice.tax, invoice.total, *(line.tax for line in invoice.lines)):
        assert amount.as_tuple().exponent == -DECIMALS[order.currency]
    assert InvoiceIssued.model_validate_json(invoice.model_dump_json()) == invoice


@given(currency=CURRENCIES, rate=RATES, units=st.integers(0, 10**24 - 1))
@example(currency="GBP", rate=Decimal("0.999999"), units=999_999_999_999_999_999_500_010)
def test_tax_is_exact_up_to_the_largest_amount(currency: str, rate: Decimal, units: int) -> None:
    """Twenty-four digits are taxed as exactly as two, and never rounded twice."""
    amount = Decimal(units).scaleb(-DECIMALS[currency])
    assert tax_of(amount, rate, currency) == exact_tax(amount, rate, currency)


@pytest.mark.parametrize(
    ("amount", "rate", "currency", "tax"),
    [
        ("0.50", "0.01", "GBP", "0.01"),
        ("0.49", "0.01", "GBP", "0.00"),
        ("2.50", "0.05", "GBP", "0.13"),
        ("50", "0.01", "JPY", "1"),
        ("49", "0.01", "JPY", "0"),
        ("0.050", "0.01", "KWD", "0.001"),
        ("0.049", "0.01", "KWD", "0.000"),
    ],
)
def test_half_a_unit_rounds_up(amount: str, rate: str, currency: str, tax: str) -> None:
    """In currencies without, with two and with three decimals."""
    assert str(tax_of(Decimal(amount), Decimal(rate), currency)) == tax


def test_rounding_is_per_line() -> None:
    """Two lines of half a unit each are taxed one unit each, not one together."""
    half = {"sku": "mug", "quantity": 1, "unit_price": "0.50"}
    order = OrderValidated.model_validate(OrderValidated.example | {"lines": [half, half], "total": "1.00"})
    assert draft(order, {"BR": Decimal("0.01")}).issue(1, ISSUED_AT).tax == Decimal("0.02")


@given(country=st.none() | st.sampled_from(["BR", "GB"]))
@example(country=None)
def test_country_without_a_rate_pays_none(country: str | None) -> None:
    """Only customers of the countries in the table are taxed; one of unknown country is not."""
    customer = OrderValidated.example["customer"] | {"country": country}
    order = OrderValidated.model_validate(OrderValidated.example | {"customer": customer})
    invoice = draft(order, {"PT": Decimal("0.23")}).issue(1, ISSUED_AT)
    assert (str(invoice.tax), str(invoice.total)) == ("0.00", "35.64")


@pytest.mark.parametrize(
    ("sequence", "number"),
    [(1, "2026-000001"), (999_999, "2026-999999"), (1_000_000, "2026-1000000")],
)
def test_number_of_an_invoice(sequence: int, number: str) -> None:
    """Year and at least six digits; the millionth invoice just gets longer."""
    order = OrderValidated.model_validate(OrderValidated.example)
    assert draft(order, {}).issue(sequence, ISSUED_AT).number == number


def test_series_follows_the_year_in_utc() -> None:
    """Numbers start anew with the year of Greenwich, wherever the server stands."""
    assert series(datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)) == "2026"
    assert series(datetime(2027, 1, 1, tzinfo=UTC)) == "2027"


def test_one_invoice_id_per_order() -> None:
    """A repeat is the same invoice, another order another one."""
    assert invoice_id(UUID(int=1)) == invoice_id(UUID(int=1)) != invoice_id(UUID(int=2))
