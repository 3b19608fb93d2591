"""Orders as hypothesis draws them: any currency, any prices that it can write, totals that add up."""

from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

from hypothesis import strategies as st

from contracts import Customer, OrderCreated, OrderLine, OrderValidated
from contracts.amounts import DECIMALS

SKUS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
UUIDS = st.uuids()
INSTANTS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # hypothesis adds it
CUSTOMERS = st.builds(
    Customer,
    id=st.text(st.characters(codec="utf-8"), min_size=1, max_size=20),
    name=st.none() | st.text(st.characters(codec="utf-8"), max_size=20),
    email=st.sampled_from([None, "ana.souza@example.com"]),
    phone=st.sampled_from([None, "+5511987654321"]),
    locale=st.sampled_from([None, "en", "pt-BR"]),
    country=st.sampled_from([None, "BR", "GB"]),
)


def amounts(currency: str) -> st.SearchStrategy[Decimal]:
    """Amounts with exactly the decimals of a currency."""
    return st.integers(0, 10**12).map(lambda units: Decimal(units).scaleb(-DECIMALS[currency]))


@st.composite
def lines(draw: st.DrawFn, currency: str) -> tuple[OrderLine, ...]:
    """One to eight lines; articles may repeat."""
    line = st.builds(
        OrderLine,
        sku=SKUS,
        description=st.text(st.characters(codec="utf-8"), max_size=20),
        quantity=st.integers(1, 1_000_000),
        unit_price=amounts(currency),
    )
    return tuple(draw(st.lists(line, min_size=1, max_size=8)))


@st.composite
def orders(draw: st.DrawFn, order_ids: st.SearchStrategy[UUID] = UUIDS) -> OrderCreated:
    """Orders that keep the contract."""
    currency = draw(st.sampled_from(sorted(DECIMALS)))
    ordered = draw(lines(currency))
    return OrderCreated(
        order_id=draw(order_ids),
        reference=draw(st.none() | st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)),
        customer=draw(CUSTOMERS),
        currency=currency,
        lines=ordered,
        total=sum((line.amount for line in ordered), Decimal(0)),
        placed_at=draw(INSTANTS),
    )


def validated(order: OrderCreated) -> OrderValidated:
    """The order once all its lines are reserved."""
    return OrderValidated.of(
        order, order_id=order.order_id, placed_at=order.placed_at, validated_at=order.placed_at
    )
