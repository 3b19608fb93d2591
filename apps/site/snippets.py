"""Programs that publish or subscribe to one event, complete enough to be copied, saved and run."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from apps.site.system import Event

_SENDER = "your-app"
"""Stands for the reader's own program."""


@dataclass(frozen=True)
class Tool:
    """A way to reach RabbitMQ."""

    key: str
    name: str
    suffix: str
    lexer: str
    install: str
    run: str


@dataclass(frozen=True)
class Snippet:
    """One program, and what its reader types before and after."""

    tool: Tool
    file: str
    code: str
    run: str


@dataclass(frozen=True)
class _Syntax:
    """How a language writes a value."""

    words: Mapping[Any, str]
    key: Callable[[str], str]
    indent: int
    last_comma: str = ","
    escapes: Mapping[int, str] = field(default_factory=dict)


_RABBITMQADMIN = 'curl -fO "$ORDERFLOW_RABBITMQ_MANAGEMENT_URL/cli/rabbitmqadmin"'
TOOLS = (
    Tool("aio-pika", "Python aio-pika", "py", "python", "pip install aio-pika", "python"),
    Tool("faststream", "FastStream", "py", "python", "pip install 'faststream[rabbit]'", "python"),
    Tool("amqplib", "Node amqplib", "mjs", "javascript", "npm install amqplib", "node"),
    Tool("rabbitmqadmin", "rabbitmqadmin", "sh", "bash", _RABBITMQADMIN, "sh"),
)

_WORDS = {True: "true", False: "false", None: "null"}
_SYNTAX = {
    "python": _Syntax({True: "True", False: "False", None: "None"}, json.dumps, 4),
    "javascript": _Syntax(_WORDS, str, 2),
    # JSON in a here-document, where the shell would look for its own signs.
    "bash": _Syntax(_WORDS, json.dumps, 2, "", str.maketrans({sign: f"\\{sign}" for sign in "\\$`"})),
}
# What each run makes anew; the rest of the example stands as it is.
_NEW_ID = {"python": "str(uuid.uuid4())", "javascript": "randomUUID()", "bash": '"$subject"'}
_NOW = {"python": "now.isoformat()", "javascript": "now.toISOString()", "bash": '"$now"'}

_templates = Environment(
    loader=PackageLoader("apps.site", "templates/programs"),
    undefined=StrictUndefined,
    autoescape=False,  # noqa: S701  # programs, no pages; a page escapes them
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def snippets(event: Event, action: str) -> list[Snippet]:
    """One program per tool that publishes the event, or subscribes to it."""
    made = []
    for tool in TOOLS:
        file = f"{action}.{tool.suffix}"
        template = _templates.get_template(f"{action}.{tool.key}.{tool.suffix}.jinja")
        code = template.render(event=event, sender=_SENDER, **_names(event), **_parts(event, tool.lexer))
        made.append(Snippet(tool, file, code, f"{tool.run} {file}"))
    return made


def _names(event: Event) -> dict[str, str]:
    """What the reader's own queue and handler are called."""
    words = event.topic.replace(".", "-").removesuffix("-v1")  # each version has a queue of its own
    return {"queue": f"{_SENDER}.{words}", "handler": f"on_{words.replace('-', '_')}"}


def _parts(event: Event, language: str) -> dict[str, Any]:
    """What stands for the parts of the event that each run makes anew, and the event with them."""
    subject, time = subject_field(event), time_field(event)
    values = {subject: _NEW_ID[language], time: _NOW[language]}
    return {
        "subject": subject,
        "time": time,
        "literal": _literal(event.example, _SYNTAX[language], values),
    }


def subject_field(event: Event) -> str:
    """The field that is the correlation id too."""
    subject = event.example_headers["cloudEvents:subject"]
    return next(name for name, value in event.example.items() if value == subject)


def time_field(event: Event) -> str:
    """The field that says when it happened."""
    time = _moment(event.example_headers["cloudEvents:time"])
    return next(name for name, value in event.example.items() if _moment(value) == time)


def _moment(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None


def _literal(value: Any, syntax: _Syntax, replaced: Mapping[str, str], depth: int = 0) -> str:
    """The value as the language writes it, one line per field; strings are JSON's in all of them."""
    margin, inner = " " * syntax.indent * depth, " " * syntax.indent * (depth + 1)
    if isinstance(value, Mapping):
        parts = [
            f"{inner}{syntax.key(name)}: {replaced.get(name) or _literal(item, syntax, {}, depth + 1)}"
            for name, item in value.items()
        ]
        return "{\n" + ",\n".join(parts) + f"{syntax.last_comma}\n{margin}}}"
    if isinstance(value, list):
        parts = [inner + _literal(item, syntax, {}, depth + 1) for item in value]
        return "[\n" + ",\n".join(parts) + f"{syntax.last_comma}\n{margin}]"
    if isinstance(value, bool) or value is None:
        return syntax.words[value]
    return json.dumps(value, ensure_ascii=False).translate(syntax.escapes)
