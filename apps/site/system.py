"""The system as its documents describe it: which app sends and receives what, through which queues."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from apps.site.documents import Document, follow


@dataclass(frozen=True)
class Queue:
    """A queue of one app, and what becomes of a message that the app cannot handle."""

    name: str
    app: str
    summary: str
    topics: tuple[str, ...]
    """Of what it receives; none if it takes any message."""
    type: str
    arguments: Mapping[str, Any]
    bindings: tuple[Mapping[str, str], ...]
    retry: Mapping[str, Any]
    dead_letter: Mapping[str, str]


@dataclass(frozen=True)
class Sending:
    """An app that sends one event."""

    app: str
    topic: str


@dataclass(frozen=True)
class Event:
    """One message with all that its readers need."""

    name: str
    topic: str
    title: str
    summary: str
    description: str
    owner: str
    from_outside: bool
    version: int
    history: tuple[Mapping[str, str], ...]
    content_type: str
    payload: Mapping[str, Any]
    schema_name: str
    headers: Mapping[str, Any]
    properties: tuple[Mapping[str, Any], ...]
    example: Mapping[str, Any]
    example_headers: Mapping[str, str]
    exchange: str


@dataclass(frozen=True)
class App:
    """One app, by what it sends and receives."""

    name: str
    description: str
    sends: tuple[Sending, ...]
    queues: tuple[Queue, ...]


@dataclass(frozen=True)
class System:
    """Everything that one document says; events stand in the order of the apps that send them."""

    document: Document
    apps: tuple[App, ...]
    events: tuple[Event, ...]

    def publishers_of(self, event: Event) -> list[Sending]:
        """The apps that send an event; other systems may do so too, where it comes from outside."""
        return [sending for app in self.apps for sending in app.sends if sending.topic == event.topic]

    def queues_of(self, event: Event) -> list[Queue]:
        """Every queue that receives it."""
        return [queue for app in self.apps for queue in app.queues if event.topic in queue.topics]

    def app(self, name: str) -> App:
        return next(app for app in self.apps if app.name == name)

    def event(self, topic: str) -> Event:
        return next(event for event in self.events if event.topic == topic)


def understand(document: Document) -> System:
    """Read what a document says about apps, events and queues."""
    sendings: list[Sending] = []
    queues: list[Queue] = []
    for operation in document["operations"].values():
        app = operation["tags"][0]["name"]
        channel = follow(document, operation["channel"])
        topics = tuple(follow(document, reference)["name"] for reference in operation.get("messages", ()))
        if operation["action"] == "send":
            sendings += [Sending(app, topic) for topic in topics]
        else:
            queues.append(_queue(app, operation, channel, topics))
    apps = tuple(
        App(
            tag["name"],
            tag["description"],
            tuple(sending for sending in sendings if sending.app == tag["name"]),
            tuple(queue for queue in queues if queue.app == tag["name"]),
        )
        for tag in document["info"]["tags"]
    )
    sent = [sending.topic for app in apps for sending in app.sends]
    events = [_event(document, name, message) for name, message in document["components"]["messages"].items()]
    # What the warehouse and other systems tell stands first: there the flow begins.
    known = {app.name for app in apps}
    events.sort(key=lambda event: sent.index(event.topic) if event.owner in known else -1)
    return System(document, apps, tuple(events))


def _queue(
    app: str, operation: Mapping[str, Any], channel: Mapping[str, Any], topics: tuple[str, ...]
) -> Queue:
    return Queue(
        channel["address"],
        app,
        operation["summary"],
        topics,
        channel["x-queue-type"],
        channel["x-arguments"],
        tuple(channel["x-bindings"]),
        channel["x-retry"],
        channel["x-dead-letter"],
    )


def _event(document: Document, name: str, message: Mapping[str, Any]) -> Event:
    example = message["examples"][0]
    return Event(
        name,
        message["name"],
        message["title"],
        message["summary"],
        message["description"],
        message["tags"][0]["name"],
        message["x-from-outside"],
        message["x-version"],
        tuple(message["x-history"]),
        message["contentType"],
        message["payload"],
        message["payload"]["$ref"].rpartition("/")[2],
        follow(document, message["headers"]),
        tuple(message["x-properties"]),
        example["payload"],
        example["headers"],
        document["channels"][message["name"]]["bindings"]["amqp"]["exchange"]["name"],
    )
