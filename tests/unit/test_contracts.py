"""The contracts: what may be published, how it is written, and what is refused with which words."""

import json
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import reduce
from typing import Any, get_args
from uuid import UUID

import pytest
from hypothesis import given
from pydantic import BaseModel, TypeAdapter, ValidationError

from apps.kit.validation import explain, field_problems
from contracts import (
    EVENTS,
    Customer,
    Event,
    InvoiceIssued,
    NotificationSent,
    OrderCreated,
    OrderRejected,
    OrderValidated,
    StockAdjusted,
)
from contracts.amounts import DECIMALS, Timestamp
from tests.unit.strategies import orders

Path = tuple[str | int, ...]

of_every_event = pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)


def changed(example: Mapping[str, Any], path: Path, value: Any) -> dict[str, Any]:
    """The example with another value in one place."""
    body = deepcopy(dict(example))
    *way, last = path
    reduce(lambda part, step: part[step], way, body)[last] = value  # type: ignore[index]
    return body


def refusal(event: type[Event], body: Mapping[str, Any]) -> ValidationError:
    """The error that a body causes when it arrives as JSON."""
    with pytest.raises(ValidationError) as caught:
        event.model_validate_json(json.dumps(body))
    return caught.value


def models_in(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A model and every model within it."""
    yield model
    for field in model.model_fields.values():
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from models_in(part)


def amounts_in(body: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Every amount of an example, with its place."""
    if isinstance(body, dict):
        for name, value in body.items():
            if name in {"unit_price", "total", "subtotal", "tax", "tax_rate"}:
                yield (*path, name), value
            yield from amounts_in(value, (*path, name))
    elif isinstance(body, list):
        for position, item in enumerate(body):
            yield from amounts_in(item, (*path, position))


AMOUNTS = [(event, path, amount) for event in EVENTS for path, amount in amounts_in(event.example)]


@of_every_event
def test_example_is_valid_and_complete(event: type[Event]) -> None:
    """What the documentation shows can be published as it stands, and shows the fields that matter."""
    parsed = event.model_validate_json(json.dumps(event.example))
    assert set(event.example) >= {name for name, field in event.model_fields.items() if field.is_required()}
    assert event.model_json_schema()["examples"] == [event.example]
    assert parsed.model_dump(mode="json").keys() == event.model_fields.keys()


@of_every_event
def test_json_round_trip_keeps_every_byte(event: type[Event]) -> None:
    """An event that is read and written again is the same text, and its amounts are those of the sender."""
    written = event.model_validate(event.example).model_dump_json()
    read = event.model_validate_json(written)
    assert read == event.model_validate(event.example)
    assert read.model_dump_json() == written
    assert dict(amounts_in(json.loads(written))) == dict(amounts_in(event.example))


@given(order=orders())
def test_any_order_survives_the_wire(order: OrderCreated) -> None:
    """Amounts in every currency, times and any text come through JSON unchanged, down to the byte."""
    written = order.model_dump_json()
    read = OrderCreated.model_validate_json(written)
    assert (read, read.model_dump_json()) == (order, written)
    body = json.loads(written)
    assert Decimal(body["total"]).as_tuple().exponent == -DECIMALS[order.currency]
    assert body["placed_at"].endswith("Z")


@of_every_event
def test_every_field_is_described(event: type[Event]) -> None:
    """Whoever reads a schema finds a sentence at each field, at every depth."""
    for model in models_in(event):
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"


@of_every_event
def test_topic_version_and_owner(event: type[Event]) -> None:
    """The routing key ends with the version, and the time of the event is one of its fields."""
    assert event.topic.endswith(f".v{event.version}")
    assert event.owner
    assert event.time_field in event.model_fields
    assert event.identity_field in event.model_fields


@of_every_event
def test_history_begins_with_the_introduction(event: type[Event]) -> None:
    """Whoever reads about a version of an event finds what each release changed in it, in its own words."""
    assert "history" in vars(event)
    assert event.history[0].change.startswith("Introduced")
    for release, change in event.history:
        assert re.fullmatch(r"\d+\.\d+\.\d+", release)
        assert change.endswith(".")


def test_topics_are_unique() -> None:
    """No two events share a routing key."""
    assert len({event.topic for event in EVENTS}) == len(EVENTS)


@of_every_event
def test_events_are_frozen(event: type[Event]) -> None:
    """A fact is not changed after it happened, and neither is any part of it."""
    parsed = event.model_validate(event.example)
    for model in models_in(event):
        assert model.model_config.get("frozen") is True, model.__name__
    with pytest.raises(ValidationError, match="frozen"):
        setattr(parsed, event.time_field, None)


@of_every_event
def test_unknown_fields_are_ignored(event: type[Event]) -> None:
    """A publisher may add fields at every depth before its consumers know them."""

    def extended(value: Any) -> Any:
        if isinstance(value, dict):
            return {**{name: extended(part) for name, part in value.items()}, "added_later": {"a": 1}}
        return [extended(item) for item in value] if isinstance(value, list) else value

    assert event.model_validate(extended(event.example)) == event.model_validate(event.example)


@pytest.mark.parametrize(
    ("event", "path", "amount"), AMOUNTS, ids=[f"{event.__name__}-{path}" for event, path, _ in AMOUNTS]
)
def test_json_numbers_are_no_money(event: type[Event], path: Path, amount: str) -> None:
    """A binary float has lost what a decimal string keeps, so a number is refused even where it is exact."""
    for number in (float(amount), int(float(amount))):
        error = refusal(event, changed(event.example, path, number))
        assert (".".join(map(str, path)), 'an amount is a decimal string such as "2.55"') in field_problems(
            error.errors()
        )


def line(**changes: Any) -> dict[str, Any]:
    first: dict[str, Any] = OrderCreated.example["lines"][0]
    return first | changes


REFUSED: list[tuple[type[Event], Path, Any, str]] = [
    (OrderCreated, ("order_id",), "536365", "order_id"),
    (OrderCreated, ("reference",), "", "reference"),
    (OrderCreated, ("currency",), "GPB", "currency"),
    (OrderCreated, ("currency",), "gbp", "currency"),
    (OrderCreated, ("customer", "id"), "", "customer.id"),
    (OrderCreated, ("customer", "email"), "ana.souza.example.com", "customer.email"),
    (OrderCreated, ("customer", "phone"), "11987654321", "customer.phone"),
    (OrderCreated, ("customer", "locale"), "Ana Souza", "customer.locale"),
    (OrderCreated, ("customer", "country"), "Brasil", "customer.country"),
    (OrderCreated, ("customer", "name"), "Ana Souza" * 30, "customer.name"),
    (OrderCreated, ("lines",), [], "lines"),
    (OrderCreated, ("lines",), [line(quantity=1)] * 1001, "lines"),
    (OrderCreated, ("lines", 0, "sku"), "", "lines.0.sku"),
    (OrderCreated, ("lines", 1, "quantity"), 0, "lines.1.quantity"),
    (OrderCreated, ("lines", 1, "quantity"), -6, "lines.1.quantity"),
    (OrderCreated, ("lines", 1, "quantity"), 1_000_001, "lines.1.quantity"),
    (OrderCreated, ("lines", 1, "quantity"), "6", "lines.1.quantity"),
    (OrderCreated, ("lines", 1, "quantity"), 6.0, "lines.1.quantity"),
    (OrderCreated, ("lines", 1, "quantity"), True, "lines.1.quantity"),
    (OrderCreated, ("lines", 0, "unit_price"), "-2.55", "lines.0.unit_price"),
    (OrderCreated, ("lines", 0, "unit_price"), "2,55", "lines.0.unit_price"),
    (OrderCreated, ("lines", 0, "unit_price"), "NaN", "lines.0.unit_price"),
    (OrderCreated, ("lines", 0, "unit_price"), "Infinity", "lines.0.unit_price"),
    (OrderCreated, ("lines", 0, "unit_price"), "1" * 25, "lines.0.unit_price"),
    (OrderCreated, ("lines", 0, "unit_price"), "2.550", "lines"),
    (OrderCreated, ("lines", 0, "unit_price"), "3", "lines"),
    (OrderCreated, ("total",), "35.640", "total"),
    (OrderCreated, ("total",), "35.65", "total"),
    (OrderCreated, ("placed_at",), "2026-11-22T10:15:00", "placed_at"),
    (OrderCreated, ("placed_at",), 1_795_342_500, "placed_at"),
    (OrderValidated, ("total",), "35.65", "total"),
    (OrderRejected, ("reasons",), [], "reasons"),
    (OrderRejected, ("reasons", 0, "code"), "sold_out", "reasons.0.code"),
    (InvoiceIssued, ("number",), "123", "number"),
    (InvoiceIssued, ("lines", 0, "tax_rate"), "20", "lines.0.tax_rate"),
    (InvoiceIssued, ("lines", 0, "tax"), "3.07", "tax"),
    (InvoiceIssued, ("subtotal",), "35.65", "subtotal"),
    (InvoiceIssued, ("tax",), "7.130", "tax"),
    (InvoiceIssued, ("total",), "42.78", "total"),
    (NotificationSent, ("channel",), "pigeon", "channel"),
    (StockAdjusted, ("quantity",), -1, "quantity"),
    (StockAdjusted, ("quantity",), None, "quantity"),
    (StockAdjusted, ("unlimited",), True, "unlimited"),
    (StockAdjusted, ("mode",), "take", "mode"),
]


@pytest.mark.parametrize(
    ("event", "path", "value", "field"),
    REFUSED,
    ids=[
        f"{event.__name__}-{'.'.join(map(str, path))}-{str(value)[:12]}" for event, path, value, _ in REFUSED
    ],
)
def test_refusal_names_the_field_and_nobody(event: type[Event], path: Path, value: Any, field: str) -> None:
    """What breaks the contract is refused by the name of its field, without the customer's data."""
    error = refusal(event, changed(event.example, path, value))
    assert field in explain(error)
    customer = [str(part) for part in OrderCreated.example["customer"].values() if len(str(part)) > 2]
    for said in (explain(error), str(error)):
        assert not [part for part in (*customer, "ana.souza") if part in said]


@of_every_event
def test_missing_fields_are_all_named(event: type[Event]) -> None:
    """An empty body is answered with every field that it lacks."""
    missing = {path for path, _ in field_problems(refusal(event, {}).errors())}
    assert missing == {name for name, field in event.model_fields.items() if field.is_required()}


@pytest.mark.parametrize("body", ["", "{", "[]", "null", '"order"', "\ufeff{}"])
def test_what_is_no_object_is_refused(body: str) -> None:
    """A body that is no JSON object is a validation error like any other."""
    with pytest.raises(ValidationError):
        OrderCreated.model_validate_json(body)


@pytest.mark.parametrize(
    ("currency", "exact", "others"),
    [("JPY", "7", ("7.0", "7.00")), ("GBP", "7.00", ("7", "7.0", "7.000")), ("KWD", "7.000", ("7", "7.00"))],
)
def test_amounts_have_the_decimals_of_their_currency(
    currency: str, exact: str, others: tuple[str, ...]
) -> None:
    """Neither fewer nor more, for currencies with none, two and three decimals."""

    def order(price: str, total: str) -> dict[str, Any]:
        return OrderCreated.example | {
            "currency": currency,
            "lines": [line(quantity=1, unit_price=price)],
            "total": total,
        }

    assert str(OrderCreated.model_validate(order(exact, exact)).total) == exact
    for other in others:
        decimals = f"must have exactly {DECIMALS[currency]} decimals ({currency})"
        assert f"unit_price {other} {decimals}" in explain(refusal(OrderCreated, order(other, exact)))
        assert f"total {other} {decimals}" in explain(refusal(OrderCreated, order(exact, other)))


def test_wrong_total_says_what_it_must_be() -> None:
    """The sender learns the sum that was expected."""
    error = refusal(OrderCreated, changed(OrderCreated.example, ("total",), "35.65"))
    assert explain(error) == "total: total 35.65 differs from the sum of the lines, 35.64"


def test_bounds_are_included() -> None:
    """A thousand lines, a million units and a price of zero are within the contract."""
    free = line(quantity=1_000_000, unit_price="0.00")
    order = OrderCreated.model_validate(OrderCreated.example | {"lines": [free] * 1000, "total": "0.00"})
    assert order.quantities() == {"85123A": 1_000_000_000}


def test_repeated_articles_are_wanted_together() -> None:
    """The same sku in several lines counts as one wish."""
    body = OrderCreated.example | {"lines": [line(quantity=2), line(quantity=3)], "total": "12.75"}
    assert OrderCreated.model_validate(body).quantities() == {"85123A": 5}


def test_only_the_customer_id_is_required() -> None:
    """A shop that knows nothing else of its customer can still sell."""
    assert Customer.model_validate({"id": "17850"}).email is None


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2026-11-22T07:15:00.123999-03:00", datetime(2026, 11, 22, 10, 15, 0, 123000, UTC)),
        ("2026-11-22T10:15:00Z", datetime(2026, 11, 22, 10, 15, tzinfo=UTC)),
    ],
)
def test_times_are_utc_in_milliseconds(written: str, meant: datetime) -> None:
    """A time from anywhere becomes UTC, at the precision that the stores keep."""
    read: datetime = TypeAdapter(Timestamp).validate_json(json.dumps(written))
    assert read == meant
    assert read.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("event", "event_id"),
    [
        (OrderCreated, "965fb694-c150-5b59-8126-9a2316fc20c3"),
        (OrderValidated, "80bb8334-40d8-561d-bf30-c5116528ce3e"),
        (StockAdjusted, "07b67286-8ad2-5cc1-ba3c-d862ea49bc7b"),
    ],
)
def test_event_ids_never_change(event: type[Event], event_id: str) -> None:
    """Ids derived by earlier versions stay valid: another rule would make every repeat look new."""
    assert event.model_validate(event.example).event_id == UUID(event_id)


@of_every_event
def test_event_id_follows_topic_and_natural_key_only(event: type[Event]) -> None:
    """A repeat with another time keeps the id; another key, or another event about the same key, does not."""
    first = event.model_validate(event.example)
    later = event.model_validate(event.example | {event.time_field: "2027-01-01T00:00:00Z"})
    other = event.model_validate(event.example | {event.identity_field: str(UUID(int=1))})
    assert first.event_id == later.event_id
    assert first.event_id != other.event_id
    assert len({kind.model_validate(kind.example).event_id for kind in EVENTS}) == len(EVENTS)


def test_only_the_first_hundred_mistakes_are_listed() -> None:
    """Nobody reads more, and what is left out is counted."""
    problems = field_problems(refusal(OrderCreated, {**OrderCreated.example, "lines": [{}] * 200}).errors())
    assert len(problems) == 101
    assert problems[0] == ("lines.0.sku", "Field required")
    assert problems[-1] == ("", "and 500 more")
