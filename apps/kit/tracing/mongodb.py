"""Spans of MongoDB's commands: what was done to which collection, and never with which values."""

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

from apps.kit.tracing import failed, tracer


class CommandSpans(CommandListener):
    """Spans each command that belongs to a recorded span; a command of its own, like a ping, has none."""

    def __init__(self) -> None:
        self._open: dict[int, Span] = {}

    def started(self, event: CommandStartedEvent) -> None:
        if not trace.get_current_span().is_recording():
            return
        name = event.command_name
        attributes: dict[str, str | int] = {
            "db.system.name": "mongodb",
            "db.operation.name": name,
            "db.namespace": event.database_name,
            "server.address": event.connection_id[0],
        }
        if (port := event.connection_id[1]) is not None:
            attributes["server.port"] = port
        collection = event.command.get("collection" if name == "getMore" else name)
        if isinstance(collection, str):
            attributes["db.collection.name"] = collection
        else:  # a command for the whole database, such as a commit
            collection = event.database_name
        self._open[event.request_id] = tracer.start_span(
            f"{name} {collection}", kind=SpanKind.CLIENT, attributes=attributes
        )

    def succeeded(self, event: CommandSucceededEvent) -> None:
        if command := self._open.pop(event.request_id, None):
            command.end()

    def failed(self, event: CommandFailedEvent) -> None:
        if command := self._open.pop(event.request_id, None):
            # Its message quotes documents.
            failed(command, str(event.failure.get("codeName") or event.failure.get("errtype")))
            if (code := event.failure.get("code")) is not None:
                command.set_attribute("db.response.status_code", str(code))
            command.end()
