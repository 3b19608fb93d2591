"""What an OpenTelemetry Collector is to the apps: it takes spans by OTLP over HTTP, and tells what it got."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2


@dataclass(frozen=True)
class Span:
    """A span as it arrived."""

    service: str
    kind: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    links: Sequence[str]
    """Ids of the linked spans."""
    attributes: Mapping[str, Any]
    has_failed: bool

    def __str__(self) -> str:
        return f"{self.service} {self.kind} {self.name}"


class OtlpReceiver:
    """Keeps every span, and every request as it came."""

    def __init__(self, port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"
        self.spans: list[Span] = []
        self.bodies: list[bytes] = []

    def of(self, trace_id: str) -> list[Span]:
        """All spans of one trace so far."""
        return [span for span in self.spans if span.trace_id == trace_id]

    def take(self, path: str, body: bytes) -> None:
        """Take one export."""
        assert path == "/v1/traces"
        self.bodies.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = _plain(resource.resource.attributes)["service.name"].removeprefix("orderflow-")
            self.spans += [_span(service, one) for scope in resource.scope_spans for one in scope.spans]


@contextmanager
def receiving_otlp() -> Iterator[OtlpReceiver]:
    """A receiver on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            receiver.take(self.path, self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        receiver = OtlpReceiver(server.server_port)
        Thread(target=server.serve_forever, daemon=True).start()
        yield receiver
        server.shutdown()


def _span(service: str, span: trace_pb2.Span) -> Span:
    return Span(
        service=service,
        kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        links=[link.span_id.hex() for link in span.links],
        attributes=_plain(span.attributes),
        has_failed=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
    )


def _plain(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
