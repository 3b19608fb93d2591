"""The read model: any order of arrival, with any repeats, ends the same."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.notifications.domain import notification_id
from apps.orders.application import AcceptedOrder
from apps.orders.document import Order, received
from apps.orders.domain import FROM_THE_START, Status, effect_of
from apps.orders.views import OrderSummary, OrderView
from contracts import (
    EVENTS,
    DeadLetterClosed,
    DeadLetterOpened,
    Event,
    InvoiceIssued,
    InvoiceVoided,
    NotificationFailed,
    NotificationSent,
    NotificationSkipped,
    OrderCancelled,
    OrderCreated,
    OrderRejected,
    OrderValidated,
    StockAdjusted,
    WebhookEndpointDisabled,
)
from contracts.orders import EXAMPLE_ORDER_ID
from tests.flows.fakes import ReadModelInMemory

ORDER_ID = UUID(EXAMPLE_ORDER_ID)
OF_AN_ORDER = [event for event in EVENTS if event not in {StockAdjusted, WebhookEndpointDisabled}]
EXAMPLES: dict[type[Event], Event] = {event: event.model_validate(event.example) for event in EVENTS}


def cancelled(**changes: Any) -> OrderCancelled:
    return OrderCancelled.model_validate(OrderCancelled.example | changes)


def told(template: str, kind: type[Event] = NotificationSent) -> Event:
    """The outcome of one of the messages about the order."""
    identity = {"notification_id": notification_id(ORDER_ID, template), "template": template}
    return kind.model_validate(kind.example | identity)


ARRIVALS: Sequence[Event] = (
    *(EXAMPLES[kind] for kind in OF_AN_ORDER),
    cancelled(reason="Too late.", cancelled_at="2026-11-22T12:00:00Z", reference="another"),
    cancelled(reason="First.", cancelled_at="2026-11-22T10:00:00Z", reference=None, customer={"id": "c-2"}),
    told("order-cancelled"),
    told("invoice-voided", NotificationFailed),
)
"""All that may be heard of one order: three have cancelled it, and know it by other names."""


def read_model_after(events: Iterable[Event]) -> ReadModelInMemory:
    """The read model once the events have arrived, in this order."""
    read_model = ReadModelInMemory()

    async def arrive() -> None:
        for event in events:
            await read_model.record(event)

    asyncio.run(arrive())
    return read_model


def facts_after(*events: Event) -> dict[str, Any]:
    return read_model_after(events).facts(ORDER_ID)


def status_after(*kinds: type[Event]) -> Status:
    return Status.of_rank(facts_after(*(EXAMPLES[kind] for kind in kinds))["rank"])


@given(events=st.lists(st.sampled_from(ARRIVALS), min_size=1, unique_by=id), data=st.data())
def test_every_order_of_arrival_ends_the_same(events: list[Event], data: st.DataObject) -> None:
    """Late, twice or reversed: the same events make the same document."""
    repeats = data.draw(st.lists(st.sampled_from(events), max_size=6))
    arrivals = data.draw(st.permutations([*events, *repeats]))
    assert facts_after(*arrivals) == facts_after(*events)


@given(arrivals=st.permutations(ARRIVALS))
def test_order_of_which_all_was_heard_awaits_nothing(arrivals: list[Event]) -> None:
    """Whatever came last, a cancelled order that was undone and told of is through."""
    assert read_model_after(arrivals).order(ORDER_ID).awaited == []


@given(
    arrivals=st.lists(
        st.tuples(st.sampled_from(OF_AN_ORDER), st.sampled_from([ORDER_ID, UUID(int=2)])), max_size=12
    )
)
def test_orders_do_not_touch_each_other(arrivals: list[tuple[type[Event], UUID]]) -> None:
    """Events of other orders in between leave an order as it is."""
    events = [kind.model_validate(kind.example | {"order_id": order_id}) for kind, order_id in arrivals]
    mine = [event for event in events if event.correlation_id == str(ORDER_ID)]
    assert read_model_after(events).documents.get(ORDER_ID, {}).keys() == (
        read_model_after(mine).documents.get(ORDER_ID, {}).keys()
    )
    if mine:
        assert read_model_after(events).facts(ORDER_ID) == facts_after(*mine)


@pytest.mark.parametrize(
    ("kinds", "status"),
    [
        ((OrderCreated,), Status.CREATED),
        ((OrderValidated, OrderCreated), Status.VALIDATED),
        ((InvoiceIssued, OrderCreated, OrderValidated), Status.INVOICED),
        ((NotificationSkipped, InvoiceIssued), Status.UNREACHABLE),
        ((NotificationSent, InvoiceIssued, OrderValidated), Status.NOTIFIED),
        ((NotificationSent, OrderRejected, OrderCreated), Status.REJECTED),
        ((OrderRejected, NotificationSkipped), Status.REJECTED),
        ((NotificationFailed, InvoiceIssued), Status.UNREACHABLE),
        ((OrderCancelled, NotificationSent, InvoiceIssued), Status.CANCELLED),
        ((OrderRejected, OrderCancelled), Status.CANCELLED),
        ((InvoiceVoided, InvoiceIssued, NotificationSent), Status.CANCELLED),
    ],
)
def test_status_is_the_furthest_that_was_reached(kinds: tuple[type[Event], ...], status: Status) -> None:
    """The furthest event decides, whichever came last; the mail about a refusal does not hide it."""
    assert status_after(*kinds) is status


def test_final_statuses() -> None:
    """Every order ends in one of these, and nothing before them is an end."""
    final = {status for status in Status if status.is_final}
    assert final == {Status.UNREACHABLE, Status.NOTIFIED, Status.REJECTED, Status.CANCELLED}


def test_events_tell_the_same_fact_alike() -> None:
    """Where several kinds of event tell of one field, they tell the same, so none can undo another."""
    facts: dict[str, Any] = {}
    for kind in OF_AN_ORDER:
        for path, value in effect_of(EXAMPLES[kind]).facts.items():
            assert facts.setdefault(path, value) == value, f"{kind.__name__}: {path}"


@pytest.mark.parametrize("kind", [OrderValidated, InvoiceIssued])
def test_order_whose_beginning_was_missed(kind: type[Event]) -> None:
    """What was ordered shows, by whom and for how much, though OrderCreated never came."""
    view = OrderView.of(read_model_after([EXAMPLES[kind]]).order(ORDER_ID))
    whole = OrderView.of(read_model_after([EXAMPLES[OrderCreated]]).order(ORDER_ID))
    for field in ("reference", "customer_id", "currency", "total", "lines"):
        assert getattr(view, field) == getattr(whole, field), field


def test_refused_order_whose_beginning_was_missed() -> None:
    """A refusal tells whose order it was, so that it is found by customer and reference."""
    view = OrderView.of(read_model_after([EXAMPLES[OrderRejected]]).order(ORDER_ID))
    assert (view.customer_id, view.reference, view.lines) == ("17850", "536365", [])


@pytest.mark.parametrize("first", [(), (OrderValidated,)], ids=["alone", "after OrderValidated"])
def test_ingress_and_event_store_the_same_content(first: tuple[type[Event], ...]) -> None:
    """The document that the ingress makes is the one that the event would have made."""
    event = EXAMPLES[OrderCreated]
    assert isinstance(event, OrderCreated)
    accepted = Order.model_validate_doc(received(AcceptedOrder(event, publish_at=event.placed_at)))
    recorded = read_model_after([*(EXAMPLES[kind] for kind in first), event]).order(ORDER_ID)
    for field in ("content", "reference", "customer_id"):
        assert getattr(accepted, field) == getattr(recorded, field), field
    assert set(accepted.awaits) == set(FROM_THE_START)


@pytest.mark.parametrize(
    ("kinds", "awaits"),
    [
        ((OrderCreated,), ["stock", "invoice", "notification"]),
        ((OrderValidated, OrderCreated), ["invoice", "notification"]),
        ((NotificationSent,), ["order", "stock", "invoice"]),
        ((NotificationSent, InvoiceIssued, OrderValidated), ["order"]),
        ((OrderRejected, OrderCreated), ["notification"]),
        ((NotificationSent, OrderRejected, OrderCreated), []),
        ((NotificationSkipped, InvoiceIssued, OrderCreated, OrderValidated), []),
        ((OrderCancelled,), ["notification"]),
        ((NotificationSent, OrderCancelled), ["notification"]),
        ((InvoiceIssued, NotificationSent, OrderCancelled), ["credit_note", "notification"]),
        ((OrderCancelled, InvoiceVoided), ["notification"]),
        ((NotificationFailed, OrderRejected, OrderCreated), []),
        ((DeadLetterOpened, DeadLetterClosed), ["order", "stock", "invoice", "notification"]),
    ],
)
def test_order_awaits_what_was_not_heard_of(kinds: tuple[type[Event], ...], awaits: list[str]) -> None:
    """An order is through once each step of it was heard of, whichever event came last or is missing."""
    view = OrderSummary.of(read_model_after(EXAMPLES[kind] for kind in kinds).order(ORDER_ID))
    assert view.awaits == awaits


@pytest.mark.parametrize("kind", [NotificationSent, NotificationSkipped, NotificationFailed])
@pytest.mark.parametrize(
    ("kinds", "templates", "awaits"),
    [
        ((OrderCancelled, OrderCreated), ["order-cancelled"], []),
        ((OrderRejected, OrderCancelled, OrderCreated), ["order-cancelled"], []),
        ((InvoiceIssued, OrderCancelled), ["order-cancelled", "invoice-issued"], ["credit_note"]),
        ((InvoiceVoided, OrderCancelled), ["order-cancelled", "invoice-issued"], ["notification"]),
        ((InvoiceVoided, OrderCancelled), ["invoice-voided", "invoice-issued"], ["notification"]),
        ((InvoiceVoided, OrderCancelled), ["order-cancelled", "invoice-voided"], []),
    ],
)
def test_cancelled_order_awaits_its_own_messages(
    kinds: tuple[type[Event], ...], templates: list[str], awaits: list[str], kind: type[Event]
) -> None:
    """That the invoice was told of does not stand for the cancellation; a message in vain was one too."""
    messages = [told(template, kind) for template in templates]
    for arrivals in (
        [EXAMPLES[one] for one in kinds] + messages,
        messages + [EXAMPLES[one] for one in kinds],
    ):
        shown = OrderSummary.of(read_model_after(arrivals).order(ORDER_ID))
        assert [step for step in shown.awaits if step not in {"order", "stock"}] == awaits


def test_message_of_an_unknown_template() -> None:
    """Its name decides nothing, whatever it holds."""
    event = told("$news.of.another")
    assert OrderView.of(read_model_after([event]).order(ORDER_ID)).timeline[0].event_id == event.event_id


def test_cancellation_names_the_order_until_it_is_known() -> None:
    """An order that nobody has announced shows as its cancellation knows it, and then as it is itself."""
    wish = cancelled(reference="another", customer={"id": "c-2"})
    view = OrderSummary.of(read_model_after([wish]).order(ORDER_ID))
    assert (view.customer_id, view.reference) == ("c-2", "another")
    nameless = EXAMPLES[OrderCreated].model_copy(update={"reference": None})
    for arrivals in ([wish, nameless], [nameless, wish]):
        view = OrderSummary.of(read_model_after(arrivals).order(ORDER_ID))
        assert (view.customer_id, view.reference) == ("17850", None)


def test_cancellation_shows_with_its_credit_note() -> None:
    """The view tells why and when, and the number that voids the invoice."""
    events = [EXAMPLES[kind] for kind in (InvoiceVoided, InvoiceIssued, OrderCancelled)]
    view = OrderView.of(read_model_after(events).order(ORDER_ID))
    assert view.cancellation is not None
    assert view.cancellation.model_dump(mode="json") == {
        "reason": "Ordered by mistake.",
        "cancelled_at": "2026-11-22T11:02:41Z",
    }
    assert (view.invoice_number, view.credit_note_number) == ("2026-000123", "CN-2026-000007")


@given(arrivals=st.permutations([1, 2, 3]))
def test_the_earliest_of_several_cancellations_counts(arrivals: list[int]) -> None:
    """Two that cancel one order do not flip its reason: the same one stays, whichever came last."""
    cancellations = [
        cancelled(reason=f"{hour}", cancelled_at=f"2026-11-22T1{hour}:00:00Z") for hour in arrivals
    ]
    order = read_model_after(cancellations).order(ORDER_ID)
    earliest = next(one for one in cancellations if one.reason == "1")
    assert order.cancelled == earliest
    assert [entry.at for entry in OrderView.of(order).timeline] == [earliest.cancelled_at]


def test_cancellation_without_a_reference_leaves_the_orders_own() -> None:
    """Whoever cancels need not know the shop's own order number, and does not take it away."""
    cancellation = EXAMPLES[OrderCancelled].model_copy(update={"reference": None})
    order = read_model_after([EXAMPLES[OrderCreated], cancellation]).order(ORDER_ID)
    assert (order.reference, order.created) == ("536365", EXAMPLES[OrderCreated])


def test_timeline_tells_why_a_customer_could_not_be_told() -> None:
    """An operator reads the refusal in the order itself."""
    (entry,) = OrderView.of(read_model_after([EXAMPLES[NotificationFailed]]).order(ORDER_ID)).timeline
    assert entry.detail == "The mail server refuses the mail with code 550"


def letter(occurrence: int, **changes: Any) -> tuple[DeadLetterOpened, DeadLetterClosed]:
    """One death of a message, and its end."""
    changes = {"occurrence_id": UUID(int=occurrence), **changes}
    return (
        DeadLetterOpened.model_validate(DeadLetterOpened.example | changes),
        DeadLetterClosed.model_validate(DeadLetterClosed.example | changes),
    )


@given(data=st.data())
def test_dead_letter_is_open_until_its_own_end(data: st.DataObject) -> None:
    """A replayed message that dies again is open again, in whichever order the events arrive."""
    first, second = letter(1), letter(2, opened_at="2026-11-22T12:00:00Z")
    arrivals = data.draw(st.permutations([*first, second[0]]))
    view = OrderView.of(read_model_after(arrivals).order(ORDER_ID))
    assert [one.opened_at for one in view.dead_letters] == [second[0].opened_at]
    assert view.open_dead_letters == 1
    closed = OrderView.of(read_model_after([second[1], *arrivals]).order(ORDER_ID))
    assert closed.dead_letters == []


def test_dead_letter_shows_where_and_why() -> None:
    """An operator reads in the order itself which message waits, and finds it in the archive by its id."""
    (shown,) = OrderView.of(read_model_after([EXAMPLES[DeadLetterOpened]]).order(ORDER_ID)).dead_letters
    example = {name: value for name, value in DeadLetterOpened.example.items() if name != "order_id"}
    assert shown.model_dump(mode="json", exclude={"opened_at"}) == {
        name: value for name, value in example.items() if name not in {"occurrence_id", "opened_at"}
    }


@pytest.mark.parametrize("known", [(), (OrderCreated, InvoiceIssued)], ids=["unknown order", "known order"])
def test_dead_letter_leaves_the_status(known: tuple[type[Event], ...]) -> None:
    """A dead letter is no step of the order; alone, it makes an order of which nothing else is known."""
    before = [EXAMPLES[kind] for kind in known]
    after = read_model_after([EXAMPLES[DeadLetterOpened], *before, EXAMPLES[DeadLetterClosed]])
    assert after.order(ORDER_ID).rank == (Status.INVOICED if known else Status.RECEIVED).rank


def test_event_that_is_not_about_an_order() -> None:
    """A count in the warehouse is no part of any order's story, and is refused by name."""
    with pytest.raises(TypeError, match="StockAdjusted says nothing of an order"):
        effect_of(EXAMPLES[StockAdjusted])


def test_timeline_lists_each_event_once_oldest_first() -> None:
    """What a client sees is in the order of what happened, however it arrived and however often."""
    arrivals = [EXAMPLES[kind] for kind in (NotificationSent, OrderCreated, InvoiceIssued, OrderValidated)]
    view = OrderView.of(read_model_after(arrivals * 2).order(ORDER_ID))
    assert [entry.event for entry in view.timeline] == [
        "OrderCreated",
        "OrderValidated",
        "InvoiceIssued",
        "NotificationSent",
    ]
    assert view.timeline[0].event_id == EXAMPLES[OrderCreated].event_id


def test_order_known_only_by_its_last_event() -> None:
    """Until the order itself arrives its view has gaps, not errors."""
    view = OrderView.of(read_model_after([EXAMPLES[NotificationSent]]).order(ORDER_ID))
    assert (view.status, view.total, view.lines, view.customer_id) == (Status.NOTIFIED, None, [], None)


def test_when_an_order_was_first_heard_of_stays() -> None:
    """Lists are ordered by that time, so later events must not move it."""
    read_model = read_model_after([EXAMPLES[OrderCreated]])
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    read_model.documents[ORDER_ID]["recorded_at"] = long_ago
    asyncio.run(read_model.record(EXAMPLES[InvoiceIssued]))
    assert read_model.order(ORDER_ID).recorded_at == long_ago
