"""An event as an AsyncAPI message: what it means, what surrounds it on the wire, and a whole example."""

import re
from inspect import cleandoc
from typing import Any

from apps.kit import recovery
from apps.kit.envelope import ROUTING_KEY_HEADER
from contracts import Event
from contracts.envelope import Envelope, envelope

AMQP_BINDING = {"bindingVersion": "0.3.0"}

_PROPERTIES = {
    "content_type": "The body is JSON.",
    "content_encoding": "The body is UTF-8.",
    "delivery_mode": "2 is persistent: RabbitMQ keeps the message on disk.",
    "message_id": "The event's id, derived from topic and natural key: a repeat has the same.",
    "correlation_id": "The order that the event belongs to, else the event's own natural key.",
    "type": "The topic, as in the routing key. A message that states another is refused.",
    "timestamp": "When it happened, in seconds since 1970; the header `cloudEvents:time` is more exact.",
    "app_id": "The program that published it.",
}

_TEXT = {"type": "string"}
_UUID = {"type": "string", "format": "uuid"}
_TIME = {"type": "string", "format": "date-time"}
_COUNT = {"type": "integer", "minimum": 1}
_TRACE = {"type": "string", "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"}
_HEADERS: dict[str, tuple[dict[str, Any], str]] = {
    "cloudEvents:specversion": (_TEXT, "Version of CloudEvents."),
    "cloudEvents:id": (_UUID, "The event's id, as in the property `message_id`."),
    "cloudEvents:type": (_TEXT, "The topic, as in the routing key."),
    "cloudEvents:source": (_TEXT, "Who owns the event, as a path."),
    "cloudEvents:subject": (_TEXT, "What it is about, as in the property `correlation_id`."),
    "cloudEvents:time": (_TIME, "When it happened, RFC 3339."),
    "traceparent": (_TRACE, "W3C trace context, passed on from the message that led to this one."),
    ROUTING_KEY_HEADER: (_TEXT, "After a failure: the routing key by which it was published."),
    recovery.ATTEMPT: (_COUNT, "After a failure: which attempt this is."),
    recovery.QUEUE: (_TEXT, "After a failure: the queue whose consumer failed."),
    recovery.HANDLER: (_TEXT, "After a failure: the function that failed."),
    recovery.REASON: (_TEXT, "After a failure: what was wrong and where, without a customer's data."),
    recovery.ERROR_TYPE: (_TEXT, "After a failure: the class of the error."),
    recovery.TRACEBACK: (_TEXT, "After a failure: where in the code it was raised."),
    recovery.FIRST_FAILED_AT: (_TIME, "After a failure: when it failed first, RFC 3339."),
    recovery.LAST_FAILED_AT: (_TIME, "After a failure: when it failed last, RFC 3339."),
}


def text_of(event: type[Event]) -> str:
    """What an event means, in full."""
    return cleandoc(event.__doc__ or "")


def title_of(event: type[Event]) -> str:
    """The name of its class in words: `Order created`."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", event.__name__).capitalize()


def summary_of(text: str) -> str:
    """The first sentence of a docstring."""
    return text.partition("\n")[0]


def reference(event: type[Event]) -> dict[str, dict[str, str]]:
    """The messages of a channel on which one event travels."""
    return {event.__name__: {"$ref": f"#/components/messages/{event.__name__}"}}


def message(event: type[Event]) -> dict[str, Any]:
    """The message that carries an event, the same on every channel."""
    text = text_of(event)
    example = envelope(event.model_validate(event.example))
    return {
        "name": event.topic,
        "title": title_of(event),
        "summary": summary_of(text),
        "description": f"{text}\n\n"
        f"Messages with the same `{event.identity_field}` are the same event, however often it is published.",
        "contentType": example["content_type"],
        "correlationId": {
            "description": _PROPERTIES["correlation_id"],
            "location": "$message.header#/cloudEvents:subject",
        },
        "headers": {
            "type": "object",
            "description": "Orderflow sends all of CloudEvents; other publishers may leave them out.",
            "properties": {
                name: {**schema, "description": description}
                for name, (schema, description) in _HEADERS.items()
            },
        },
        "payload": {"$ref": f"#/components/schemas/{event.__name__}"},
        "examples": [
            {
                "name": event.__name__,
                "summary": summary_of(text),
                "headers": example["headers"],
                "payload": event.example,
            }
        ],
        "tags": [{"name": event.owner}],
        "bindings": {
            "amqp": {
                "contentEncoding": example["content_encoding"],
                "messageType": example["type"],
                **AMQP_BINDING,
            }
        },
        "x-version": event.version,
        "x-from-outside": event.from_outside,
        "x-properties": [
            {"name": name, "description": _PROPERTIES[name], "example": value}
            for name, value in _properties(event, example).items()
        ],
        "x-history": [change._asdict() for change in event.history],
    }


def _properties(event: type[Event], example: Envelope) -> dict[str, Any]:
    """The AMQP properties as they stand on the wire."""
    properties = {name: value for name, value in example.items() if name not in {"body", "headers"}}
    return properties | {
        "timestamp": int(example["timestamp"].timestamp()),
        "app_id": f"orderflow.{event.owner}",
    }
