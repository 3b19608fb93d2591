"""How long requests take, by route and status."""

from functools import cache
from time import perf_counter

from prometheus_client import Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from apps.kit.metrics import HTTP_REQUEST_DURATION

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Those that metrics and traces name; all others are one."""


@cache  # all labels are bounded, and prometheus_client's own look-up costs more than observing
def _duration(method: str, route: str, status: int) -> Histogram:
    return HTTP_REQUEST_DURATION.labels(method, route, status)


def route_of(scope: Scope) -> str | None:
    """The template of the route that answers, whatever proxies add before it; None if there is none."""
    path: str | None = getattr(scope.get("route"), "path", None)
    if path is None:
        return None
    # A mounted app knows nothing of the path that it is mounted at.
    root: str = scope.get("root_path", "")
    return root.removeprefix(scope.get("app_root_path", root)) + path


def is_event_stream(start: Message) -> bool:
    """Whether the answer that begins has no end of its own, so that its length tells nothing."""
    headers: dict[bytes, bytes] = dict(start.get("headers", ()))
    return headers.get(b"content-type", b"").startswith(b"text/event-stream")


class HttpMetrics:
    """Observes every request once, under its route's template, so that ids make no new series."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        # A client may call its method what it likes; each name would be a series for ever.
        method = scope["method"] if scope["method"] in METHODS else "other"
        started = perf_counter()
        status = 500
        is_observed = False

        def observe() -> None:
            nonlocal is_observed
            is_observed = True
            _duration(method, route_of(scope) or "unknown", status).observe(perf_counter() - started)

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if is_event_stream(message):
                    observe()
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body") and not is_observed:
                observe()

        try:
            await self.app(scope, receive, observed)
        except Exception:
            if not is_observed:  # Starlette answers with 500, beyond all middleware
                observe()
            raise
