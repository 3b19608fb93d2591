"""Where messages pass: the events exchange by topic, and the queue of each consumer."""

from typing import Any

from faststream.rabbit import RabbitQueue

from apps.kit.specification.messages import AMQP_BINDING, reference, summary_of, text_of, title_of
from apps.kit.topology import DEAD, DEAD_QUEUE, EVENTS, RETRY_LEVELS, bindings_of, event_of
from contracts import Event

_RETRY = {
    "delaysSeconds": [
        int(delay) if delay.is_integer() else delay
        for delay in (float(level.delay_seconds) for level in RETRY_LEVELS)
    ],
    "description": "What fails is tried again after each of these pauses. It spends them in the queue of the "
    "level and returns to this one. While something is out of reach that the app needs, such as its "
    "database, a message waits and spends no attempt.",
}
_DEAD_LETTER = {
    "exchange": DEAD.name,
    "queue": DEAD_QUEUE.name,
    "description": "What breaks its contract or has failed at every attempt is kept among the dead letters, "
    "with the reason in its headers, until an operator replays or discards it.",
}
_NO_RETRY = {
    "delaysSeconds": [],
    "description": "What cannot be archived stays in this queue and is tried again without end.",
}
_NO_DEAD_LETTER = {"description": "None: this is where messages end."}


def event_channel(event: type[Event]) -> dict[str, Any]:
    """Where an event is published, and to which anybody may bind a queue."""
    return {
        "address": event.topic,
        "title": title_of(event),
        "summary": summary_of(text_of(event)),
        "description": f"The exchange `{EVENTS.name}` with the routing key `{event.topic}`. "
        "To receive the event, bind a queue of your own.",
        "messages": reference(event),
        "bindings": {
            "amqp": {
                "is": "routingKey",
                "exchange": {
                    "name": EVENTS.name,
                    "type": EVENTS.type.value,
                    "durable": EVENTS.durable,
                    "autoDelete": EVENTS.auto_delete,
                },
                **AMQP_BINDING,
            }
        },
    }


def queue_channel(app: str, queue: RabbitQueue) -> dict[str, Any]:
    """A consumer's own queue, and what becomes of a message that it cannot handle."""
    event = event_of(queue)
    what = title_of(event) if event else "any message"
    return {
        "address": queue.name,
        "title": f"{what}, for {app}",
        "summary": f"Where {app} receives {what}.",
        "description": f"The queue `{queue.name}` is for {app} only: what somebody else takes from it is "
        f"lost to {app}.",
        "messages": reference(event) if event else {},
        "bindings": {
            "amqp": {
                "is": "queue",
                "queue": {
                    "name": queue.name,
                    "durable": queue.durable,
                    "exclusive": queue.exclusive,
                    "autoDelete": queue.auto_delete,
                },
                **AMQP_BINDING,
            }
        },
        "x-queue-type": queue.arguments["x-queue-type"],
        "x-arguments": queue.arguments,
        "x-bindings": [
            {"exchange": exchange.name, "routingKey": routing_key}
            for exchange, _, routing_key in bindings_of(queue)
        ],
        "x-retry": _RETRY if event else _NO_RETRY,
        "x-dead-letter": _DEAD_LETTER if event else _NO_DEAD_LETTER,
    }
