"""The rules of billing: tax per line, rounded half up; sums that add up; numbers within a year."""

from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Context, Decimal
from uuid import UUID, uuid5

from contracts import Invoice, InvoiceIssued, InvoiceLine, InvoiceVoided, OrderCancelled, OrderValidated
from contracts.amounts import DECIMALS
from contracts.event import NAMESPACE

_EXACT = Context(prec=40, rounding=ROUND_HALF_UP)
"""Holds every digit of an amount times a rate; the default of 28 digits would round twice."""


def invoice_id(order_id: UUID) -> UUID:
    """One invoice per order, so the order's id decides the invoice's."""
    return uuid5(NAMESPACE, f"invoice/{order_id}")


def series(issued_at: datetime) -> str:
    """The series that an invoice belongs to: numbers start anew each year (UTC)."""
    return f"{issued_at:%Y}"


def credit_note_series(voided_at: datetime) -> str:
    """The series of a credit note, apart from that of the invoices; numbers start anew each year (UTC)."""
    return f"CN-{voided_at:%Y}"


def number_in(name: str, sequence: int) -> str:
    """The number of a document in the series of that name."""
    return f"{name}-{sequence:06}"


def tax_of(amount: Decimal, rate: Decimal, currency: str) -> Decimal:
    """Tax of one line in the currency's decimals; half a unit rounds up."""
    unit = Decimal(1).scaleb(-DECIMALS[currency])
    return _EXACT.quantize(_EXACT.multiply(amount, rate), unit)


@dataclass(frozen=True)
class Draft:
    """An invoice that lacks only its number and time."""

    order: OrderValidated
    lines: tuple[InvoiceLine, ...]

    def issue(self, sequence: int, issued_at: datetime) -> InvoiceIssued:
        """The invoice under the given number of its series."""
        subtotal = sum((line.amount for line in self.lines), Decimal(0))
        tax = sum((line.tax for line in self.lines), Decimal(0))
        return InvoiceIssued(
            invoice_id=invoice_id(self.order.order_id),
            number=number_in(series(issued_at), sequence),
            order_id=self.order.order_id,
            reference=self.order.reference,
            customer=self.order.customer,
            currency=self.order.currency,
            lines=self.lines,
            subtotal=subtotal,
            tax=tax,
            total=subtotal + tax,
            issued_at=issued_at,
        )


def voided(
    invoice: InvoiceIssued, cancellation: OrderCancelled, sequence: int, voided_at: datetime
) -> InvoiceVoided:
    """The credit note that cancels an invoice in full, under the given number of its series."""
    return InvoiceVoided(
        **{name: getattr(invoice, name) for name in Invoice.model_fields},
        credit_note_number=number_in(credit_note_series(voided_at), sequence),
        reason=cancellation.reason,
        voided_at=voided_at,
    )


def draft(order: OrderValidated, rates: dict[str, Decimal]) -> Draft:
    """Price an order.

    Args:
        order: what is billed; its prices are before tax.
        rates: tax rate by country, a share from 0 to 1; countries not named pay 0.
    """
    rate = rates.get(order.customer.country or "", Decimal(0))
    return Draft(
        order,
        tuple(
            InvoiceLine(
                sku=line.sku,
                description=line.description,
                quantity=line.quantity,
                unit_price=line.unit_price,
                tax_rate=rate,
                tax=tax_of(line.amount, rate, order.currency),
            )
            for line in order.lines
        ),
    )
