"""FastStream's specification of apps, with everything that the contracts and the topology know beside it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import yaml
from faststream.specification import AsyncAPI
from pydantic.json_schema import models_json_schema

from apps.kit.broker import EventBroker
from apps.kit.specification.channels import event_channel, queue_channel
from apps.kit.specification.messages import message
from apps.kit.specification.operations import operations, sent_by
from apps.kit.specification.topology import topology
from apps.kit.topology import event_of
from contracts import Event

_USER = [{"$ref": "#/components/securitySchemes/user"}]
_SECURITY = {
    "user": {
        "type": "userPassword",
        "description": "A user of RabbitMQ: one for each program, with no more rights than it needs.",
    }
}
_SERVERS = {
    "development": {
        "host": "localhost:5672",
        "pathname": "/",
        "protocol": "amqp",
        "protocolVersion": "0.9.1",
        "description": "RabbitMQ on your own machine.",
        "security": _USER,
    },
    "production": {
        "host": "{host}:5671",
        "pathname": "/{virtualHost}",
        "protocol": "amqps",
        "protocolVersion": "0.9.1",
        "description": "RabbitMQ over TLS, where its operator says.",
        "variables": {
            "host": {"description": "Where RabbitMQ is.", "default": "rabbitmq.example.com"},
            "virtualHost": {"description": "Its virtual host for Orderflow.", "default": "orderflow"},
        },
        "security": _USER,
    },
}


class _Dumper(yaml.SafeDumper):
    """YAML to be read: texts of several lines as they are, and no aliases."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True

    def text(self, text: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _Dumper.text)


@dataclass(frozen=True)
class Document:
    """A finished document, in each form in which FastStream writes or serves one."""

    content: dict[str, Any]

    @property
    def title(self) -> str:
        title: str = self.content["info"]["title"]
        return title

    def to_jsonable(self) -> dict[str, Any]:
        return self.content

    def to_json(self) -> str:
        return json.dumps(self.content)

    def to_yaml(self) -> str:
        return yaml.dump(self.content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


class EventSpecification(AsyncAPI):
    """What `app.schema` is: whoever asks FastStream for a document gets one that leaves nothing out."""

    brokers: list[EventBroker]  # type: ignore[assignment]

    def __init__(self, *brokers: EventBroker, title: str, description: str, apps: Mapping[str, str]) -> None:
        """Describe some brokers together.

        Args:
            brokers: what the document is about.
            title: its name.
            description: one sentence about all of them.
            apps: one sentence about each, by the name of its app.
        """
        super().__init__(
            *brokers,
            title=title,
            version=version("orderflow"),
            description=description,
            contact={"name": "The Orderflow founders"},
            license={"name": "MIT", "url": "https://opensource.org/license/mit"},
            tags=[{"name": app, "description": sentence} for app, sentence in apps.items()],
        )

    def to_specification(self) -> Document:
        events = sorted(self._events(), key=lambda event: event.__name__)
        channels = {event.topic: event_channel(event) for event in events}
        tasks: dict[str, Any] = {}
        for broker in self.brokers:
            tasks |= operations(broker)
            queues = [consumer.queue for consumer in broker.consumers]
            channels |= {queue.name: queue_channel(broker.app, queue) for queue in queues}
        _, schemas = models_json_schema(
            [(event, "validation") for event in events], ref_template="#/components/schemas/{model}"
        )
        return Document(
            {
                "asyncapi": "3.0.0",
                "info": {
                    "title": self.title,
                    "version": self.version,
                    "description": self.description,
                    "contact": self.contact,
                    "license": self.license,
                    "tags": self.tags,
                },
                "defaultContentType": "application/json",
                "servers": _SERVERS,
                # FastStream keeps subscribers and publishers in sets, in any order.
                "channels": dict(sorted(channels.items())),
                "operations": dict(sorted(tasks.items())),
                "components": {
                    "messages": {event.__name__: message(event) for event in events},
                    "schemas": schemas.get("$defs", {}),
                    "securitySchemes": _SECURITY,
                },
                "x-topology": topology(self.brokers),
            }
        )

    def _events(self) -> set[type[Event]]:
        sent = {event for broker in self.brokers for event in sent_by(broker)}
        queues = [consumer.queue for broker in self.brokers for consumer in broker.consumers]
        return sent | {event for queue in queues if (event := event_of(queue))}
