"""The ingress: one thin HTTP process in front of the apps, and the relay that publishes what it took."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi_offline import FastAPIOffline
from prometheus_client import generate_latest
from structlog.stdlib import get_logger

from apps.kit.broker import EventBroker
from apps.kit.health import broker_check, mongodb_check, report, run_checks
from apps.kit.http_metrics import HttpMetrics
from apps.kit.logs import configure_logging, hold_back_uvicorn
from apps.kit.mongo import open_database
from apps.kit.problems import BodyLimit, Problem, install_problem_handlers
from apps.kit.signals import stop_on_sigterm
from apps.kit.topology import outcome
from apps.orders import api as orders
from apps.orders.backlog import BacklogMetrics, unpublished_check
from apps.orders.mongo import DOCUMENTS, MongoOrderBook
from apps.orders.relay import Relay
from apps.recovery import api as recovery
from apps.recovery.letters import MongoLetters
from apps.recovery.mongo import DOCUMENTS as RECOVERY_DOCUMENTS
from apps.recovery.repair import Repair
from contracts import DeadLetterClosed, OrderCreated

BODY_LIMIT_BYTES = 1024 * 1024

log = get_logger()

broker = EventBroker("ingress")
broker.publisher(**outcome(OrderCreated))
broker.publisher(**outcome(DeadLetterClosed))
backlog = BacklogMetrics(broker.registry)


@asynccontextmanager
async def lifespan(api: FastAPI) -> AsyncIterator[None]:
    configure_logging("ingress")
    stop_on_sigterm()
    async with (
        open_database("orders", *DOCUMENTS) as engine,
        open_database("recovery", *RECOVERY_DOCUMENTS) as archive,
    ):
        api.state.orders = MongoOrderBook(engine)
        api.state.relay = Relay(api.state.orders, broker)
        api.state.letters = MongoLetters(archive)
        api.state.repair = Repair(api.state.letters, broker)
        api.state.checks = {
            "mongodb": mongodb_check(engine),
            "rabbitmq": broker_check(broker),
            "oldest_unpublished": unpublished_check(api.state.orders),
        }
        tasks = [asyncio.create_task(broker.start()), asyncio.create_task(api.state.relay.run())]
        log.info("started")
        yield
        log.info("stopping")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await broker.stop()


api = FastAPIOffline(
    title="Orderflow",
    version="1.0.0",
    summary="Place orders, see where each of them is, and repair what failed.",
    lifespan=lifespan,
    license_info={"name": "MIT", "identifier": "MIT"},
    responses={422: {"model": Problem, "description": "What is wrong, and in which field."}},
)
hold_back_uvicorn()
install_problem_handlers(api)
api.add_middleware(BodyLimit, limit_bytes=BODY_LIMIT_BYTES)
api.add_middleware(HttpMetrics, registry=broker.registry)
api.include_router(orders.router)
api.include_router(recovery.router)


@api.get("/health/live", tags=["operation"], summary="The process answers")
async def live() -> dict[str, str]:
    return {"status": "live"}


@api.get("/health/ready", tags=["operation"], summary="Orders can be accepted", responses={503: {}})
async def ready(request: Request) -> Response:
    """Ready while MongoDB answers; the rest is only shown: without RabbitMQ orders are accepted and wait."""
    states = await run_checks(request.app.state.checks)
    is_ready = states["mongodb"] == "ok"
    return Response(report(is_ready, states), 200 if is_ready else 503, media_type="application/json")


@api.get("/metrics", include_in_schema=False)
async def metrics(book: orders.OrderBook) -> Response:
    await backlog.refresh(book)
    return Response(generate_latest(broker.registry), media_type="text/plain; version=0.0.4")
