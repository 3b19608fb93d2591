"""The AsyncAPI documents: as committed, complete, and without a secret."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml
from faststream.asgi import AsgiFastStream

from apps.billing.app import app as billing
from apps.cli.asyncapi import generate
from apps.notifications.app import app as notifications
from apps.orders.app import app as orders
from apps.recovery.app import app as recovery
from apps.stock.app import app as stock
from apps.webhooks.app import app as webhooks
from contracts import EVENTS

ROOT = Path(__file__).parents[2]
ORDERFLOW = Path(sys.executable).with_name("orderflow")
SECRETS = {
    "ORDERFLOW_RABBITMQ_URL": "amqps://keeper:hunter2@broker.internal:5673/shop",
    "ORDERFLOW_MONGODB_URL": "mongodb://keeper:hunter2@store.internal/?replicaSet=rs0",
    "ORDERFLOW_SMTP_PASSWORD": "hunter2",
}


@pytest.fixture(scope="module")
def documents() -> dict[str, str]:
    return generate()


def test_committed_documents_are_current(documents: dict[str, str]) -> None:
    """Whoever reads the repository reads what the code does; `orderflow asyncapi build` renews them."""
    committed = {path.name: path.read_text() for path in (ROOT / "asyncapi").glob("*.yaml")}
    assert committed == documents


def test_documents_hold_no_secret(tmp_path: Path) -> None:
    """Built where the settings have real addresses and passwords, they are the same and name none of them."""
    subprocess.run(  # noqa: S603
        [ORDERFLOW, "asyncapi", "build", "--output", tmp_path],
        cwd=ROOT,
        env=os.environ | SECRETS,
        check=True,
        timeout=60,
    )
    built = {path.name: path.read_text() for path in tmp_path.glob("*.yaml")}
    assert built == {path.name: path.read_text() for path in (ROOT / "asyncapi").glob("*.yaml")}
    for text in built.values():
        for secret in ("keeper", "hunter2", ".internal", "guest", "password"):
            assert secret not in text.lower()


def test_system_document_has_every_event_with_its_example(documents: dict[str, str]) -> None:
    """One document shows all that can be published or received, each with a body to copy."""
    schemas = yaml.safe_load(documents["system.yaml"])["components"]["schemas"]
    for event in EVENTS:
        assert schemas[event.__name__]["examples"] == [event.example]


@pytest.mark.parametrize(
    "app",
    [orders, stock, billing, notifications, recovery, webhooks],
    ids=["orders", "stock", "billing", "notifications", "recovery", "webhooks"],
)
@pytest.mark.parametrize("path", ["/asyncapi/try", "/docs/asyncapi/try", "/try"])
async def test_nobody_can_publish_through_a_worker(app: AsgiFastStream, path: str) -> None:
    """FastStream's try-it-out route would stop a live worker, so no worker has it."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://worker") as client:
        answer = await client.post(path, json={"channelName": "stock.order-created", "message": {}})
    assert answer.status_code == 404
