"""How long requests take, by route and status."""

from time import perf_counter

from prometheus_client import CollectorRegistry, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class HttpMetrics:
    """Observes every request once, under its route's template, so that ids make no new series."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self.app = app
        self.duration = Histogram(
            "orderflow_http_request_duration_seconds",
            "Time from the request's head to the end of its answer.",
            ["method", "route", "status"],
            registry=registry,
            buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        # A client may call its method what it likes; each name would be a series for ever.
        method = scope["method"] if scope["method"] in _METHODS else "other"
        started = perf_counter()
        status = 500
        is_observed = False

        def observe() -> None:
            nonlocal is_observed
            is_observed = True
            route = getattr(scope.get("route"), "path", "unknown")
            self.duration.labels(method, route, status).observe(perf_counter() - started)

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                observe()

        try:
            await self.app(scope, receive, observed)
        except Exception:
            if not is_observed:  # Starlette answers with 500, beyond all middleware
                observe()
            raise
