"""Traces without a system: headers in and out, a collector that is away, and what turns them on."""

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aio_pika
import pytest
import structlog
from faststream.rabbit import RabbitExchange
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from apps.kit.logs import _in_trace
from apps.kit.tracing import carried, continued, otlp
from apps.kit.tracing.export import is_wanted
from apps.kit.tracing.messages import published

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"
OTHER_TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_trace_is_handed_on_as_it_came_while_nothing_is_recorded() -> None:
    """Without an endpoint, who comes after us still sees the trace of who was before us."""
    with continued({"traceparent": TRACEPARENT, "tracestate": "shop=7"}):
        assert carried() == {"traceparent": TRACEPARENT, "tracestate": "shop=7"}
    assert carried() == {}


@pytest.mark.parametrize(
    "odd", [None, 7, b"00", "", "00-0-0-01", f"{TRACEPARENT}-more", ["a"], {"b": 1}, "x" * 5000]
)
def test_header_that_is_no_trace_is_none(odd: object) -> None:
    """What a publisher writes into the header is at worst ignored."""
    with continued({"traceparent": odd}):
        assert carried() == {}


def test_trace_that_is_continued_hides_the_one_around_it() -> None:
    """Work that was put off belongs to its own trace, or to none, and never to that of who finds it."""
    with continued({"traceparent": OTHER_TRACEPARENT}):
        with continued({}):
            assert carried() == {}
        with continued({"traceparent": TRACEPARENT}):
            assert carried()["traceparent"] == TRACEPARENT
        assert carried()["traceparent"] == OTHER_TRACEPARENT


@pytest.mark.parametrize(
    ("around", "expected"), [({}, TRACEPARENT), ({"traceparent": OTHER_TRACEPARENT}, TRACEPARENT)]
)
def test_message_stays_in_its_own_trace(around: dict[str, str], expected: str) -> None:
    """A message that is sent once more does not move to the trace of who sends it."""
    message = aio_pika.Message(b"", headers={"traceparent": TRACEPARENT})
    with continued(around), published(message, RabbitExchange("replay"), "stock.order-created"):
        assert message.headers["traceparent"] == expected


def test_line_of_the_log_names_the_trace_that_is_handed_on() -> None:
    """Also with nothing recorded, a line can be found by the trace that its message came with."""
    with continued({"traceparent": TRACEPARENT}):
        assert _in_trace(None, "info", {"event": "handled"}) == {"event": "handled", "trace_id": TRACE_ID}
    assert _in_trace(None, "info", {"event": "handled"}) == {"event": "handled"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"OTEL_TRACES_SAMPLER": "always_on"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_nothing_is_recorded_unless_an_endpoint_is_set(
    environment: dict[str, str], *, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the variables that say where spans go turn them on; the SDK's own switch turns them off."""
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert is_wanted() is expected


async def test_collector_that_is_away_costs_one_line_and_no_time(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Batch after batch is lost in silence but for the first, and a stop waits less than two seconds."""
    with _hanging_port() as port, structlog.testing.capture_logs() as lines:
        tracers = _tracers(monkeypatch, port, OTEL_EXPORTER_OTLP_TIMEOUT="0.1", OTEL_BSP_SCHEDULE_DELAY="20")
        deadline = time.monotonic() + 20
        lost = 0
        exporter = tracers._active_span_processor._span_processors[0].span_exporter
        export = exporter.export

        def counted(spans: Any) -> Any:
            nonlocal lost
            result = export(spans)
            lost += 1
            return result

        exporter.export = counted
        while lost < 3:
            tracers.get_tracer("test").start_span("one").end()
            await asyncio.sleep(0.02)
            assert time.monotonic() < deadline
        # The last batch has all the time that the SDK grants by default.
        exporter._client._timeout = 10
        tracers.get_tracer("test").start_span("the last").end()
        began = time.monotonic()
        await otlp.flush(tracers)
        took = time.monotonic() - began

    assert [line["event"] for line in lines] == ["traces are lost: the OTLP endpoint does not take them"]
    assert took < 2
    assert capfd.readouterr() == ("", "")


def _tracers(monkeypatch: pytest.MonkeyPatch, port: int, **settings: str) -> TracerProvider:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return otlp.provider("test")


@contextmanager
def _hanging_port() -> Iterator[int]:
    """A port where connections are taken and nothing is ever answered."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_spans_name_the_service() -> None:
    """By its resource each span says which app it is of, and which version."""
    attributes = otlp.provider("stock").resource.attributes
    assert attributes["service.name"] == "orderflow-stock"
    assert attributes["service.namespace"] == "orderflow"
    assert "service.version" in attributes
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider), "it is not set by being made"
