"""`orderflow asyncapi check`: documents that are out of date, and rules that refuse what breaks a promise."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ASYNCAPI = Path(__file__).parents[2] / "asyncapi"
ORDERFLOW = Path(sys.executable).with_name("orderflow")
SPECTRAL = ASYNCAPI / "node_modules/.bin/spectral"

needs_spectral = pytest.mark.skipif(not SPECTRAL.exists(), reason="needs npm install --prefix asyncapi")

Document = dict[str, Any]
Mistake = Callable[[Document], None]


def check(directory: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603
        [ORDERFLOW, "asyncapi", "check"],
        cwd=directory,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A directory with the committed documents and nothing else."""
    (tmp_path / "asyncapi").mkdir()
    for document in ASYNCAPI.glob("*.yaml"):
        shutil.copy(document, tmp_path / "asyncapi")
    return tmp_path


def test_documents_that_differ_are_named(checkout: Path) -> None:
    """A document that is changed, missing or left over is told by its name, with how to renew it."""
    documents = checkout / "asyncapi"
    with (documents / "stock.yaml").open("a") as stock:
        stock.write("x-more: true\n")
    (documents / "billing.yaml").unlink()
    (documents / "former.yaml").touch()
    answer = check(checkout)
    assert answer.returncode == 1
    assert answer.stdout.splitlines() == [
        "asyncapi/stock.yaml is not what the code says",
        "asyncapi/billing.yaml is missing",
        "asyncapi/former.yaml belongs to no app: delete it",
        "Renew them: orderflow asyncapi build",
    ]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"PATH": ""}, "Node is not installed"), ({}, "npm install --prefix asyncapi")],
    ids=["no Node", "no packages"],
)
def test_missing_checkers_are_told_in_one_line(checkout: Path, settings: dict[str, str], reason: str) -> None:
    """Without what validates, nothing is called valid: one line says what to install."""
    if not settings and shutil.which("node") is None:
        pytest.skip("needs Node")
    answer = check(checkout, **settings)
    assert answer.returncode == 2
    (line,) = answer.stderr.splitlines()
    assert reason in line


def message(document: Document) -> Document:
    found: Document = document["components"]["messages"]["InvoiceIssued"]
    return found


def queue(document: Document) -> Document:
    found: Document = document["channels"]["documents.invoice-issued"]
    return found


def operation(document: Document) -> Document:
    found: Document = document["operations"]["documents.receive.InvoiceIssued"]
    return found


def without(part: Callable[[Document], Document], name: str) -> Mistake:
    return lambda document: part(document).pop(name)


def with_server(**properties: Any) -> Mistake:
    return lambda document: document["servers"]["development"].update(properties)


def turn_into_send(document: Document) -> None:
    operation(document)["action"] = "send"


def leave_out_description(document: Document) -> None:
    del document["components"]["schemas"]["InvoiceIssued"]["properties"]["number"]["description"]


MISTAKES: dict[str, tuple[Mistake, str]] = {
    "no-example": (without(message, "examples"), "message-has-example"),
    "empty-example": (lambda document: message(document)["examples"].clear(), "message-has-example"),
    "no-headers": (without(message, "headers"), "message-is-described"),
    "no-correlation-id": (without(message, "correlationId"), "message-is-described"),
    "no-owner": (without(message, "tags"), "message-is-described"),
    "no-properties": (without(message, "x-properties"), "message-is-described"),
    "no-history": (lambda document: message(document)["x-history"].clear(), "message-is-described"),
    "no-field-text": (leave_out_description, "field-is-described"),
    "no-summary": (without(operation, "summary"), "operation-is-described"),
    "not-persistent": (
        lambda document: operation(document)["bindings"]["amqp"].update(deliveryMode=1),
        "operation-is-described",
    ),
    "not-mandatory": (turn_into_send, "sent-message-is-not-lost"),
    "no-ack": (
        lambda document: operation(document)["bindings"]["amqp"].update(ack=False),
        "received-message-is-acknowledged",
    ),
    "no-bindings": (without(queue, "bindings"), "channel-is-exchange-or-queue"),
    "no-arguments": (without(queue, "x-arguments"), "queue-keeps-its-messages"),
    "no-retry": (without(queue, "x-retry"), "queue-keeps-its-messages"),
    "no-dead-letter": (without(queue, "x-dead-letter"), "queue-keeps-its-messages"),
    "no-topology": (lambda document: document.pop("x-topology"), "topology-is-whole"),
    "password-in-host": (with_server(host="keeper:hunter2@mq.internal:5672"), "server-is-public"),
    "password-beside-host": (with_server(**{"x-password": "hunter2"}), "server-is-public"),
    "password-as-variable": (
        with_server(variables={"password": {"default": "hunter2"}}),
        "server-is-public",
    ),
    "password-in-text": (with_server(description="User keeper, password: hunter2"), "no-credentials"),
    "password-in-url": (
        lambda document: document["info"].update(description="amqp://keeper:hunter2@mq.internal/"),
        "no-credentials",
    ),
}


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The rules that each mistake breaks, and those that the document breaks as it is, from one run."""
    directory = tmp_path_factory.mktemp("mistakes")
    correct = (ASYNCAPI / "documents.yaml").read_text(encoding="utf-8")
    (directory / "none.json").write_text(json.dumps(yaml.safe_load(correct)))
    for name, (mistake, _) in MISTAKES.items():
        document = yaml.safe_load(correct)
        mistake(document)
        (directory / f"{name}.json").write_text(json.dumps(document))
    command = [SPECTRAL, "lint", "--ruleset", ASYNCAPI / ".spectral.yml", "--format", "json", "--quiet"]
    answer = subprocess.run(  # noqa: S603
        [*command, *sorted(directory.glob("*.json"))],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    broken: dict[str, set[str]] = {path.stem: set() for path in directory.glob("*.json")}
    for finding in json.loads(answer.stdout):
        broken[Path(finding["source"]).stem].add(finding["code"])
    return broken


@needs_spectral
@pytest.mark.parametrize("name", MISTAKES)
def test_rule_refuses(name: str, refusals: dict[str, set[str]]) -> None:
    """A promise that a document breaks is refused by the rule that states it."""
    assert MISTAKES[name][1] in refusals[name]


@needs_spectral
def test_rules_take_the_document_as_it_is(refusals: dict[str, set[str]]) -> None:
    """What the mistakes were planted in breaks no rule, so each is refused for the mistake."""
    assert refusals["none"] == set()
