"""The JSON Schema of each event as it is published, one file per topic."""

import json
from pathlib import Path
from typing import Any

from contracts import Event

_URN = "urn:orderflow:"


def schema_of(event: type[Event]) -> dict[str, Any]:
    """What a publisher may send and a consumer gets: one schema, since an event is written as it is read."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"{_URN}{event.topic}",
        **event.model_json_schema(),
    }


def topic_of(schema: dict[str, Any]) -> str | None:
    """The topic that a published schema is about; none if it is no such schema."""
    identifier = str(schema.get("$id", ""))
    return identifier.removeprefix(_URN) if identifier.startswith(_URN) else None


def file_of(event: type[Event], directory: Path) -> Path:
    return directory / f"{event.topic}.json"


def text_of(event: type[Event]) -> str:
    """The file's content."""
    return json.dumps(schema_of(event), indent=2, ensure_ascii=False) + "\n"
