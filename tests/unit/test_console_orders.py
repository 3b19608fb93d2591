"""The console's orders without a system: searches, the picture of a timeline, payloads, hostile texts."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from starlette.datastructures import QueryParams

from apps.billing.statements import Statements
from apps.console.audience import Audience
from apps.console.order_search import Kind, Search
from apps.console.order_story import Story, can_cancel
from apps.console.orders import PARTS
from apps.console.payloads import payloads_of
from apps.console.timeline import moments_of
from apps.kit.problems import ProblemError
from apps.kit.scopes import Scope
from apps.kit.wording import Language
from apps.orders.application import OrderFilter
from apps.orders.document import Order
from apps.orders.domain import Status
from apps.orders.views import OrderSummary, OrderView
from apps.stock.document import Reservation
from apps.stock.mongo import _digest
from contracts import (
    DeadLetterClosed,
    DeadLetterOpened,
    InvoiceIssued,
    InvoiceVoided,
    NotificationSent,
    OrderCreated,
    OrderRejected,
    OrderValidated,
)
from contracts.orders import EXAMPLE_CONTENT, EXAMPLE_ORDER_ID

ORDER_ID = UUID(EXAMPLE_ORDER_ID)
PLACED_AT = datetime(2026, 11, 22, 10, 15, tzinfo=UTC)
CREATED = OrderCreated.model_validate(OrderCreated.example)
HOSTILE = """"'><script>pwned=1</script><img src=x onerror=pwned=1>\N{RIGHT-TO-LEFT OVERRIDE}"""


def order(**changes: Any) -> Order:
    """The example's order, as the read model keeps it."""
    content = CREATED.model_dump(mode="json", exclude={"order_id", "reference"})
    known = {
        "id": ORDER_ID,
        "rank": Status.INVOICED.rank,
        "recorded_at": PLACED_AT,
        "changed_at": PLACED_AT,
        "content": content,
        "reference": CREATED.reference,
        "customer_id": CREATED.customer.id,
    }
    return Order(**known | changes)


def events(*offsets_seconds: float) -> dict[str, dict[str, Any]]:
    """Entries of a timeline, each so long after the order was placed."""
    return {
        str(UUID(int=number)): {"event": f"Event{number}", "at": PLACED_AT + timedelta(seconds=offset)}
        for number, offset in enumerate(offsets_seconds)
    }


def reservation(**changes: Any) -> Reservation:
    known = {
        "id": ORDER_ID,
        "content_digest": _digest(CREATED),
        "lines": [{"sku": "71053", "quantity": 6}],
        "reasons": [],
        "decided_at": PLACED_AT,
    }
    return Reservation(**known | changes)


def search(**params: str) -> Search:
    return Search.of(QueryParams(params))


def test_empty_form_finds_everything() -> None:
    """A form that was sent as it came has all fields, and they are empty."""
    found = search(q=" ", status="", since="", until="", zone="Europe/Lisbon", cursor="")

    assert found.is_everything
    assert found.filter(None) == OrderFilter()
    assert not search(stuck="1").is_everything


def test_times_are_those_of_the_viewers_clock() -> None:
    """Noon in São Paulo is three in the afternoon in UTC; of a zone that there is not, noon is UTC."""
    noon = "2026-11-22T12:00"

    assert search(since=noon, zone="America/Sao_Paulo").filter(None).since == datetime(
        2026, 11, 22, 15, tzinfo=UTC
    )
    for zone in ("", "America", "../../etc/passwd", "Nowhere/Else", "\0"):
        assert search(until=noon, zone=zone).filter(None).until == datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "given",
    [
        {"since": "yesterday"},
        {"until": "0001-01-01T00:00", "zone": "Asia/Tokyo"},
        {"status": "lost"},
        {"kind": "colour"},
        {"cursor": "x"},
    ],
)
def test_what_no_form_sends_is_refused(given: dict[str, str]) -> None:
    """An address that was made up says which part of it is wrong."""
    with pytest.raises(ProblemError) as refused:
        search(**given)

    assert refused.value.status_code == 422


def test_next_page_is_of_the_same_search() -> None:
    """All that was asked for is in the address of the next page, and read back the same."""
    first = search(q="17850", kind="customer", status="notified", since="2026-11-22T10:00", zone="UTC")
    cursor = "MjAyNi0xMS0yMlQxMDoxNTowMCswMDowMCA3ZDJjMmYzZS02ZTBhLTVjMWItOWE0My0wZjZhMmI2YTFjNTU="

    second = Search.of(QueryParams(first.query(cursor=cursor)))

    assert second.cursor == cursor
    assert second.filter("acme") == first.filter("acme")
    since = datetime(2026, 11, 22, 10, tzinfo=UTC)
    assert first.filter("acme") == OrderFilter(
        status=Status.NOTIFIED, customer_id="17850", client="acme", since=since
    )


def test_text_is_what_it_names() -> None:
    """A reference unless it is none; what the viewer says it is, if it is that too."""
    assert search(q="1").of_kind(tuple(Kind)).kind == "reference"
    assert search(q="1").of_kind((Kind.CUSTOMER,)).kind == "customer"
    assert search(q="1", kind="customer").of_kind(tuple(Kind)).kind == "customer"
    assert search(q="1", kind="customer").of_kind((Kind.REFERENCE,)).kind == "reference"
    assert search(q="1").of_kind(()).kind is None


def test_bars_are_as_long_as_the_time_between_events() -> None:
    """Each begins where the one before ended; together they are the whole."""
    moments = moments_of(OrderView.of(order(events=events(0, 1, 4, 10))), {})

    assert [moment.after_seconds for moment in moments] == [None, 1, 3, 6]
    assert [(moment.begin, moment.length) for moment in moments] == [(0, 0), (0, 10), (10, 30), (40, 60)]
    assert [moment.payload for moment in moments] == [None] * 4


def test_years_before_an_import_do_not_dwarf_the_rest() -> None:
    """An old order counts from when it came in; what happened to it before by another's clock, as then."""
    known_at = PLACED_AT + timedelta(days=5000)
    imported = order(recorded_at=known_at, events=events(0, 5000 * 86_400 - 1, 5000 * 86_400 + 2))

    moments = moments_of(OrderView.of(imported), {})

    assert [moment.after_seconds for moment in moments] == [None, 0, 2]
    assert moments[0].at == PLACED_AT


def test_events_at_one_moment_are_still_seen() -> None:
    """Nothing is divided by no time, and no bar reaches beyond the whole."""
    assert moments_of(OrderView.of(order()), {}) == []
    for moments in (
        moments_of(OrderView.of(order(events=events(0, 0, 0))), {}),
        moments_of(OrderView.of(order(events=events(0, 1, 1))), {}),
    ):
        assert all(moment.length > 0 and moment.begin + moment.length <= 100.01 for moment in moments[1:])


def test_payloads_are_those_that_the_apps_publish() -> None:
    """Each event is made again from what its app keeps of it, with the id that it had."""
    opened, closed = DeadLetterOpened.example, DeadLetterClosed.example
    own = {"order_id", "occurrence_id"}
    letters = {
        opened["occurrence_id"]: {
            "opened": {name: value for name, value in opened.items() if name not in own},
            "closed": {name: value for name, value in closed.items() if name not in own},
        }
    }
    issued, voided = (kind.model_validate(kind.example) for kind in (InvoiceIssued, InvoiceVoided))
    told = NotificationSent.model_validate(NotificationSent.example)
    validated = OrderValidated.of(CREATED, order_id=ORDER_ID, placed_at=PLACED_AT, validated_at=PLACED_AT)

    payloads = payloads_of(order(dead_letters=letters), reservation(), Statements(issued, voided), [told])

    expected = [
        CREATED,
        validated,
        issued,
        voided,
        told,
        DeadLetterOpened.model_validate(opened),
        DeadLetterClosed.model_validate(closed),
    ]
    assert payloads == {event.event_id: event.model_dump(mode="json") for event in expected}


def test_refusal_is_made_again_with_its_reasons() -> None:
    """Also that of an order whose cancellation came first."""
    reasons = [{"code": "cancelled", "sku": None, "requested": None, "available": None}]
    refusal = reservation(content_digest=None, lines=[], reasons=reasons, released_at=PLACED_AT)

    payloads = payloads_of(order(), refusal, Statements(), [])

    (rejected,) = (payload for payload in payloads.values() if "rejected_at" in payload)
    assert OrderRejected.model_validate(rejected).reasons[0].code == "cancelled"


def test_what_is_not_kept_is_not_made_up() -> None:
    """A decision about other lines, or about an order of which the content is missing, has no payload."""
    assert list(payloads_of(order(), reservation(content_digest="another"), Statements(), [])) == [
        CREATED.event_id
    ]
    assert payloads_of(order(content=None), reservation(), Statements(), []) == {}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"rank": Status.NOTIFIED.rank}, True),
        ({"rank": Status.REJECTED.rank}, False),
        ({"cancellation": {"cancelled_at": PLACED_AT, "reason": "any", "reference": None}}, False),
        ({"content": None}, False),
    ],
)
def test_cancellation_is_offered_where_it_can_be(changes: dict[str, Any], *, expected: bool) -> None:
    """As the API would answer: not twice, not once it is rejected, and not while nobody knows whose it is."""
    assert can_cancel(order(**changes)) is expected


@pytest.mark.parametrize("language", Language)
def test_hostile_texts_stay_texts(language: Language) -> None:
    """Whatever a customer writes into an order is shown letter by letter, and runs nowhere."""
    customer = EXAMPLE_CONTENT["customer"] | {"id": HOSTILE, "name": HOSTILE}
    line = {"sku": HOSTILE, "description": HOSTILE, "quantity": 1, "unit_price": "1.00"}
    hostile = order(
        reference=HOSTILE,
        customer_id=HOSTILE,
        content={
            "customer": customer,
            "currency": "GBP",
            "lines": [line],
            "total": "1.00",
            "placed_at": "2026-11-22T10:15:00Z",
        },
        cancellation={
            "cancelled_at": PLACED_AT,
            "reason": HOSTILE,
            "reference": HOSTILE,
            "customer": customer,
        },
        events=events(0, 1) | {str(CREATED.event_id): {"event": HOSTILE, "at": PLACED_AT, "detail": HOSTILE}},
    )
    story = Story(
        order=(view := OrderView.of(hostile)),
        moments=moments_of(view, payloads_of(hostile, None, Statements(), [])),
        reservation=reservation(lines=[{"sku": HOSTILE, "quantity": 1}]),
        statements=Statements(),
        told=[],
        posted=[],
        can_cancel=True,
        can_resend=True,
        trace_id=None,
        trace_link=None,
    )
    audience = Audience("order", language, "/console", frozenset(Scope))

    parts = [audience.render(f"orders/{part}.html", story=story, order=story.order) for part in PARTS]
    row = audience.render("orders/row.html", order=OrderSummary.of(hostile), is_new=True)

    for html in (*parts, row):
        assert "<script" not in html
        assert "<img" not in html
        assert html.count('id="') >= 1
    assert sum("&lt;script&gt;" in html for html in (*parts, row)) >= 6
