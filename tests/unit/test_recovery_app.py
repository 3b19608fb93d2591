"""Dead letters without a broker: what makes two alike, whom they concern, and what can be sent again."""

import struct
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import encode

from apps.recovery import application, messages
from apps.recovery.domain import Death, Source, fingerprint, normalised, occurrence_id, order_of, trace_of
from apps.recovery.messages import decode_headers, encode_headers, shown_headers
from apps.recovery.mongo import DeadLetter
from apps.recovery.views import SHOWN_BODY_BYTES, DeadLetterView

ORDER_ID = UUID("7d2c2f3e-6e0a-5c1b-9a43-0f6a2b6a1c55")
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@dataclass
class Arrived:
    """A message as the archive's consumers get it."""

    body: bytes = b"{}"
    headers: dict[str, Any] = field(default_factory=dict)
    routing_key: str | None = "order.created.v1"
    message_id: str | None = "m-1"
    correlation_id: str | None = None
    app_id: str | None = None
    type: str | None = None
    content_type: str | None = None
    content_encoding: str | None = None
    timestamp: datetime | None = None


class ArchiveInMemory:
    """Keeps deaths, and knows of some that they are dealt with."""

    def __init__(self) -> None:
        self.kept: list[Death] = []
        self.is_over = False

    async def keep(self, death: Death) -> datetime | None:
        self.kept.append(death)
        return None if self.is_over else NOON


def letter(body: bytes, headers: dict[str, Any] | None = None) -> DeadLetter:
    """An archived message; only body and headers matter."""
    return DeadLetter(
        id=uuid4(),
        state="open",
        source="dead",
        queue="stock.order-created",
        body=body,
        body_bytes=len(body),
        headers=encode_headers(headers or {}),
        error_type="OddError",
        reason="odd",
        fingerprint="0123456789ab",
        replays=1,
        occurrences=[],
        opened_at=NOON,
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("order 12 has 3 lines", "order 1,300 has 40 lines"),
        (f"no order {ORDER_ID}", "no order 34c4ca69-aa7c-4236-86cb-5bb108263c6e"),
        ("currency: 'GBX' is no code", "currency: '' is no code"),
        ('"a@b.example": refused', '"c d": refused'),
        ("digest 9f86d081884c7d65 differs", "digest 60303ae22b998861 differs"),
        ("at 0x7f3a2b failed", "at 0xff failed"),
        ("lines.0.sku: is empty", "lines.0.sku: is empty; lines.7.sku: is empty"),
    ],
)
def test_failures_that_differ_in_values_are_alike(one: str, other: str) -> None:
    """Numbers, ids, quoted texts and how often a problem is there say nothing of its kind."""
    assert fingerprint("ValidationError", "on_order", one) == fingerprint(
        "ValidationError", "on_order", other
    )


@pytest.mark.parametrize(
    "other",
    [
        ("TypeError", "on_order", "currency: 'GBX' is no code"),
        ("ValidationError", "on_invoice", "currency: 'GBX' is no code"),
        ("ValidationError", "on_order", "total: 'GBX' is no code"),
    ],
)
def test_failures_of_another_kind_or_place_are_not_alike(other: tuple[str, str, str]) -> None:
    """Class, place and words each tell failures apart."""
    assert fingerprint("ValidationError", "on_order", "currency: 'GBX' is no code") != fingerprint(*other)


def test_words_that_look_like_hex_or_quotes_stay() -> None:
    """Only values are taken out: a word of hexadecimal letters and an apostrophe are none."""
    assert normalised("the facade isn't there, and won't be") == "the facade isn't there, and won't be"


def test_same_message_is_one_letter_in_each_queue() -> None:
    """However often a message dies in a queue, and of whatever, it is one letter; elsewhere another."""
    death = messages.dead(Arrived(headers={"orderflow-queue": "a", "orderflow-reason": "x"}))
    again = messages.dead(Arrived(headers={"orderflow-queue": "a", "orderflow-replay": 3}))
    elsewhere = messages.dead(Arrived(headers={"orderflow-queue": "b"}))
    changed = messages.dead(Arrived(b"[]", headers={"orderflow-queue": "a"}))

    assert death.letter_id == again.letter_id
    assert len({death.letter_id, elsewhere.letter_id, changed.letter_id}) == 3
    assert occurrence_id(death.letter_id, 0) != occurrence_id(death.letter_id, 3)


@pytest.mark.parametrize(
    ("stated", "event_type", "is_ours", "expected"),
    [
        (str(ORDER_ID), "anything", False, ORDER_ID),
        (None, "order.created.v1", True, ORDER_ID),
        ("no uuid", "order.created.v1", True, ORDER_ID),
        (None, "order.created.v1", False, None),
        (None, "stock.adjusted.v1", True, None),
        ({"$gt": ""}, "anything", True, None),
    ],
)
def test_order_is_known_only_where_the_message_tells_it(
    *, stated: object, event_type: str, is_ours: bool, expected: UUID | None
) -> None:
    """The body tells it; the correlation id does on our own events about orders, and else may be anything."""
    assert order_of(stated, event_type, str(ORDER_ID), is_ours=is_ours) == expected


@pytest.mark.parametrize("odd", [None, 7, "", "00-short-1-01", b"\xff", ["00"]])
def test_header_that_is_no_traceparent_is_no_trace(odd: object) -> None:
    """Anything may stand in a header."""
    assert trace_of(odd) is None


def test_death_by_delivery_limit_tells_the_queue_that_crashed() -> None:
    """RabbitMQ's entries about pauses in retry queues are not mistaken for the death."""
    entries = [
        {"reason": "expired", "queue": "retry.2000ms", "count": 1},
        {
            "reason": "delivery_limit",
            "queue": "stock.order-created",
            "routing-keys": ["stock.order-created"],
            "time": NOON,
        },
    ]
    headers = {
        "x-death": entries,
        "x-first-death-queue": "retry.2000ms",
        "orderflow-routing-key": "order.created.v1",
        "orderflow-attempt": 2,
        "orderflow-reason": "what failed before",
    }

    death = messages.dead(Arrived(headers=headers))

    assert (death.queue, death.event_type) == ("stock.order-created", "order.created.v1")
    assert (death.error_type, death.attempts, death.last_failed_at) == ("DeliveryLimitExceeded", 2, NOON)


@pytest.mark.parametrize(
    "headers",
    [
        {"x-death": "no list"},
        {"x-death": ["no table", {"queue": 7, "routing-keys": 7, "time": "never", "reason": b"\xff"}]},
        {"x-death": [{"routing-keys": []}]},
        {"orderflow-attempt": "5", "orderflow-replay": -1, "orderflow-queue": b"\xff", "orderflow-reason": 7},
        {"orderflow-attempt": True, "orderflow-replay": 2**62, "orderflow-first-failed-at": "0001-01-01"},
        {"orderflow-last-failed-at": datetime.min.replace(tzinfo=UTC)},
        {"orderflow-queue": "é" * 128},
    ],
)
def test_headers_of_any_type_are_read(headers: dict[str, Any]) -> None:
    """What is no header of ours counts as absent, and the message is archived."""
    death = messages.dead(Arrived(headers=headers))

    assert (death.source, death.queue, death.replay) == (Source.DEAD, None, 0)
    assert death.reason
    assert death.letter_id


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text()
    | st.binary()
    | st.floats()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.datetimes(timezones=st.just(UTC)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=20), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=30), values, max_size=5))
def test_headers_of_any_kind_are_kept_shown_and_can_be_sent_again(headers: dict[str, Any]) -> None:
    """Whatever RabbitMQ delivers can be stored, shown as JSON, and published once more."""
    death = messages.dead(Arrived(headers=headers))
    archived = letter(b"", headers)

    assert decode_headers(death.headers).keys() == headers.keys()
    DeadLetterView.of_body(archived, b"").model_dump_json()
    assert encode.field_table(messages.replay(archived, b"").headers)


def test_values_that_amqp_has_no_form_for_are_kept_as_text() -> None:
    """A double, a decimal or a time out of range does not stop the archive; bytes stay bytes."""
    kept = decode_headers(
        encode_headers(
            {
                "double": 1e300,
                "decimal": Decimal(2**40),
                "long ago": datetime(1960, 1, 1, tzinfo=UTC),
                "b": b"\xff",
            }
        )
    )

    assert kept == {
        "double": "1e+300",
        "decimal": "1099511627776",
        "long ago": "1960-01-01 00:00:00+00:00",
        "b": bytearray(b"\xff"),
    }


def test_headers_nested_without_end_are_shown_to_a_depth() -> None:
    """A page that shows a letter is not broken by tables in tables in tables."""
    nested: Any = "deep"
    for _ in range(60):
        nested = {"inner": nested}

    shown = str(shown_headers(encode_headers({"outer": nested})))

    assert "…" in shown
    assert "deep" not in shown
    with pytest.raises(struct.error):  # what `encode_headers` guards against
        encode.field_table({"t": datetime(1960, 1, 1, tzinfo=UTC)})


@pytest.mark.parametrize(
    ("body", "text", "encoding", "is_cut"),
    [
        (b'{"total": 1.10}', '{"total": 1.10}', "utf-8", False),
        ("é".encode() * SHOWN_BODY_BYTES, "é" * (SHOWN_BODY_BYTES // 2), "utf-8", True),
        (b"x" + "é".encode() * SHOWN_BODY_BYTES, "x" + "é" * (SHOWN_BODY_BYTES // 2 - 1), "utf-8", True),
        (b"\xff", "/w==", "base64", False),
    ],
    ids=["json", "cut", "cut within a character", "binary"],
)
def test_body_is_shown_exactly(*, body: bytes, text: str, encoding: str, is_cut: bool) -> None:
    """Text is shown as it was sent, to its last digit; anything else in base64."""
    view = DeadLetterView.of_body(letter(body), body)

    assert (view.body, view.body_encoding, view.body_is_cut) == (text, encoding, is_cut)
    assert view.body_bytes == len(body)


async def test_order_is_told_of_a_death_once_and_again_on_a_repeat() -> None:
    """A repeat makes the very same event, so that whoever receives it knows it."""
    archive = ArchiveInMemory()
    body = f'{{"order_id": "{ORDER_ID}"}}'.encode()
    death = messages.dead(Arrived(body, headers={"orderflow-queue": "stock.order-created"}))

    first, repeat = [await application.keep(death, archive) for _ in range(2)]

    assert first == repeat
    assert first is not None
    assert (first.order_id, first.dead_letter_id, first.opened_at) == (ORDER_ID, death.letter_id, NOON)


async def test_nobody_is_told_of_what_concerns_no_order_or_is_over() -> None:
    """Without an order there is nobody to tell; our own announcements and what is dealt with are not told."""
    archive = ArchiveInMemory()
    body = f'{{"order_id": "{ORDER_ID}"}}'.encode()
    death = messages.unrouted(Arrived(body))

    assert await application.keep(replace(death, order_id=None), archive) is None
    assert (
        await application.keep(messages.unrouted(Arrived(body, routing_key="dead-letter.opened.v1")), archive)
        is None
    )
    archive.is_over = True
    assert await application.keep(death, archive) is None
    assert len(archive.kept) == 3
