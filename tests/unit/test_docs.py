"""The documents say what the code does: payloads, snippets, commands, settings, tables and links."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import SecretStr
from typer.testing import CliRunner

from apps.cli.main import app as cli
from apps.kit import envelope, recovery
from apps.kit.settings import Settings
from apps.kit.topology import EVENTS as EVENTS_EXCHANGE
from apps.orders.domain import Status
from apps.orders.views import NewOrder
from apps.recovery import messages
from contracts import EVENTS, Event, OrderCreated

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
ARCHITECTURE = ROOT / "docs" / "ARCHITECTURE.md"
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *(file for folder in ("docs", "k8s", "terraform") for file in sorted(ROOT.glob(f"{folder}/**/*.md"))),
]
CLI_VARIABLES = {
    "ORDERFLOW_API_KEY",
    "ORDERFLOW_API_URL",
    "ORDERFLOW_HOME",
    "ORDERFLOW_MONGOD",
    "ORDERFLOW_RABBITMQ_MANAGEMENT_URL",
    "ORDERFLOW_RABBITMQ_SERVER",
}
"""Read by the command line alone, and no field of `Settings`."""

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def blocks(document: Path, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", document.read_text(), re.MULTILINE | re.DOTALL)


def prose(document: Path) -> str:
    """The document without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)


def section(document: Path, heading: str) -> str:
    """What stands under a heading, up to the next one."""
    found = re.search(
        rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", document.read_text(), re.MULTILINE | re.DOTALL
    )
    assert found, f"{document.name} has no heading {heading!r}"
    return found[1]


def first_cells(text: str) -> set[str]:
    """What the rows of the tables in a text are about: the code in their first cells."""
    return set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE))


def anchors(document: Path) -> set[str]:
    """The fragments by which headings are linked to, as GitHub derives them."""
    headings = re.findall(r"^#+ (.+)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_payload_is_the_contracts_example(event: type[Event]) -> None:
    """A payload that the documents show is the example of its contract, under its present topic."""
    text = section(ARCHITECTURE, event.__name__)
    (payload,) = re.findall(r"^```json\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)

    assert json.loads(payload) == event.example
    assert f"`{event.topic}`" in text


def test_every_payload_belongs_to_an_event() -> None:
    """A payload of an event that no longer exists does not stay behind."""
    assert len(blocks(ARCHITECTURE, "json")) == len(EVENTS)


def test_python_snippet_publishes_a_valid_order() -> None:
    """What the README publishes by aio-pika is a valid OrderCreated, to the right exchange and topic."""
    (snippet,) = blocks(README, "python")
    module = ast.parse(snippet)
    setup: list[ast.stmt] = [node for node in module.body if isinstance(node, (ast.Import, ast.Assign))]
    names: dict[str, Any] = {}
    exec(compile(ast.Module(setup, type_ignores=[]), "README.md", "exec"), names)  # noqa: S102  # our own README
    texts = {node.value for node in ast.walk(module) if isinstance(node, ast.Constant)}

    OrderCreated.model_validate_json(json.dumps(names["order"]))
    assert {EVENTS_EXCHANGE.name, OrderCreated.topic} <= texts


def test_curl_body_is_a_valid_order() -> None:
    """What the README posts by curl is an order that the ingress accepts."""
    (command,) = [block for block in blocks(README, "sh") if block.startswith("curl")]
    (body,) = re.findall(r"-d '(.*?)'", command, re.DOTALL)

    NewOrder.model_validate_json(body).completed()


@each_document
def test_links_lead_somewhere(document: Path) -> None:
    """A relative link points to a file that exists, and its fragment to a heading there."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        if "://" in target:
            continue
        path, _, fragment = target.partition("#")
        linked = (document.parent / path).resolve() if path else document
        assert linked.exists(), f"{target}: there is no such file"
        if fragment:
            assert fragment in anchors(linked), f"{target}: there is no such heading"


def commands() -> set[str]:
    """Every command of `orderflow`, with its group."""
    top: dict[str, Any] = getattr(typer.main.get_command(cli), "commands", {})
    return {
        f"{name} {inner}" if inner else name
        for name, command in top.items()
        for inner in getattr(command, "commands", {"": None})
    }


def groups() -> set[str]:
    """Commands that only hold others, and may be named alone."""
    return {command.split()[0] for command in commands() if " " in command}


def commands_named(document: Path) -> set[str]:
    """The commands in a document's code, with their group; what follows them is no part of them.

    `kubectl -n orderflow` names a namespace, and `part-of=orderflow` a label.
    """
    code = [*blocks(document, "sh"), *re.findall(r"`([^`\n]+)`", prose(document))]
    named = [
        words
        for text in code
        for words in re.findall(r"(?<!-n )(?<!=)\borderflow ([a-z-]+)(?: ([a-z][a-z-]*))?", text)
    ]
    return {f"{first} {second}" if second and first in groups() else first for first, second in named}


@each_document
def test_commands_exist(document: Path) -> None:
    """A command that a document names can be typed."""
    assert commands_named(document) <= commands() | groups()


@pytest.mark.parametrize("command", sorted({"", *commands()} - {"topology user"}))  # which holds others
def test_every_command_has_help_with_an_example(command: str) -> None:
    """`--help` of each command shows a line to copy."""
    result = CliRunner().invoke(cli, [*command.split(), "--help"])

    assert result.exit_code == 0
    assert "Example: orderflow" in result.output or "Example: ORDERFLOW_" in result.output


def test_readme_names_every_command() -> None:
    """Nobody has to guess a command that the README leaves out."""
    assert commands() <= commands_named(README)


@each_document
def test_recipes_exist(document: Path) -> None:
    """A `just` recipe that a document names is in the justfile."""
    recipes = set(
        re.findall(
            r"^([a-z0-9-]+)(?: \*?[a-z]+)*:(?: [a-z]+)*$", (ROOT / "justfile").read_text(), re.MULTILINE
        )
    )

    assert set(re.findall(r"\buv run just ([a-z0-9-]+)", document.read_text())) <= recipes


def environment_text(value: Any) -> str:
    """A default as it would be written into the environment, in the table's code marks."""
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return f"`{json.dumps(value) if isinstance(value, (bool, tuple, dict)) else value}`"


def test_settings_table_is_complete() -> None:
    """Every setting is documented under its variable, with its present default."""
    rows = re.findall(
        r"^\| `(ORDERFLOW_\w+)` \| (.*?) ?\| .+ \|$", section(ARCHITECTURE, "Settings"), re.MULTILINE
    )

    assert dict(rows) == {
        f"ORDERFLOW_{name.upper()}": environment_text(field.default)
        for name, field in Settings.model_fields.items()
    }


@each_document
def test_variables_exist(document: Path) -> None:
    """An `ORDERFLOW_` variable that a document names is read by something."""
    known = CLI_VARIABLES | {"ORDERFLOW_TERRAFORM_PLUGINS"}  # the tests of terraform read the last
    known |= {f"ORDERFLOW_{name.upper()}" for name in Settings.model_fields}

    assert set(re.findall(r"\bORDERFLOW_[A-Z_]*[A-Z]", document.read_text())) <= known


def test_status_table_is_complete() -> None:
    """Every status is explained, in the order of its rank, and said to be final only if it is."""
    rows = re.findall(r"^\| `(\w+)` \| .+ \| (yes|no) \|$", section(ARCHITECTURE, "Statuses"), re.MULTILINE)

    assert rows == [(status.value, "yes" if status.is_final else "no") for status in Status]


def test_dead_letter_headers_are_documented() -> None:
    """Who reads a dead letter finds each of its headers explained."""
    headers = {
        value
        for module in (recovery, envelope, messages)
        for value in vars(module).values()
        if isinstance(value, str) and value.startswith("orderflow-")
    }
    documented = first_cells(section(ARCHITECTURE, "Failures"))

    assert documented == headers


def test_retry_pauses_are_documented() -> None:
    """The pauses that the text names are those of the retry queues by default."""
    defaults = Settings.model_fields["retry_delays_seconds"].default
    words = {2: "2 s", 15: "15 s", 60: "1 min", 600: "10 min"}

    assert ", ".join(words[delay] for delay in defaults[:-1]) + f" and {words[defaults[-1]]}" in prose(
        ARCHITECTURE
    )
