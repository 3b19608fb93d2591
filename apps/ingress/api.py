"""The ingress: one thin HTTP process in front of the apps, and the relay that publishes what it took."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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
from apps.documents import api as documents
from apps.documents.mongo import DOCUMENTS as DOCUMENT_DOCUMENTS
from apps.documents.mongo import MongoCatalogue
from apps.documents.store import DocumentStore
from apps.ingress import site
from apps.ingress.openapi import complete, operation_id
from apps.kit.access import Caller
from apps.kit.answers import AnswerHeaders
from apps.kit.broker import EventBroker
from apps.kit.health import broker_check, mongodb_check, report, run_checks
from apps.kit.http_metrics import HttpMetrics
from apps.kit.logs import configure_logging, hold_back_uvicorn
from apps.kit.mongo import open_database
from apps.kit.problems import BodyLimit, Problem, install_problem_handlers
from apps.kit.settings import get_settings
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
from apps.webhooks import api as webhooks
from apps.webhooks.endpoints import MongoEndpoints
from apps.webhooks.mongo import DOCUMENTS as WEBHOOK_DOCUMENTS
from contracts import DeadLetterClosed, OrderCancelled, OrderCreated

BODY_LIMIT_BYTES = 1024 * 1024

log = get_logger()

broker = EventBroker("ingress")
broker.publisher(**outcome(OrderCreated))
broker.publisher(**outcome(OrderCancelled))
broker.publisher(**outcome(DeadLetterClosed))
backlog = BacklogMetrics(broker.registry)


def _authentication(keys: MongoKeys) -> Authentication:
    settings = get_settings()
    issuer = None
    if settings.oidc_issuer and settings.oidc_audience:
        issuer = Issuer(settings.oidc_issuer, settings.oidc_audience, settings.oidc_algorithms)
    return Authentication(keys, issuer, requests_per_minute=settings.requests_per_minute)


async def _may_see_order(caller: Caller, order_id: UUID) -> bool:
    if caller.client is None:
        return True
    order = await api.state.orders.find(order_id)
    return order is not None and order.client == caller.client


@asynccontextmanager
async def lifespan(api: FastAPI) -> AsyncIterator[None]:
    configure_logging("ingress")
    stop_on_sigterm()
    async with (
        open_database("orders", *DOCUMENTS) as engine,
        open_database("recovery", *RECOVERY_DOCUMENTS) as archive,
        open_database("webhooks", *WEBHOOK_DOCUMENTS) as webhook_store,
        open_database("access", *ACCESS_DOCUMENTS) as access,
        open_database("documents", *DOCUMENT_DOCUMENTS) as catalogue,
    ):
        api.state.authenticate = _authentication(MongoKeys(access))
        api.state.audit = MongoAuditLog(access)
        api.state.orders = MongoOrderBook(engine)
        api.state.relay = Relay(api.state.orders, broker)
        api.state.letters = MongoLetters(archive)
        api.state.webhook_endpoints = MongoEndpoints(webhook_store)
        api.state.repair = Repair(api.state.letters, broker)
        api.state.documents = MongoCatalogue(catalogue)
        api.state.document_store = DocumentStore(get_settings().documents_url)
        api.state.may_see_order = _may_see_order
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
    docs_url="/docs" if get_settings().environment == "development" else None,
    redoc_url=None,
    generate_unique_id_function=operation_id,
    # Placing an order is no management: the order itself is the record of it.
    dependencies=[Depends(audited(but_for={"/v1/orders"}))],
    license_info={"name": "MIT", "identifier": "MIT"},
    responses={422: {"model": Problem, "description": "What is wrong, and in which field."}},
)
hold_back_uvicorn()
install_problem_handlers(api)
api.add_middleware(BodyLimit, limit_bytes=BODY_LIMIT_BYTES)
api.add_middleware(AuditAnswers)
api.add_middleware(HttpMetrics, registry=broker.registry)
api.add_middleware(AnswerHeaders)
api.include_router(orders.router)
api.include_router(recovery.router)
api.include_router(webhooks.router)
api.include_router(documents.router)
api.include_router(site.router)
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
async def metrics(book: orders.OrderBook) -> Response:
    await backlog.refresh(book)
    return Response(generate_latest(broker.registry), media_type="text/plain; version=0.0.4")
