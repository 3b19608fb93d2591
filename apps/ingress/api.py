"""The ingress: one thin HTTP process in front of the apps, and the relay that publishes what it took."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from uuid import UUID

from fastapi import Depends, FastAPI, Request, Response
from fastapi_offline import FastAPIOffline
from prometheus_client import generate_latest
from structlog.stdlib import get_logger

from apps.access.audit import AuditAnswers, audited
from apps.access.authentication import Authentication
from apps.access.mongo import DOCUMENTS as ACCESS_DOCUMENTS
from apps.access.mongo import MongoAuditLog, MongoKeys
from apps.access.oidc import Issuer
from apps.console.app import console
from apps.console.hub import Live
from apps.console.issuer import SignInAtIssuer
from apps.console.session import Sessions
from apps.documents import api as documents
from apps.documents.mongo import DOCUMENTS as DOCUMENT_DOCUMENTS
from apps.documents.mongo import MongoCatalogue
from apps.documents.store import DocumentStore
from apps.ingress import site
from apps.ingress.openapi import complete, operation_id
from apps.kit import readings
from apps.kit.access import Caller
from apps.kit.answers import AnswerHeaders
from apps.kit.broker import EventBroker
from apps.kit.health import broker_check, mongodb_check, report, run_checks
from apps.kit.http_metrics import HttpMetrics
from apps.kit.logs import configure_logging, hold_back_uvicorn
from apps.kit.metrics import (
    OLDEST_UNPUBLISHED,
    OPEN_DEAD_LETTERS,
    REGISTRY,
    STUCK_ORDERS,
    WEBHOOK_ENDPOINTS,
)
from apps.kit.mongo import Database, open_databases
from apps.kit.problems import BodyLimit, Problem, install_problem_handlers
from apps.kit.settings import get_settings
from apps.kit.signals import stop_on_sigterm
from apps.kit.topology import outcome
from apps.kit.tracing.export import exporting
from apps.kit.tracing.http import RequestSpans
from apps.orders import api as orders
from apps.orders.backlog import oldest_unpublished_seconds, stuck_orders, unpublished_check
from apps.orders.mongo import DOCUMENTS, MongoOrderBook
from apps.orders.relay import Relay
from apps.recovery import api as recovery
from apps.recovery.letters import MongoLetters
from apps.recovery.mongo import DOCUMENTS as RECOVERY_DOCUMENTS
from apps.recovery.repair import Repair
from apps.webhooks import api as webhooks
from apps.webhooks.endpoints import STATES, MongoEndpoints
from apps.webhooks.mongo import DOCUMENTS as WEBHOOK_DOCUMENTS
from contracts import DeadLetterClosed, OrderCancelled, OrderCreated, StockAdjusted

BODY_LIMIT_BYTES = 1024 * 1024

STORES = {
    "orders": DOCUMENTS,
    "recovery": RECOVERY_DOCUMENTS,
    "webhooks": WEBHOOK_DOCUMENTS,
    "access": ACCESS_DOCUMENTS,
    "documents": DOCUMENT_DOCUMENTS,
    # Only read, by the console: their apps make what belongs in them.
    "stock": (),
    "billing": (),
    "notifications": (),
}

log = get_logger()

broker = EventBroker("ingress")
broker.publisher(**outcome(OrderCreated))
broker.publisher(**outcome(OrderCancelled))
broker.publisher(**outcome(DeadLetterClosed))
broker.publisher(**outcome(StockAdjusted))
for gauge in (STUCK_ORDERS, OLDEST_UNPUBLISHED, OPEN_DEAD_LETTERS, WEBHOOK_ENDPOINTS):
    REGISTRY.register(gauge)


def _issuer() -> Issuer | None:
    settings = get_settings()
    if not settings.oidc_issuer or not settings.oidc_audience:
        return None
    return Issuer(settings.oidc_issuer, settings.oidc_audience, settings.oidc_algorithms)


async def _may_see_order(caller: Caller, order_id: UUID) -> bool:
    if caller.client is None:
        return True
    order = await api.state.orders.find(order_id)
    return order is not None and caller.sees(order.client)


def _furnish_console(api: FastAPI, stores: Mapping[str, Database], issuer: Issuer | None) -> None:
    """Give the console what the API has, and what only its pages read."""
    for name, part in api.state._state.items():  # noqa: SLF001  # starlette offers no way to list them
        setattr(console.state, name, part)
    console.state.sessions = Sessions(api.state.authenticate)
    console.state.authenticate = console.state.sessions.authenticate
    console.state.sign_in = SignInAtIssuer.registered(issuer, get_settings()) if issuer else None
    console.state.broker = broker
    console.state.live = Live(stores["orders"])
    for app in ("stock", "billing", "notifications"):
        setattr(console.state, app, stores[app])


@asynccontextmanager
async def lifespan(api: FastAPI) -> AsyncIterator[None]:
    configure_logging("ingress")
    stop_on_sigterm()
    async with exporting("ingress"), open_databases("ingress", STORES) as stores:
        issuer = _issuer()
        api.state.authenticate = Authentication(
            MongoKeys(stores["access"]), issuer, requests_per_minute=get_settings().requests_per_minute
        )
        api.state.audit = MongoAuditLog(stores["access"])
        api.state.orders = MongoOrderBook(stores["orders"])
        api.state.relay = Relay(api.state.orders, broker)
        api.state.letters = MongoLetters(stores["recovery"])
        api.state.webhook_endpoints = MongoEndpoints(stores["webhooks"])
        api.state.repair = Repair(api.state.letters, broker)
        api.state.documents = MongoCatalogue(stores["documents"])
        api.state.document_store = DocumentStore(get_settings().documents_url)
        api.state.may_see_order = _may_see_order
        api.state.checks = {
            "mongodb": mongodb_check(stores["orders"]),
            "rabbitmq": broker_check(broker),
            "oldest_unpublished": unpublished_check(api.state.orders),
        }
        api.state.readings = {
            STUCK_ORDERS: partial(stuck_orders, api.state.orders),
            OLDEST_UNPUBLISHED: partial(oldest_unpublished_seconds, api.state.orders),
            OPEN_DEAD_LETTERS: api.state.letters.count_open,
            **{
                WEBHOOK_ENDPOINTS.labels(state): partial(api.state.webhook_endpoints.count, state)
                for state in STATES
            },
        }
        _furnish_console(api, stores, issuer)
        tasks = [asyncio.create_task(broker.start()), asyncio.create_task(api.state.relay.run())]
        log.info("started")
        yield
        log.info("stopping")
        await console.state.live.close()
        await api.state.relay.announced()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await broker.stop()


api = FastAPIOffline(
    title="Orderflow",
    version="1.0.0",
    summary="Place orders, see where each of them is, and repair what failed.",
    lifespan=lifespan,
    docs_url="/docs" if get_settings().environment == "development" else None,
    redoc_url=None,
    generate_unique_id_function=operation_id,
    # Placing an order is no management: the order itself is the record of it.
    dependencies=[Depends(audited(but_for={"/v1/orders"}))],
    license_info={"name": "MIT", "identifier": "MIT"},
    responses={422: {"model": Problem, "description": "What is wrong, and in which field."}},
    # Its spans would hold the query, and with it signatures of links; and to look for anybody who wants the
    # rest, at each request, took as long as to check who sent it.
    telemetry={"tracing": False, "metrics": False, "logs": False},
)
hold_back_uvicorn()
install_problem_handlers(api)
api.add_middleware(BodyLimit, limit_bytes=BODY_LIMIT_BYTES)
api.add_middleware(AuditAnswers)
api.add_middleware(HttpMetrics)
api.add_middleware(AnswerHeaders)
api.add_middleware(RequestSpans)
api.include_router(orders.placing)
api.include_router(orders.router)
api.include_router(recovery.router)
api.include_router(webhooks.router)
api.include_router(documents.router)
api.include_router(site.router)
api.mount("/console", console)
complete(api)


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
async def metrics(request: Request) -> Response:
    await readings.take(request.app.state.readings)
    return Response(generate_latest(REGISTRY), media_type="text/plain; version=0.0.4")
