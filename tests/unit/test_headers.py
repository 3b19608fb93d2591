"""What of a message's headers goes with a retry, a dead letter and a replay."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pamqp import decode, encode

from apps.kit.headers import passed_on


@pytest.mark.parametrize(
    "name", ["traceparent", "cloudEvents:id", "x-shop", "x-deathly", "orderflow-attempt"]
)
def test_publishers_headers_are_kept(name: str) -> None:
    """Trace context, CloudEvents and whatever else a publisher wrote, whatever it is called."""
    assert passed_on({name: "value"}) == {name: "value"}


@pytest.mark.parametrize(
    "name", ["x-death", "x-first-death-queue", "x-last-death-reason", "x-delivery-count", "CC", "BCC"]
)
def test_headers_of_one_way_are_left_behind(name: str) -> None:
    """RabbitMQ's own notes, and routing keys that would lead a copy to other queues as well."""
    assert passed_on({name: ["another.queue"]}) == {}


@pytest.mark.parametrize(
    "value",
    [b"\xff\xfe", 1e39, datetime(1969, 1, 1, tzinfo=UTC), {"inner": [1e39]}, 2**70],
    ids=["bytes", "out of a float's range", "before 1970", "nested", "too large"],
)
def test_value_that_cannot_be_sent_again_becomes_text(value: Any) -> None:
    """One odd header must not keep a failed message from being set aside."""
    headers = passed_on({"odd": value, "plain": "kept"})
    _, received = decode.field_table(encode.field_table(headers))
    assert received["plain"] == "kept"
    assert "odd" in received
