"""Webhooks without a network: who is sent what, when again, with which signature."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from standardwebhooks import Webhook, WebhookVerificationError

from apps.kit.clock import utc_now
from apps.kit.settings import get_settings
from apps.kit.topology import event_of
from apps.webhooks.app import broker
from apps.webhooks.domain import (
    OFFERED,
    Attempt,
    body_of,
    delivery_id,
    longest_silence,
    next_attempt_at,
    retry_after,
    wants,
)
from apps.webhooks.signing import (
    OLD_SECRET_VALID,
    UnreadableSecretError,
    first_secret,
    new_secret,
    rotated,
    signed_headers,
)
from apps.webhooks.views import NewEndpoint
from contracts import OrderCreated, OrderValidated

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
DELAYS = (5, 300, 1800, 7200, 18_000, 36_000, 36_000)
ORDER = OrderCreated.model_validate(OrderCreated.example)


def failure(**answer: object) -> Attempt:
    return Attempt(at=NOON, duration_ms=10, **{"status": 500, **answer})  # type: ignore[arg-type]


@pytest.fixture
def forget_settings() -> Iterator[None]:
    """Settings that the test changes are read anew after it."""
    yield
    get_settings.cache_clear()


def test_every_offered_event_has_an_inbox() -> None:
    """What an endpoint can ask for is received by the worker, and nothing else."""
    assert {event_of(consumer.queue) for consumer in broker.consumers} == set(OFFERED)


@pytest.mark.parametrize(
    ("event_types", "is_wanted"),
    [
        ([], True),
        (["order.created.v1"], True),
        (["order.validated.v1", "order.created.v1"], True),
        (["order.validated.v1"], False),
        (["order"], False),
    ],
)
def test_filter_lets_through_what_it_names(*, event_types: list[str], is_wanted: bool) -> None:
    """An empty filter lets all through; a part of a topic names nothing."""
    assert wants(event_types, "order.created.v1") is is_wanted


def test_filter_of_an_unknown_type_is_refused() -> None:
    """A misspelt event type is told at once, with those that there are."""
    with pytest.raises(ValidationError, match=r"'order.create.v1' is no event type; there are order.created"):
        NewEndpoint(url="https://shop.example/hook", event_types=["order.create.v1"])


def test_repeated_event_is_the_same_delivery_for_each_endpoint() -> None:
    one, other = uuid4(), uuid4()
    validated = OrderValidated.model_validate(OrderValidated.example)

    assert delivery_id(one, ORDER.event_id) == delivery_id(one, ORDER.event_id)
    assert len({delivery_id(e, v.event_id) for e in (one, other) for v in (ORDER, validated)}) == 4


def test_body_is_the_event_as_standard_webhooks_has_it() -> None:
    """Type, time of the event, and the event itself as RabbitMQ carries it."""
    body = json.loads(body_of(ORDER))

    assert list(body) == ["type", "timestamp", "data"]
    assert (body["type"], body["data"]) == ("order.created.v1", json.loads(ORDER.model_dump_json()))
    assert datetime.fromisoformat(body["timestamp"]) == ORDER.placed_at


@given(st.integers(1, 7), st.floats(-1, 1))
def test_schedule_is_spread_by_a_fifth(tries: int, spread: float) -> None:
    """Each pause is within 20 % of its length, so what failed together returns at many moments."""
    due_at = next_attempt_at(tries, DELAYS, failure(), spread)

    assert due_at is not None
    delay = (due_at - NOON).total_seconds()
    assert 0.8 * DELAYS[tries - 1] <= delay + 1e-6
    assert delay <= 1.2 * DELAYS[tries - 1] + 1e-6


@pytest.mark.parametrize(("delays", "hours"), [((), 24), (DELAYS, 24), ((5, 172_800), 96)])
def test_failures_that_belong_together_are_at_most_a_day_apart(
    delays: tuple[float, ...], hours: float
) -> None:
    """No pause of the schedule, spread or put off by a receiver, ends a run of failures."""
    assert longest_silence(delays) == timedelta(hours=hours)


def test_schedule_is_that_of_the_issue_and_ends() -> None:
    """Eight attempts over a bit more than a day, the last pause as long as the one before."""
    assert get_settings().webhook_retry_delays_seconds == DELAYS
    assert next_attempt_at(7, DELAYS, failure(), 0) == NOON + timedelta(hours=10)
    assert next_attempt_at(8, DELAYS, failure(), 0) is None


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        (" 7 ", 7),
        ("Sun, 22 Nov 2026 12:02:00 GMT", 120),
        ("Sun, 22 Nov 2026 14:02:00 +0200", 120),
        ("Sun, 22 Nov 2026 12:02:00", 120),
        ("-5", None),
        ("soon", None),
        ("", None),
        ("9" * 400, None),
        (None, None),
    ],
)
def test_retry_after_is_read_in_seconds_and_as_a_date(header: str | None, seconds: int | None) -> None:
    """What is neither counts as absent."""
    expected = None if seconds is None else NOON + timedelta(seconds=seconds)
    assert retry_after(header, NOON) == expected


@pytest.mark.parametrize(
    ("header", "seconds"), [("2", 5), ("60", 60), ("9999999", 36_000), ("Sun, 01 Jan 2006 00:00:00 GMT", 5)]
)
def test_retry_after_only_puts_off_and_not_for_ever(header: str, seconds: int) -> None:
    """A receiver cannot be met sooner than the schedule says, nor later than after ten hours."""
    due_at = next_attempt_at(1, DELAYS, failure(retry_after=header), 0)
    assert due_at == NOON + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("status", "is_success"),
    [(200, True), (204, True), (301, False), (304, False), (410, False), (500, False)],
)
def test_only_2xx_is_success(*, status: int, is_success: bool) -> None:
    """A redirection is a failure like any other; 410 also ends the endpoint."""
    attempt = failure(status=status)
    assert attempt.is_success is is_success
    assert attempt.is_gone is (status == 410)


def test_signature_is_verified_by_the_standards_own_library() -> None:
    """A receiver needs nothing but the secret; changed bytes or another secret do not pass."""
    secret, body = new_secret(), body_of(ORDER)
    headers = signed_headers("evt-1", body, first_secret(secret), utc_now())

    assert Webhook(secret).verify(body, headers)["type"] == "order.created.v1"
    for wrong_secret, wrong_body in ((new_secret(), body), (secret, body.replace(b"GBP", b"EUR"))):
        with pytest.raises(WebhookVerificationError):
            Webhook(wrong_secret).verify(wrong_body, headers)


def test_two_secrets_are_valid_for_a_day_after_a_rotation() -> None:
    """Receivers have 24 hours to change; then the old secret signs nothing, and a third is never valid."""
    oldest, old, new = new_secret(), new_secret(), new_secret()
    body, now = body_of(ORDER), utc_now()
    stored = rotated(rotated(first_secret(oldest), old, now), new, now)

    headers = signed_headers("evt-1", body, stored, now)
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in (old, new):
        Webhook(secret).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(oldest).verify(body, headers)

    later = signed_headers("evt-1", body, stored, now + OLD_SECRET_VALID)
    assert len(later["webhook-signature"].split(" ")) == 1


@pytest.mark.usefixtures("forget_settings")
def test_stored_secret_cannot_be_read_without_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the database holds signs nothing by itself; under another key it is said to be unreadable."""
    secret = new_secret()
    stored = first_secret(secret)
    assert secret.encode() not in stored[0]["sealed"]
    monkeypatch.setenv("ORDERFLOW_SECRET_KEY", "another key than the one before")
    get_settings.cache_clear()

    with pytest.raises(UnreadableSecretError, match="ORDERFLOW_SECRET_KEY"):
        signed_headers("evt-1", b"{}", stored, utc_now())


@pytest.mark.usefixtures("forget_settings")
def test_rotation_is_the_cure_for_a_changed_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The new secret signs at once, alone: the one before cannot be read, and holds nothing up."""
    stored = first_secret(new_secret())
    monkeypatch.setenv("ORDERFLOW_SECRET_KEY", "another key than the one before")
    get_settings.cache_clear()
    secret, body = new_secret(), body_of(ORDER)

    headers = signed_headers("evt-1", body, rotated(stored, secret, utc_now()), utc_now())

    Webhook(secret).verify(body, headers)
    assert len(headers["webhook-signature"].split(" ")) == 1
