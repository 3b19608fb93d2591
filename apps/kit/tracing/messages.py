"""Spans of messages: one for each that is published and one for each that is handled, all in its trace."""

from collections.abc import Iterator
from contextlib import contextmanager

import aio_pika
from aio_pika import IncomingMessage
from faststream.rabbit import RabbitExchange
from opentelemetry import trace
from opentelemetry.trace import Link, SpanKind
from opentelemetry.util.types import AttributeValue

from apps.kit.topology import EVENTS, TOPICS
from apps.kit.tracing import IS_ON, carried, context_of, span, within
from contracts import Event


@contextmanager
def received(message: IncomingMessage, queue: str) -> Iterator[None]:
    """Be in the trace of a message, and span all that is done about it, setting it aside included.

    Args:
        message: what was delivered.
        queue: by which the span is named, and not by the routing key: that is the publisher's word, and may
            be any.
    """
    origin = context_of(message.headers)
    if not IS_ON:
        with within(origin):
            yield
        return
    attributes: dict[str, AttributeValue] = {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": queue,
        "messaging.message.body.size": len(message.body),
    }
    with within(origin), span(f"process {queue}", SpanKind.CONSUMER, attributes, origin):
        yield


def handles(event: Event) -> None:
    """Note which event the present span handles."""
    if (handling := trace.get_current_span()).is_recording():
        handling.set_attributes(
            {
                "messaging.message.id": str(event.event_id),
                "messaging.message.conversation_id": event.correlation_id,
            }
        )


@contextmanager
def published(message: aio_pika.Message, exchange: RabbitExchange, routing_key: str) -> Iterator[None]:
    """Span one attempt to publish, and have the message carry on its trace.

    A message that was in another trace before stays there, and links what sends it now.
    """
    if not IS_ON:
        for name, value in carried().items():
            message.headers.setdefault(name, value)
        yield
        return
    present, own = trace.get_current_span().get_span_context(), context_of(message.headers)
    of_message = trace.get_current_span(own).get_span_context()
    is_elsewhere = of_message.is_valid and of_message.trace_id != present.trace_id
    destination = exchange.name
    # A message that no queue wanted is replayed under the key that a stranger chose.
    if destination != EVENTS.name or routing_key in TOPICS:
        destination = f"{destination}:{routing_key}"
    attributes = {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        "messaging.destination.name": destination,
    }
    with span(
        f"publish {destination}",
        SpanKind.PRODUCER,
        attributes,
        own if is_elsewhere else None,
        [Link(present)] if is_elsewhere and present.is_valid else [],
    ):
        message.headers |= carried()
        yield
