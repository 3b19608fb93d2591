"""What the OpenTelemetry SDK is told: who we are, and where spans go; imported by those who trace only."""

import asyncio
import logging
import threading
from collections.abc import Sequence
from importlib.metadata import version

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from structlog.stdlib import get_logger

_LONGEST_FLUSH_SECONDS = 1.5
"""What a stop waits for the last spans to leave."""
_OF_EVERY_BATCH = ("opentelemetry.exporter.otlp", "opentelemetry.sdk._shared_internal")
"""Loggers that tell of every batch that is lost."""

log = get_logger()


class Exporter(OTLPSpanExporter):
    """Tells in one line that spans begin to be lost, and in one that they arrive again."""

    _arrives = True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export(spans)
        arrives = result is SpanExportResult.SUCCESS
        if arrives and not self._arrives:
            log.info("traces arrive again")
        elif self._arrives and not arrives:
            log.warning("traces are lost: the OTLP endpoint does not take them")
        self._arrives = arrives
        return result


def provider(app: str) -> TracerProvider:
    """Record spans in the name of an app, and export them in the background."""
    for name in _OF_EVERY_BATCH:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    resource = Resource.create(
        {
            "service.name": f"orderflow-{app}",
            "service.namespace": "orderflow",
            "service.version": version("orderflow"),
        }
    )
    # Its own way to shut down at exit would wait half a minute for a collector that is away.
    tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
    tracers.add_span_processor(BatchSpanProcessor(Exporter()))
    return tracers


async def flush(tracers: TracerProvider) -> None:
    """Let the last spans leave, for a moment: nobody waits for a collector that is away."""
    leaving = threading.Thread(target=tracers.shutdown, daemon=True)
    leaving.start()
    await asyncio.to_thread(leaving.join, _LONGEST_FLUSH_SECONDS)
