"""Spans of HTTP requests: those that the ingress answers, and those that we send."""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from yarl import URL

from apps.kit.http_metrics import METHODS, is_event_stream, route_of
from apps.kit.tracing import IS_ON, context_of, continued, failed, span, tracer

_UNSEEN = ("/health/", "/metrics")
"""Asked for every few seconds, and of no order."""
_CLIENT_ERROR = 400
_SERVER_ERROR = 500


class RequestSpans:
    """Spans every request under its route's template; goes on with the trace of the client, if it has one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(_UNSEEN):
            await self.app(scope, receive, send)
            return
        # Without `tracestate`, which may hold any text, and anybody may send it.
        given = {"traceparent": Headers(scope=scope).get("traceparent")}
        if not IS_ON:
            with continued(given):
                await self.app(scope, receive, send)
            return
        # Neither path nor query: ids and signatures of links are nobody's business there.
        method = scope["method"] if scope["method"] in METHODS else "_OTHER"
        attributes = {"http.request.method": method, "url.scheme": scope["scheme"]}
        request = tracer.start_span(method, context_of(given), SpanKind.SERVER, attributes)

        async def seen(message: Message) -> None:
            if message["type"] == "http.response.start":
                request.set_attribute("http.response.status_code", message["status"])
                if message["status"] >= _SERVER_ERROR:
                    failed(request, str(message["status"]))
                if route := route_of(scope):
                    request.update_name(f"{method} {route}")
                    request.set_attribute("http.route", route)
                if is_event_stream(message):
                    request.end()
            await send(message)
            if (
                message["type"] == "http.response.body"
                and not message.get("more_body")
                and request.is_recording()
            ):
                request.end()  # background tasks follow, which nobody waits for

        try:
            with trace.use_span(request, record_exception=False, set_status_on_exception=False):
                await self.app(scope, receive, seen)
        finally:
            if request.is_recording():  # without an answer
                failed(request, "no answer")
                request.end()


@contextmanager
def sent_request(method: str, url: str) -> Iterator[Span]:
    """Span a request that we send; to be told of the answer by `answered`.

    Neither path nor query are kept, which may hold a receiver's secrets.
    """
    target = URL(url)
    attributes: dict[str, str | int] = {"http.request.method": method, "url.scheme": target.scheme}
    if target.host:
        attributes["server.address"] = target.host
    if target.port:
        attributes["server.port"] = target.port
    with span(method, SpanKind.CLIENT, attributes) as request:
        yield request


def answered(request: Span, status: int) -> None:
    """Note the answer to a request that we sent."""
    request.set_attribute("http.response.status_code", status)
    if status >= _CLIENT_ERROR:
        failed(request, str(status))
