"""What other systems rely on, read from AsyncAPI documents or published schemas, and how two of it differ."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import jsonschema_rs
import yaml

from apps.compatibility.difference import CONSUMERS, EVERYBODY, PUBLISHERS, Difference, Side
from apps.compatibility.published import topic_of
from apps.compatibility.schemas import compare

_SUFFIXES = {".yaml", ".yml", ".json"}


class NotAnInterface(Exception):  # noqa: N818
    """A path holds nothing that can be compared; the message says which and why."""


@dataclass
class Interface:
    """Events and topology, by name."""

    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Schema of the body, by topic."""
    headers: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Schema of the headers, by topic."""
    properties: dict[str, set[str]] = field(default_factory=dict)
    """AMQP properties that are set, by topic."""
    topology: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Exchanges, queues and bindings, each with all that declares it."""
    operations: dict[str, str] = field(default_factory=dict)
    """`send` or `receive`, by title."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read one file, or every one in a directory.

        Raises:
            NotAnInterface: there is no such file, or there is neither document nor schema in it.
        """
        found = cls()
        for file in _files(path):
            found._add(file, _parsed(file))
        if not found.events:
            raise NotAnInterface(f"{path}: holds neither an AsyncAPI document nor an event's schema of ours")
        return found

    def _add(self, file: Path, content: dict[str, Any]) -> None:
        """Take in a document or a schema; other files of a directory, such as npm's, are no part of it."""
        if topic := topic_of(content):
            self.events[topic] = content
        elif "asyncapi" in content:
            try:
                self._add_document(content)
            except (KeyError, TypeError) as error:
                raise NotAnInterface(f"{file}: a message, an operation or x-topology lacks {error}") from None

    def _add_document(self, document: dict[str, Any]) -> None:
        schemas = document.get("components", {}).get("schemas", {})
        for message in document.get("components", {}).get("messages", {}).values():
            topic = message["name"]
            whole = {"components": {"schemas": schemas}, **message["payload"]}
            self.events[topic] = jsonschema_rs.dereference(whole)
            self.events[topic].pop("components", None)
            self.headers[topic] = message.get("headers", {})
            self.properties[topic] = {each["name"] for each in message.get("x-properties", ())}
        topology = document.get("x-topology", {})
        for kind in ("exchange", "queue"):
            for each in topology.get(f"{kind}s", ()):
                self.topology[f"{kind} {each['name']}"] = each
        for each in topology.get("bindings", ()):
            key = f" for {each['routingKey']}" if each["routingKey"] else ""
            self.topology[f"binding of {each['queue']} to {each['exchange']}{key}"] = each
        for operation in document.get("operations", {}).values():
            self.operations[operation["title"]] = operation["action"]


def differences(old: Interface, new: Interface) -> list[Difference]:
    """Every difference, event by event, then the topology and who sends and receives.

    What only one of the two tells at all is left out: schemas know nothing of queues.
    """
    found = [*_events(old, new)]
    if old.topology and new.topology:
        found += [*_topology(old, new), *_operations(old, new)]
    return found


def _events(old: Interface, new: Interface) -> Iterator[Difference]:
    for topic, schema in sorted({**old.events, **new.events}.items()):
        subject = f"{schema.get('title', 'event')} ({topic})"
        if topic not in new.events:
            yield Difference(subject, "the topic is gone, so nobody can publish or receive it", EVERYBODY)
        elif topic not in old.events:
            yield Difference(subject, "the topic is new")
        else:
            yield from compare(subject, old.events[topic], new.events[topic])
            if topic in old.headers and topic in new.headers:
                yield from _surroundings(subject, topic, old, new)


def _surroundings(subject: str, topic: str, old: Interface, new: Interface) -> Iterator[Difference]:
    for difference in compare(subject, old.headers[topic], new.headers[topic]):
        yield replace(difference, field=f"header {difference.field}" if difference.field else "headers")
    before, after = old.properties[topic], new.properties[topic]
    for name in sorted(before - after):
        yield Difference(subject, "is no longer set", CONSUMERS, f"property {name}")
    for name in sorted(after - before):
        yield Difference(subject, "is set now", field=f"property {name}")


def _topology(old: Interface, new: Interface) -> Iterator[Difference]:
    for name in sorted({*old.topology, *new.topology}):
        before, after = old.topology.get(name), new.topology.get(name)
        if after is None:
            yield Difference(name, "is gone", EVERYBODY)
        elif before is None:
            yield Difference(name, "is new")
        elif changed := [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]:
            what = " and ".join(f"{key} was {before.get(key)!r} and is {after.get(key)!r}" for key in changed)
            yield Difference(name, f"{what}, which RabbitMQ refuses while it exists", EVERYBODY)


def _operations(old: Interface, new: Interface) -> Iterator[Difference]:
    broken: dict[str, frozenset[Side]] = {"send": CONSUMERS, "receive": PUBLISHERS}
    for title in sorted(old.operations.keys() - new.operations.keys()):
        yield Difference(title, "is over", broken[old.operations[title]])
    for title in sorted(new.operations.keys() - old.operations.keys()):
        yield Difference(title, "is new")


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise NotAnInterface(f"{path}: there is no such file or directory")
    return sorted(each for each in path.iterdir() if each.suffix in _SUFFIXES) if path.is_dir() else [path]


def _parsed(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text()
        # The documents are long, and the loader in C reads them ten times as fast.
        content = json.loads(text) if file.suffix == ".json" else yaml.load(text, yaml.CSafeLoader)
    except (ValueError, yaml.YAMLError) as error:
        raise NotAnInterface(f"{file}: is no JSON or YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(content, dict):
        raise NotAnInterface(f"{file}: is no JSON or YAML object")
    return content
