"""Changes of events and topology: whom each breaks, and that nothing breaks them unnoticed."""

import json
import os
import subprocess
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from apps.cli.asyncapi import app
from apps.cli.errors import UsageError
from apps.compatibility.difference import CONSUMERS, EVERYBODY, NOBODY, PUBLISHERS, Side
from apps.compatibility.interface import Interface, NotAnInterface, differences
from apps.compatibility.published import schema_of, text_of
from apps.compatibility.schemas import compare
from contracts import EVENTS, Event, OrderCreated

ROOT = Path(__file__).parents[2]
TOPIC = OrderCreated.topic
SUBJECT = f"OrderCreated ({TOPIC})"

Schema = dict[str, Any]
Edit = Callable[[Schema], object]


def order(schema: Schema) -> Schema:
    return schema["properties"]


def customer(schema: Schema) -> Schema:
    return schema["$defs"]["Customer"]["properties"]


def line(schema: Schema) -> Schema:
    return schema["$defs"]["OrderLine"]["properties"]


def text(schema: Schema, field: str) -> Schema:
    """The part of a nullable field that is not null."""
    return customer(schema)[field]["anyOf"][0]


def nullable(part: Schema) -> Schema:
    return {"anyOf": [part, {"type": "null"}], "default": None}


WORD: Schema = {"type": "string"}
NUMBER: Schema = {"type": "integer"}
CHANNEL: Schema = {"type": "string", "enum": ["web", "shop"]}
MORE: Schema = {"type": "string", "enum": ["web", "shop", "phone"]}

CHANGES: dict[str, tuple[Edit, str, frozenset[Side]]] = {
    "nothing but words": (lambda s: order(s)["total"].update(description="Sum."), "total", NOBODY),
    "deprecated": (lambda s: order(s)["reference"].update(deprecated=True), "reference", NOBODY),
    "optional field": (lambda s: order(s).update(channel=nullable(WORD)), "channel", NOBODY),
    "optional field, nested": (lambda s: customer(s).update(vat=nullable(WORD)), "customer.vat", NOBODY),
    "optional field, in a list": (lambda s: line(s).update(vat=nullable(WORD)), "lines[].vat", NOBODY),
    "optional object": (
        lambda s: order(s).update(ship_to=nullable({"$ref": "#/$defs/Customer"})),
        "ship_to",
        NOBODY,
    ),
    "the same, inlined": (lambda s: order(s).update(customer=s["$defs"]["Customer"]), "", NOBODY),
    "required field": (
        lambda s: (order(s).update(channel=WORD), s["required"].append("channel")),
        "channel",
        PUBLISHERS,
    ),
    "required field, in a list": (
        lambda s: (line(s).update(vat=WORD), s["$defs"]["OrderLine"]["required"].append("vat")),
        "lines[].vat",
        PUBLISHERS,
    ),
    "required now": (
        lambda s: s["$defs"]["Customer"]["required"].append("email"),
        "customer.email",
        PUBLISHERS,
    ),
    "no longer required": (lambda s: s["required"].remove("total"), "total", CONSUMERS),
    "optional field gone": (lambda s: line(s).pop("description"), "lines[].description", CONSUMERS),
    "required field gone": (
        lambda s: (order(s).pop("total"), s["required"].remove("total")),
        "total",
        CONSUMERS,
    ),
    "another default": (
        lambda s: line(s)["description"].update(default="-"),
        "lines[].description",
        EVERYBODY,
    ),
    "type": (lambda s: line(s).update(quantity=WORD), "lines[].quantity", EVERYBODY),
    "type, narrower": (lambda s: order(s).update(note={"type": "integer"}), "note", PUBLISHERS),
    "type, wider": (lambda s: line(s)["quantity"].update(type="number"), "lines[].quantity", CONSUMERS),
    "object for a word": (lambda s: order(s).update(customer=WORD), "customer", EVERYBODY),
    "items": (lambda s: order(s)["lines"].update(items=WORD), "lines[]", EVERYBODY),
    "format": (lambda s: order(s)["order_id"].update(format="date-time"), "order_id", EVERYBODY),
    "format unknown": (lambda s: order(s)["order_id"].update(format="ulid"), "order_id", EVERYBODY),
    "format gone": (lambda s: order(s)["order_id"].pop("format"), "order_id", CONSUMERS),
    "format new": (lambda s: order(s)["total"].update(format="date"), "total", PUBLISHERS),
    "pattern": (lambda s: order(s)["total"].update(pattern=r"^\d+$"), "total", EVERYBODY),
    "pattern gone": (lambda s: text(s, "email").pop("pattern"), "customer.email", CONSUMERS),
    "pattern new": (lambda s: text(s, "name").update(pattern="^A"), "customer.name", PUBLISHERS),
    "longer": (lambda s: text(s, "name").update(maxLength=300), "customer.name", CONSUMERS),
    "shorter": (lambda s: text(s, "name").update(maxLength=100), "customer.name", PUBLISHERS),
    "longer and shorter": (
        lambda s: line(s)["sku"].update(minLength=2, maxLength=100),
        "lines[].sku",
        EVERYBODY,
    ),
    "bound wider": (lambda s: line(s)["quantity"].update(minimum=0), "lines[].quantity", CONSUMERS),
    "bound narrower": (lambda s: line(s)["quantity"].update(maximum=9), "lines[].quantity", PUBLISHERS),
    "bound gone": (lambda s: line(s)["quantity"].pop("maximum"), "lines[].quantity", CONSUMERS),
    "more items": (lambda s: order(s)["lines"].update(maxItems=2000), "lines", CONSUMERS),
    "fewer items": (lambda s: order(s)["lines"].update(maxItems=500), "lines", PUBLISHERS),
    "null allowed": (lambda s: order(s).update(total=nullable(order(s)["total"])), "total", CONSUMERS),
    "null refused": (
        lambda s: customer(s).update(name={**text(s, "name"), "default": None}),
        "customer.name",
        PUBLISHERS,
    ),
    "enum value added": (lambda s: order(s).update(via=MORE), "via", CONSUMERS),
    "enum value gone": (lambda s: order(s).update(via={**CHANNEL, "enum": ["web"]}), "via", PUBLISHERS),
    "enum in another order": (
        lambda s: order(s).update(via={**CHANNEL, "enum": ["shop", "web"]}),
        "via",
        NOBODY,
    ),
    "enum became a word": (lambda s: order(s).update(via=WORD), "via", CONSUMERS),
    "word became an enum": (lambda s: order(s).update(word=CHANNEL), "word", PUBLISHERS),
    "union wider": (
        lambda s: order(s).update(note={"anyOf": [WORD, NUMBER, {"type": "boolean"}]}),
        "note",
        CONSUMERS,
    ),
    "unknown fields refused": (lambda s: s.update(additionalProperties=False), "*", PUBLISHERS),
    "unknown fields refused, nested": (
        lambda s: s["$defs"]["OrderLine"].update(additionalProperties=False),
        "lines[].*",
        PUBLISHERS,
    ),
    "values of a map": (
        lambda s: order(s)["labels"].update(additionalProperties=NUMBER),
        "labels",
        EVERYBODY,
    ),
}
"""What is changed, in which field that is told, and whom it breaks."""


@pytest.fixture
def old() -> Schema:
    """The published schema, and what none of our events has yet."""
    schema = schema_of(OrderCreated)
    order(schema).update(
        via=CHANNEL,
        word=WORD,
        note={"anyOf": [WORD, NUMBER]},
        labels={"type": "object", "additionalProperties": WORD},
    )
    return schema


def edited(schema: Schema, edit: Edit) -> Schema:
    changed = deepcopy(schema)
    edit(changed)
    assert changed != schema
    return changed


@pytest.mark.parametrize(("edit", "field", "breaks"), CHANGES.values(), ids=CHANGES)
def test_each_kind_of_change(old: Schema, edit: Edit, field: str, breaks: frozenset[Side]) -> None:
    """Every kind of change is told once, in one sentence that names event and field, with whom it breaks."""
    found = compare("OrderCreated", old, edited(old, edit))
    if not field:
        assert not found
        return
    [difference] = [each for each in found if each.breaks] or found
    assert (difference.field, difference.breaks) == (field, breaks)
    assert f"OrderCreated, {field}: " in str(difference)
    assert str(difference).endswith(".")
    assert str(difference).startswith("breaks" if breaks else "compatible")


def test_several_changes_are_told_apart(old: Schema) -> None:
    """One change does not hide another beside it, above it or below it."""

    def edit(schema: Schema) -> None:
        schema["required"].remove("customer")
        text(schema, "name").update(maxLength=100)
        customer(schema).pop("phone")
        order(schema)["lines"].update(maxItems=2000)
        line(schema)["quantity"].update(maximum=9)

    found = compare("OrderCreated", old, edited(old, edit))
    assert {(each.field, each.breaks) for each in found} == {
        ("customer", CONSUMERS),
        ("customer.name", PUBLISHERS),
        ("customer.phone", CONSUMERS),
        ("lines", CONSUMERS),
        ("lines[].quantity", PUBLISHERS),
    }


def test_what_the_walk_does_not_know_is_not_passed(old: Schema) -> None:
    """A rule over several fields, which no field can be blamed for, still breaks."""
    found = compare("OrderCreated", old, edited(old, lambda s: s.update(minProperties=20)))
    assert [each.breaks for each in found] == [PUBLISHERS]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_published_schemas_are_current(event: type[Event]) -> None:
    """What is committed is what the code says; `orderflow asyncapi schemas` renews it, unless that breaks."""
    assert (ROOT / "contracts" / "schemas" / f"{event.topic}.json").read_text() == text_of(event)


def test_every_published_schema_has_its_event() -> None:
    """A version is retired by deleting its schema, and not by forgetting it."""
    published = {file.stem for file in (ROOT / "contracts" / "schemas").glob("*.json")}
    assert published == {event.topic for event in EVENTS}


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_one_schema_for_both_sides(event: type[Event]) -> None:
    """What may be published and what is received have one schema, so one file holds both."""
    assert event.model_json_schema(mode="validation") == event.model_json_schema(mode="serialization")


Document = dict[str, Any]


@pytest.fixture(scope="module")
def stock() -> Document:
    loaded: Document = yaml.safe_load((ROOT / "asyncapi" / "stock.yaml").read_text())
    return loaded


def described(document: Document, directory: Path) -> Interface:
    file = directory / "document.json"
    file.write_text(json.dumps(document))
    return Interface.read(file)


def message(document: Document) -> Document:
    return document["components"]["messages"]["OrderCreated"]


def gone(items: list[Document], name: str) -> None:
    items[:] = [item for item in items if item.get("name", item.get("routingKey")) != name]


TOPOLOGY: dict[str, tuple[Callable[[Document], object], str, frozenset[Side]]] = {
    "topic": (
        lambda d: d["components"]["messages"].pop("OrderRejected"),
        "OrderRejected (order.rejected.v1)",
        EVERYBODY,
    ),
    "field": (
        lambda d: d["components"]["schemas"]["OrderLine"]["properties"].pop("sku"),
        f"{SUBJECT}, lines[].sku",
        CONSUMERS,
    ),
    "header": (
        lambda d: message(d)["headers"]["properties"].pop("cloudEvents:id"),
        f"{SUBJECT}, header cloudEvents:id",
        CONSUMERS,
    ),
    "property": (
        lambda d: gone(message(d)["x-properties"], "message_id"),
        f"{SUBJECT}, property message_id",
        CONSUMERS,
    ),
    "exchange": (lambda d: gone(d["x-topology"]["exchanges"], "dead"), "exchange dead", EVERYBODY),
    "queue": (
        lambda d: gone(d["x-topology"]["queues"], "stock.order-created"),
        "queue stock.order-created",
        EVERYBODY,
    ),
    "queue's arguments": (
        lambda d: d["x-topology"]["queues"][0]["arguments"].update({"x-max-length": 5}),
        "queue ",
        EVERYBODY,
    ),
    "binding": (
        lambda d: gone(d["x-topology"]["bindings"], "order.created.v1"),
        "binding of stock.order-created to events for order.created.v1",
        EVERYBODY,
    ),
    "sender": (
        lambda d: d["operations"].pop("stock.send.OrderValidated"),
        "stock sends Order validated",
        CONSUMERS,
    ),
    "receiver": (
        lambda d: d["operations"].pop("stock.receive.StockAdjusted"),
        "stock receives Stock adjusted",
        PUBLISHERS,
    ),
}


@pytest.mark.parametrize(("edit", "subject", "breaks"), TOPOLOGY.values(), ids=TOPOLOGY)
def test_what_goes_is_told(
    stock: Document,
    edit: Callable[[Document], object],
    subject: str,
    breaks: frozenset[Side],
    tmp_path: Path,
) -> None:
    """What others rely on cannot go unnoticed."""
    less = deepcopy(stock)
    edit(less)
    lost = [
        each
        for each in differences(described(stock, tmp_path), described(less, tmp_path))
        if f": {subject}" in str(each)
    ]
    assert lost
    assert {each.breaks for each in lost} == {breaks}


@pytest.mark.parametrize("kind", sorted(TOPOLOGY.keys() - {"queue's arguments", "field"}))
def test_what_comes_breaks_nobody(stock: Document, kind: str, tmp_path: Path) -> None:
    """Topics, headers, queues, bindings, senders and receivers may be added."""
    edit, subject, _ = TOPOLOGY[kind]
    less = deepcopy(stock)
    edit(less)
    found = differences(described(less, tmp_path), described(stock, tmp_path))
    assert [each for each in found if f": {subject}" in str(each)]
    assert not [each for each in found if each.breaks]


def orderflow(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A directory of the published schemas, to be changed."""
    directory = tmp_path / "schemas"
    assert orderflow("schemas", "--output", directory).exit_code == 0
    return directory


def rewrite(file: Path, edit: Edit) -> None:
    file.write_text(json.dumps(edited(json.loads(file.read_text()), edit)))


def test_diff_of_the_same_is_empty(published: Path) -> None:
    """No difference is exit code 0; schemas and documents can be compared with each other."""
    told = orderflow("diff", published, ROOT / "asyncapi")
    assert (told.exit_code, told.stdout) == (0, "0 differences, 0 of them breaking.\n")


def test_diff_fails_on_what_breaks(published: Path, tmp_path: Path) -> None:
    """A breaking change is exit code 1 and told before all that is compatible."""
    now = tmp_path / "now"
    now.mkdir()
    for file in published.iterdir():
        (now / file.name).write_text(file.read_text())
    rewrite(now / f"{TOPIC}.json", lambda s: (order(s).update(channel=nullable(WORD)), line(s).pop("sku")))
    told = orderflow("diff", published, now)
    assert told.exit_code == 1
    assert told.stdout.splitlines() == [
        f"breaks consumers: {SUBJECT}, lines[].sku: is gone, so consumers that read it miss it.",
        f"compatible: {SUBJECT}, channel: is new and optional.",
        "2 differences, 1 of them breaking.",
    ]


def test_diff_against_a_revision(published: Path) -> None:
    """The path as git has it is what the present is compared with."""
    identity = {
        f"GIT_{who}_{what}": "test@example.com"
        for who in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "Published"]):
        subprocess.run(  # noqa: S603
            ["git", *command],  # noqa: S607
            cwd=published.parent,
            check=True,
            env=os.environ | identity,
        )
    rewrite(published / f"{TOPIC}.json", lambda s: s["required"].remove("total"))
    told = orderflow("diff", published, "--against", "HEAD")
    assert told.exit_code == 1
    assert f"breaks consumers: {SUBJECT}, total: " in told.stdout


def test_schemas_are_not_overwritten_by_what_breaks(published: Path) -> None:
    """A version that was published stays as it is, and nothing else is written either."""
    file = published / f"{TOPIC}.json"
    rewrite(file, lambda s: text(s, "name").update(maxLength=300))
    other = published / "order.rejected.v1.json"
    other.unlink()
    before = file.read_text()
    told = orderflow("schemas", "--output", published)
    assert told.exit_code == 1
    assert f"breaks publishers: {SUBJECT}, customer.name: " in told.stdout
    assert file.read_text() == before
    assert not other.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("diff", "asyncapi"), "give two paths, or one path and --against REVISION"),
        (("diff", "asyncapi", "asyncapi", "--against", "HEAD"), "give two paths, or one path"),
        (("diff", "nowhere", "asyncapi"), "nowhere: there is no such file or directory"),
        (("diff", "docs", "asyncapi"), "docs: holds neither an AsyncAPI document nor an event's schema"),
        (("diff", "LICENSE", "asyncapi"), "LICENSE: "),
        (("diff", "asyncapi", "--against", "no-such-revision"), "no-such-revision"),
    ],
)
def test_wrong_arguments_are_one_line(
    arguments: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be compared is said in one line."""
    monkeypatch.chdir(ROOT)
    told = orderflow(*arguments)
    assert isinstance(told.exception, UsageError)
    [line] = str(told.exception).splitlines()
    assert said in line


def test_foreign_documents_are_refused(tmp_path: Path) -> None:
    """A document of another make is no reason for a traceback."""
    (tmp_path / "theirs.yaml").write_text("asyncapi: 3.0.0\ncomponents: {messages: {A: {payload: {}}}}")
    with pytest.raises(NotAnInterface, match=r"theirs\.yaml: .* lacks 'name'"):
        Interface.read(tmp_path)
