"""What the search finds: apps, events, queues and every field, each with the page that explains it."""

from collections.abc import Iterator
from typing import Any

from apps.site.schema import rows
from apps.site.system import System


def index(system: System) -> list[dict[str, Any]]:
    """One entry per thing, in the order in which equally good hits are shown."""
    return [*_events(system), *_apps(system), *_fields(system), *_queues(system)]


def _entry(kind: str, name: str, note: str, url: str, words: str = "") -> dict[str, str]:
    return {"kind": kind, "name": name, "note": note, "url": url, "words": words}


def _events(system: System) -> Iterator[dict[str, str]]:
    for event in system.events:
        yield _entry(
            "event", event.name, event.summary, f"events/{event.topic}.html", f"{event.topic} {event.title}"
        )


def _apps(system: System) -> Iterator[dict[str, str]]:
    for app in system.apps:
        yield _entry("app", app.name, app.description, f"apps/{app.name}.html")


def _fields(system: System) -> Iterator[dict[str, str]]:
    for event in system.events:
        for field in rows(system.document, event.payload):
            yield _entry(
                "field",
                field.path,
                f"{event.name} · {field.description}",
                f"events/{event.topic}.html#field-{field.path}",
            )


def _queues(system: System) -> Iterator[dict[str, str]]:
    for app in system.apps:
        for queue in app.queues:
            yield _entry("queue", queue.name, queue.summary, f"apps/{app.name}.html#{queue.name}")
