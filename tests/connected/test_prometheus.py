"""A real Prometheus on a real run: panels, rules and alerts find what they ask for, and one is raised."""

import asyncio
import json
import math
import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import promql_parser
import pytest
import yaml
from conftest import System, body_of, eventually, new_order
from receiver import Receiver, answer, receiving
from test_webhooks import endpoint

from apps.cli.local.daemon import Daemon
from apps.cli.local.ports import LOOPBACK, free_port
from apps.cli.local.stack import API, WORKERS
from contracts import StockAdjusted

pytestmark = pytest.mark.connected

OBSERVABILITY = Path(__file__).parents[2] / "k8s" / "observability"
RULES = yaml.safe_load((OBSERVABILITY / "rules" / "orderflow.yaml").read_text())
DASHBOARDS = sorted((OBSERVABILITY / "dashboards").glob("*.json"))
SCRAPE_SECONDS = 2
PATIENCE_SECONDS = 120.0
VARIABLES = {"$__rate_interval": "1m", "$__range": "5m", "$app": ".+"}
"""What Grafana would put in their place."""
EMPTY_IN_HEALTH = {
    'orderflow_http_request_duration_seconds_count{status=~"5.."}': "no request ends with a server error",
}
"""Selectors of alerts that rightly find no series in this run; without their labels they must find some."""


@dataclass
class Prometheus:
    """The running server, over its HTTP API."""

    http: httpx.AsyncClient
    called: Receiver
    """What Alertmanager calls."""

    async def ask(self, expr: str) -> list[dict[str, Any]]:
        """The series that a query finds now."""
        answered = await self.http.get("/api/v1/query", params={"query": expr})
        assert answered.status_code == 200, f"{expr}: {answered.text}"
        found: list[dict[str, Any]] = answered.json()["data"]["result"]
        return found

    async def finds(self, expr: str) -> bool:
        """Whether a query finds a number."""
        return any(math.isfinite(float(series["value"][1])) for series in await self.ask(expr))

    async def firing(self) -> set[str]:
        """The alerts that fire now."""
        return {one["metric"]["alertname"] for one in await self.ask('ALERTS{alertstate="firing"}')}

    async def told(self, status: str, alert: str) -> list[dict[str, Any]]:
        """What Alertmanager has told of one alert."""
        told = [one for request in self.called.requests for one in request.content["alerts"]]
        return [one for one in told if (one["status"], one["labels"]["alertname"]) == (status, alert)]


def configuration(system: System, directory: Path, alertmanager: str) -> Path:
    """The committed configuration and rules, but for addresses and for how long things take."""
    settings = yaml.safe_load((OBSERVABILITY / "prometheus.yml").read_text())
    settings["global"] = dict.fromkeys(
        ("scrape_interval", "scrape_timeout", "evaluation_interval"), f"{SCRAPE_SECONDS}s"
    )
    settings["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]}
    node = system.stack.rabbitmq
    assert node is not None, "needs the run's own RabbitMQ, whose metrics it knows where to find"
    for job in settings["scrape_configs"]:
        if discovered := job.pop("dns_sd_configs", None):
            # What DNS would answer: the relabelling stays the committed one.
            job["static_configs"] = [
                {"targets": [address_of(system, name)], "labels": {"__meta_dns_name": name}}
                for name in discovered[0]["names"]
            ]
        else:
            job["static_configs"] = [{"targets": [node.metrics_address]}]
    rules = json.loads(json.dumps(RULES))
    for rule in (rule for group in rules["groups"] for rule in group["rules"] if "for" in rule):
        rule["for"] = "1s"
    (directory / "rules").mkdir()
    (directory / "rules" / "orderflow.yaml").write_text(yaml.safe_dump(rules))
    file = directory / "prometheus.yml"
    file.write_text(yaml.safe_dump(settings))
    return file


def address_of(system: System, app: str) -> str:
    """Where an app serves its metrics in this run."""
    url = system.stack.supervisor.ready_url(API if app == "ingress" else app)
    return httpx.URL(url).netloc.decode()


def installed(program: str) -> str:
    """Path of a program of Debian's packages."""
    path = shutil.which(program)
    if path is None:
        pytest.fail(
            f"{program} is missing: apt-get install prometheus prometheus-alertmanager", pytrace=False
        )
    return path


@asynccontextmanager
async def serving(name: str, directory: Path, port: int, *arguments: str) -> AsyncIterator[str]:
    """One of the two servers, once it is ready, with its address."""
    address, daemon = f"{LOOPBACK}:{port}", Daemon(name, directory)
    listen = f"--web.listen-address={address}"
    await asyncio.to_thread(daemon.start, [installed(name), listen, *arguments], os.environ)
    try:
        async with httpx.AsyncClient(base_url=f"http://{address}", trust_env=False, timeout=30) as http:

            async def ready() -> bool:
                with suppress(httpx.TransportError):
                    return (await http.get("/-/ready")).is_success
                return False

            await eventually(ready, f"{name} is ready", PATIENCE_SECONDS)
        yield address
    finally:
        await asyncio.to_thread(daemon.stop)


@pytest.fixture(scope="module")
async def prometheus(system: System, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Prometheus]:
    """Prometheus with data of its own, and Alertmanager, which calls a receiver."""
    home = tmp_path_factory.mktemp("prometheus")
    await discard_dead_letters(system)  # those of other tests
    async with receiving() as called:
        alertmanager = home / "alertmanager.yml"
        route = {"receiver": "test", "group_wait": "0s", "group_interval": "1s"}
        receivers = [{"name": "test", "webhook_configs": [{"url": called.url}]}]
        alertmanager.write_text(yaml.safe_dump({"route": route, "receivers": receivers}))
        async with (
            serving(
                "prometheus-alertmanager",
                home,
                free_port(),
                f"--config.file={alertmanager}",
                f"--storage.path={home / 'alertmanager'}",
                "--cluster.listen-address=",
            ) as notified,
            serving(
                "prometheus",
                home,
                free_port(),
                f"--config.file={configuration(system, home, notified)}",
                f"--storage.tsdb.path={home / 'data'}",
            ) as address,
            httpx.AsyncClient(base_url=f"http://{address}", trust_env=False, timeout=30) as http,
        ):
            yield Prometheus(http, called)


async def discard_dead_letters(system: System) -> None:
    """Leave no dead letter open."""
    request: dict[str, Any] = {"all": True, "reason": "made by a test"}
    while True:
        answered = await system.api.post("/v1/dead-letters/discard", json=request)
        assert answered.status_code == 200, answered.text
        if (cursor := answered.json()["next_cursor"]) is None:
            return
        request["cursor"] = cursor


@pytest.fixture(scope="module")
async def trade(system: System) -> AsyncIterator[None]:
    """A shop at work while the tests ask: orders of all kinds, and now and then something fails."""
    (sku,) = await system.stock_up(None)
    async with (
        receiving() as healthy,
        receiving(answer(500)) as ill,
        endpoint(system, healthy),
        endpoint(system, ill),
    ):
        selling = asyncio.create_task(sell(system, sku))
        yield
        selling.cancel()
        with suppress(asyncio.CancelledError):
            await selling
    await discard_dead_letters(system)


async def sell(system: System, sku: str) -> None:
    """Sell until cancelled."""
    while True:
        order = body_of(new_order((sku, 1), email="ana@shop.example"))
        placed = await system.api.post("/v1/orders", json=order)
        assert placed.status_code == 202, placed.text
        await system.publish(new_order((sku, 2), email="rui@shop.example", phone="+5511987654321"))
        await system.publish(new_order((f"unknown-{uuid4().hex}", 1)))
        cancelled = {"reason": "Ordered by mistake."}
        await system.api.post(f"/v1/orders/{placed.json()['order_id']}/cancel", json=cancelled)
        # Units off an article that was never counted: stock tries again, and gives it up.
        await system.publish(
            StockAdjusted(
                adjustment_id=uuid4(),
                sku=f"uncounted-{uuid4().hex}",
                mode="add",
                quantity=-1,
                adjusted_at="2026-11-02T08:00:00Z",
            )
        )
        await asyncio.sleep(1)


def panels() -> Iterator[tuple[str, str]]:
    """Every query of every panel, with what it is."""
    for file in DASHBOARDS:
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel.get("targets", ()):
                expr = target["expr"]
                for variable, value in VARIABLES.items():
                    expr = expr.replace(variable, value)
                yield f"{file.stem} / {panel['title']} / {target['legendFormat']}", expr


def selectors(node: Any) -> Iterator[str]:
    """What a query takes from Prometheus, whatever it then computes; the past counts as the present."""
    if isinstance(node, promql_parser.VectorSelector):
        yield f"{node.name}{node.matchers}"
    for name in ("lhs", "rhs", "expr", "vector_selector", "args"):
        below = getattr(node, name, None)
        for child in below if isinstance(below, list) else [below]:
            if child is not None:
                yield from selectors(child)


async def unanswered(
    prometheus: Prometheus, queries: dict[str, str], patience_seconds: float = PATIENCE_SECONDS
) -> dict[str, str]:
    """What still finds nothing when the time is up."""
    deadline = time.monotonic() + patience_seconds
    while queries and time.monotonic() < deadline:
        queries = {name: expr for name, expr in queries.items() if not await prometheus.finds(expr)}
        await asyncio.sleep(SCRAPE_SECONDS / 2)
    return queries


async def test_a_poison_message_raises_the_alarm(system: System, prometheus: Prometheus) -> None:
    """It is silent while all is well; a message that nobody can read raises it, discarding that ends it."""

    async def watched() -> bool:
        return await prometheus.finds("max(orderflow_open_dead_letters) == 0")

    await eventually(watched, "open dead letters are counted", PATIENCE_SECONDS)
    assert "DeadLetters" not in await prometheus.firing()
    message_id = str(uuid4())
    await system.publish_raw("order.created.v1", b"{", message_id=message_id)

    async def told() -> list[dict[str, Any]]:
        return await prometheus.told("firing", "DeadLetters")

    alarm = (await eventually(told, "Alertmanager tells of the dead letters", PATIENCE_SECONDS))[0]

    assert alarm["labels"]["severity"] == "warning"
    assert re.fullmatch(r"\d dead letters wait for an operator.*", alarm["annotations"]["description"])
    assert alarm["annotations"]["runbook_url"].endswith("/docs/runbooks/dead-letters.md")
    assert "DeadLetters" in await prometheus.firing()
    await discard_dead_letters(system)

    async def over() -> list[dict[str, Any]]:
        return await prometheus.told("resolved", "DeadLetters")

    await eventually(over, "Alertmanager tells that it is over", PATIENCE_SECONDS)


@pytest.mark.usefixtures("trade")
async def test_every_target_answers_under_its_name(prometheus: Prometheus) -> None:
    """Each app and RabbitMQ are up, and what an app shows carries its own name as the label `app`."""
    apps = {"ingress", *WORKERS}
    targets = {("orderflow", app) for app in apps} | {("rabbitmq", None), ("rabbitmq-node", None)}

    async def everyone() -> bool:
        up = [one["metric"] for one in await prometheus.ask("up == 1")]
        # FastStream tells the app by a label of its own.
        shown = [one["metric"] for one in await prometheus.ask("faststream_published_messages_total")]
        named = {(one["app"], one["app_name"]) for one in shown}
        is_up = {(one["job"], one.get("app")) for one in up} == targets
        return is_up and {app for app, _ in named} >= {"stock", "billing"} and all(a == b for a, b in named)

    await eventually(everyone, "all targets are up", PATIENCE_SECONDS)


@pytest.mark.usefixtures("trade")
async def test_every_panel_shows_something(prometheus: Prometheus) -> None:
    """No panel of any dashboard stays empty while a shop is at work and something fails now and then."""
    queries = dict(panels())
    assert len(queries) > 50

    assert await unanswered(prometheus, queries) == {}


async def test_an_empty_panel_is_seen(prometheus: Prometheus) -> None:
    """A query for what does not exist, or for what is no number, counts as unanswered."""
    queries = {"unknown": "orderflow_no_such_metric", "no number": "vector(0) / 0", "known": "vector(1)"}

    assert set(await unanswered(prometheus, queries, patience_seconds=1)) == {"unknown", "no number"}


@pytest.mark.usefixtures("trade")
async def test_every_recorded_rule_has_a_value(prometheus: Prometheus) -> None:
    """What is computed for dashboards and alerts is there."""
    recorded = [rule["record"] for group in RULES["groups"] for rule in group["rules"] if "record" in rule]

    assert await unanswered(prometheus, {name: name for name in recorded}) == {}


@pytest.mark.usefixtures("trade")
async def test_every_alert_looks_at_something(prometheus: Prometheus) -> None:
    """An alert is silent because all is well, not because it asks for series that do not exist."""
    alerts = [rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule]
    asked = {
        (alert["alert"], selector)
        for alert in alerts
        for selector in selectors(promql_parser.parse(alert["expr"]))
    }
    queries = {
        f"{alert}: {selector}": selector.partition("{")[0] if selector in EMPTY_IN_HEALTH else selector
        for alert, selector in asked
    }

    assert await unanswered(prometheus, queries) == {}
    for alert in alerts:
        await prometheus.ask(alert["expr"])
    assert set(EMPTY_IN_HEALTH) <= {selector for _, selector in asked}, "listed, and asked by no alert"
