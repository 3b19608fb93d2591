"""The AsyncAPI documents against RabbitMQ: what they describe is what it holds, and what travels."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote
from uuid import uuid4

import aio_pika
import httpx
import pytest
import yaml

from apps.cli.local.rabbitmq import RabbitNode
from apps.kit.publishing import event_publisher
from contracts import EVENTS

pytestmark = pytest.mark.connected

ASYNCAPI = Path(__file__).parents[2] / "asyncapi"
ORDERFLOW = Path(sys.executable).with_name("orderflow")


def document(name: str) -> dict[str, Any]:
    text = (ASYNCAPI / f"{name}.yaml").read_text(encoding="utf-8")
    content: dict[str, Any] = yaml.load(text, Loader=yaml.CSafeLoader)
    return content


SYSTEM = document("system")


class Broker(NamedTuple):
    """A virtual host that holds what `orderflow topology apply` declares."""

    url: str
    management: httpx.Client
    vhost: str

    def listed(self, what: str) -> list[dict[str, Any]]:
        answer = self.management.get(f"/api/{what}/{quote(self.vhost, safe='')}")
        found: list[dict[str, Any]] = answer.raise_for_status().json()
        return found


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    node = RabbitNode(tmp_path_factory.mktemp("rabbitmq"))
    node.start()
    vhost = f"documents-{uuid4().hex[:8]}"
    url = node.create_vhost(vhost)
    subprocess.run(  # noqa: S603
        [ORDERFLOW, "topology", "apply"],
        env=os.environ | {"ORDERFLOW_RABBITMQ_URL": str(url)},
        check=True,
        timeout=200,
    )
    with httpx.Client(base_url=node.management_url, auth=node.login, timeout=30) as management:
        yield Broker(str(url), management, vhost)
    node.delete_vhost(vhost)
    node.stop()


def by_name(things: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {thing["name"]: {key: thing[key] for key in ("type", "durable", "arguments")} for thing in things}


def test_exchanges_are_those_of_the_document(broker: Broker) -> None:
    """Each with its type and arguments, none missing, and none beside RabbitMQ's own."""
    declared = [
        exchange
        for exchange in broker.listed("exchanges")
        if exchange["name"] and not exchange["name"].startswith("amq.")
    ]
    assert by_name(declared) == by_name(SYSTEM["x-topology"]["exchanges"])


def test_queues_are_those_of_the_document(broker: Broker) -> None:
    """Each with its type and every argument, none missing and none beside them."""
    assert by_name(broker.listed("queues")) == by_name(SYSTEM["x-topology"]["queues"])


def test_bindings_are_those_of_the_document(broker: Broker) -> None:
    """What leads where, none missing and none beside them; RabbitMQ's default exchange leads everywhere."""
    declared = {
        (binding["source"], binding["destination"], binding["routing_key"])
        for binding in broker.listed("bindings")
        if binding["source"]
    }
    assert declared == {
        (binding["exchange"], binding["queue"], binding["routingKey"])
        for binding in SYSTEM["x-topology"]["bindings"]
    }


def test_channels_are_what_rabbitmq_holds(broker: Broker) -> None:
    """A channel has its queue's arguments and bindings, and every consumed queue has a channel."""
    queues = by_name(broker.listed("queues"))
    bindings = [binding for binding in broker.listed("bindings") if binding["source"]]
    channels = {
        name: channel
        for name, channel in SYSTEM["channels"].items()
        if channel["bindings"]["amqp"]["is"] == "queue"
    }
    assert queues.keys() - channels.keys() == {name for name in queues if name.startswith("retry.")}
    for name, channel in channels.items():
        queue = channel["bindings"]["amqp"]["queue"]
        assert (queue["name"], channel["address"]) == (name, name)
        assert queue["durable"] is queues[name]["durable"]
        assert channel["x-queue-type"] == queues[name]["type"]
        assert channel["x-arguments"] == queues[name]["arguments"]
        assert {(binding["exchange"], binding["routingKey"]) for binding in channel["x-bindings"]} == {
            (binding["source"], binding["routing_key"])
            for binding in bindings
            if binding["destination"] == name
        }


async def test_messages_travel_as_their_examples(broker: Broker) -> None:
    """Published by Orderflow, each example arrives with the documented properties, headers and body."""
    messages = SYSTEM["components"]["messages"]
    async with await aio_pika.connect(broker.url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind("events", "#")
        for event in EVENTS:
            described = messages[event.__name__]
            (example,) = described["examples"]
            async with event_publisher(event.owner, broker.url) as publish:
                await publish(event.model_validate(event.example))
            received = await queue.get(timeout=30)
            assert received.routing_key == described["name"]
            assert event.model_validate_json(received.body) == event.model_validate(example["payload"])
            assert received.headers == example["headers"]
            assert _properties(received) == {
                item["name"]: item["example"] for item in described["x-properties"]
            }


def _properties(message: aio_pika.abc.AbstractIncomingMessage) -> dict[str, Any]:
    """Every AMQP property that is set, by its name in AMQP."""
    found = {name: value for name, value in message.properties if value and name != "headers"}
    found["type"] = found.pop("message_type")
    found["timestamp"] = int(found["timestamp"].timestamp())
    return found
