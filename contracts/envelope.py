"""What surrounds an event on the wire, on every message alike: AMQP properties and CloudEvents headers."""

from datetime import datetime
from typing import Any, TypedDict

from contracts.event import Event

PERSISTENT = 2
"""The delivery mode of what RabbitMQ keeps on disk."""


class Envelope(TypedDict):
    """Arguments of `aio_pika.Message`; an `app_id` naming the sender may join them."""

    body: bytes
    content_type: str
    content_encoding: str
    delivery_mode: int
    message_id: str
    correlation_id: str
    type: str
    timestamp: datetime
    headers: dict[str, Any]


def envelope(event: Event) -> Envelope:
    """The whole message that carries an event: `aio_pika.Message(**envelope(event))`."""
    event_id = str(event.event_id)
    return {
        "body": event.model_dump_json().encode(),
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "delivery_mode": PERSISTENT,
        "message_id": event_id,
        "correlation_id": event.correlation_id,
        "type": event.topic,
        "timestamp": event.occurred_at,
        "headers": {
            "cloudEvents:specversion": "1.0",
            "cloudEvents:id": event_id,
            "cloudEvents:type": event.topic,
            "cloudEvents:source": f"/orderflow/{event.owner}",
            "cloudEvents:subject": event.correlation_id,
            "cloudEvents:time": event.occurred_at.isoformat().replace("+00:00", "Z"),
        },
    }
