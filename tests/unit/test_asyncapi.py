"""The AsyncAPI documents: as committed, complete, and without a secret."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from faststream.asgi import AsgiFastStream
from jsonschema_rs import Draft7Validator

from apps.billing.app import app as billing
from apps.cli.asyncapi import generate
from apps.cli.system import BROKERS
from apps.kit.broker import EventBroker
from apps.kit.topology import event_of
from apps.notifications.app import app as notifications
from apps.orders.app import app as orders
from apps.recovery.app import app as recovery
from apps.stock.app import app as stock
from apps.webhooks.app import app as webhooks
from contracts import EVENTS, Event

ROOT = Path(__file__).parents[2]
ORDERFLOW = Path(sys.executable).with_name("orderflow")
SECRETS = {
    "ORDERFLOW_RABBITMQ_URL": "amqps://keeper:hunter2@broker.internal:5673/shop",
    "ORDERFLOW_MONGODB_URL": "mongodb://keeper:hunter2@store.internal/?replicaSet=rs0",
    "ORDERFLOW_SMTP_USERNAME": "keeper",
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
        for secret in ("keeper", "hunter2", ".internal", "guest"):
            assert secret not in text.lower()


@pytest.fixture(scope="module")
def system(documents: dict[str, str]) -> dict[str, Any]:
    content: dict[str, Any] = yaml.load(documents["system.yaml"], Loader=yaml.CSafeLoader)
    return content


of_every_event = pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)


@of_every_event
def test_example_is_valid(event: type[Event], system: dict[str, Any]) -> None:
    """Whoever copies a message's example copies a body and headers that its own schemas admit."""
    message = system["components"]["messages"][event.__name__]
    (example,) = message["examples"]
    for part in ("payload", "headers"):
        schema = {**message[part], "components": system["components"]}
        Draft7Validator(schema, validate_formats=True).validate(example[part])
    assert example["headers"].keys() <= message["headers"]["properties"].keys()


@of_every_event
def test_example_is_refused_with_a_field_less(event: type[Event], system: dict[str, Any]) -> None:
    """The schema that admits the example is that of the event, and not one that admits anything."""
    schema = {"$ref": f"#/components/schemas/{event.__name__}", "components": system["components"]}
    for field in system["components"]["schemas"][event.__name__]["required"]:
        rest = {name: value for name, value in event.example.items() if name != field}
        assert not Draft7Validator(schema).is_valid(rest), field


@of_every_event
def test_message_says_what_the_contract_says(event: type[Event], system: dict[str, Any]) -> None:
    """Topic, version, owner and history come from the contract, and the event has its channel."""
    message = system["components"]["messages"][event.__name__]
    assert message["name"] == event.topic
    assert message["x-version"] == event.version
    assert message["tags"] == [{"name": event.owner}]
    assert message["x-from-outside"] == event.from_outside
    assert message["x-history"] == [change._asdict() for change in event.history]
    assert message["summary"] == (event.__doc__ or "").partition("\n")[0]
    assert system["channels"][event.topic]["messages"].keys() == {event.__name__}


@pytest.mark.parametrize("broker", BROKERS, ids=lambda broker: broker.app)
def test_each_handler_is_an_operation(broker: EventBroker, system: dict[str, Any]) -> None:
    """What an app consumes stands in the document with the handler's own sentence, on the queue's channel."""
    for consumer in broker.consumers:
        (operation,) = (
            operation
            for operation in system["operations"].values()
            if operation["channel"]["$ref"] == f"#/channels/{consumer.queue.name}"
        )
        assert operation["action"] == "receive"
        assert operation["tags"] == [{"name": broker.app}]
        (handler,) = consumer.calls
        assert operation["description"].startswith(handler.description)


@pytest.mark.parametrize("broker", BROKERS, ids=lambda broker: broker.app)
def test_handler_takes_what_its_queue_receives(broker: EventBroker) -> None:
    """The documents describe a queue by its event, and FastStream its handler by the annotation: the same."""
    for consumer in broker.consumers:
        if event := event_of(consumer.queue):
            (channel,) = consumer.schema().values()
            assert channel.operation.message.payload["title"] == event.__name__


def test_outcomes_and_causes_are_told(system: dict[str, Any]) -> None:
    """An operation names the events that it may lead to, or that it may follow."""
    operations = system["operations"]
    assert operations["stock.receive.OrderCreated"]["description"].endswith(
        "May lead to `OrderRejected` or `OrderValidated`."
    )
    assert operations["recovery.send.DeadLetterOpened"]["description"].endswith(
        "May follow `dead` or `unrouted`."
    )
    assert "May follow" not in operations["ingress.send.OrderCreated"]["description"]


def test_system_document_is_all_others_together(documents: dict[str, str], system: dict[str, Any]) -> None:
    """Nothing stands in an app's own document that the system's lacks or says otherwise, nor the reverse."""
    apps = [
        yaml.load(text, Loader=yaml.CSafeLoader) for name, text in documents.items() if name != "system.yaml"
    ]
    for section in ("channels", "operations"):
        assert system[section] == {name: part for app in apps for name, part in app[section].items()}
    for section in ("messages", "schemas"):
        assert system["components"][section] == {
            name: part for app in apps for name, part in app["components"][section].items()
        }
    queues = {queue["name"]: queue for app in apps for queue in app["x-topology"]["queues"]}
    assert {queue["name"]: queue for queue in system["x-topology"]["queues"]} == queues
    assert system["info"]["tags"] == [tag for app in apps for tag in app["info"]["tags"]]


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
