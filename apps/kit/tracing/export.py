"""Spans leave by OTLP over HTTP if the environment says where to; a collector that is away is no matter."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from opentelemetry import trace

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def is_wanted() -> bool:
    """Whether the environment says where spans are to go."""
    is_disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return not is_disabled and any(os.environ.get(name) for name in _ENDPOINTS)


@asynccontextmanager
async def exporting(app: str) -> AsyncIterator[None]:
    """Record the spans of this process while the context is open, if they are to go anywhere."""
    if not is_wanted():
        yield
        return
    # A fifth of a second to import: only those who trace wait for it.
    from apps.kit.tracing import otlp  # noqa: PLC0415

    tracers = otlp.provider(app)
    trace.set_tracer_provider(tracers)
    try:
        yield
    finally:
        await otlp.flush(tracers)
