"""A worker process: a FastStream app with health and metrics over HTTP that drains before it stops."""

import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from faststream.asgi import AsgiFastStream, AsgiResponse, get
from prometheus_client import make_asgi_app
from structlog.stdlib import get_logger

from apps.kit.broker import EventBroker
from apps.kit.health import (
    Check,
    broker_check,
    consumers_check,
    mongodb_check,
    report,
    run_checks,
    waiting_check,
)
from apps.kit.logs import configure_logging, hold_back_uvicorn
from apps.kit.metrics import REGISTRY
from apps.kit.mongo import Database
from apps.kit.signals import stop_on_sigterm
from apps.kit.specification import EventSpecification
from apps.kit.tracing.export import exporting

Adapters = Callable[[], AbstractAsyncContextManager[Mapping[str, Any]]]
"""Opens what an app's handlers take as arguments, by their names in the context; `database` is checked."""

Hook = Callable[[], Awaitable[None]]

log = get_logger()

_JSON = {"content-type": "application/json"}


_ALLOCATIONS_PER_COLLECTION = (10_000, 20, 20)


def _spare_the_collector() -> None:
    """Leave what lives as long as the process out of all collections, and collect less often.

    A message makes thousands of objects and hardly a cycle: by default, a tenth of the time went into this.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_ALLOCATIONS_PER_COLLECTION)


def specification(broker: EventBroker, description: str) -> EventSpecification:
    """The AsyncAPI document of one app."""
    return EventSpecification(
        broker,
        title=f"Orderflow {broker.app}",
        description=description,
        apps={broker.app: description},
    )


def worker(
    broker: EventBroker, description: str, adapters: Adapters, *, on_stop: Sequence[Hook] = ()
) -> AsgiFastStream:
    """The app that `faststream run` starts.

    Serves `/health/live`, `/health/ready` (503 with the reasons while something is missing) and `/metrics`.

    Args:
        broker: what it consumes.
        description: one sentence about it.
        adapters: what its handlers need.
        on_stop: called as soon as it is told to stop, before its handlers are waited for.
    """
    hold_back_uvicorn()
    checks: dict[str, Check] = {
        "rabbitmq": broker_check(broker),
        "consumers": consumers_check(broker),
        "dependencies": waiting_check(broker),
    }

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        configure_logging(broker.app)
        stop_on_sigterm()
        async with exporting(broker.app), adapters() as provided:
            for name, adapter in provided.items():
                broker.context.set_global(name, adapter)
                if isinstance(adapter, Database):
                    checks["mongodb"] = mongodb_check(adapter)
            _spare_the_collector()
            log.info("started")
            yield
        log.info("stopped")

    @get(include_in_schema=False)
    async def live(_scope: Any) -> AsgiResponse:
        return AsgiResponse(b'{"status":"live"}', 200, _JSON)

    @get(include_in_schema=False)
    async def ready(_scope: Any) -> AsgiResponse:
        states = await run_checks(checks)
        is_ready = all(state == "ok" for state in states.values())
        return AsgiResponse(report(is_ready, states), 200 if is_ready else 503, _JSON)

    return AsgiFastStream(
        broker,
        asgi_routes=[
            ("/health/live", live),
            ("/health/ready", ready),
            ("/metrics", make_asgi_app(REGISTRY)),
        ],
        logger=None,
        lifespan=lifespan,
        on_shutdown=[*on_stop, broker.stop_consuming],
        specification=specification(broker, description),
    )
