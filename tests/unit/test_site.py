"""The documentation site: complete, linked, self-contained, and served as it was drawn."""

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from apps.cli.asyncapi import app as cli
from apps.cli.errors import UsageError
from apps.ingress.api import api
from apps.site import documents
from apps.site.failures import failures
from apps.site.map import OUTSIDE, Node, lay_out
from apps.site.pages import build
from apps.site.schema import Row, rows
from apps.site.snippets import TOOLS, Tool, snippets
from apps.site.system import System, understand
from contracts import EVENTS

ACTIONS = ("publish", "subscribe")
APPS = ("ingress", "orders", "stock", "billing", "notifications", "recovery", "webhooks", "documents")


@pytest.fixture(scope="module")
def site() -> dict[str, bytes]:
    return build()


@pytest.fixture(scope="module")
def system() -> System:
    return understand(documents.parse(documents.read()["system"]))


class Page(HTMLParser):
    """What a page refers to, what it can be referred to by, and what it would need a lax policy for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[tuple[str, str]] = []
        self.ids: list[str] = []
        self.inline: list[str] = []
        self.open: list[str] = []
        self._is_script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.inline += [name for name in given if name == "style" or name.startswith("on")]
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.references += [(tag, value) for name, value in attrs if name in {"href", "src"} and value]
        self._is_script = tag == "script"
        if tag not in {"meta", "link", "input", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_data(self, data: str) -> None:
        if self._is_script and data.strip():
            self.inline.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._is_script = False
        assert self.open.pop() == tag, f"</{tag}> closes something else"


def pages_of(site: Mapping[str, bytes]) -> dict[str, Page]:
    return {path: Page(content.decode()) for path, content in site.items() if path.endswith(".html")}


def test_every_app_and_event_has_its_page(site: dict[str, bytes]) -> None:
    """Nothing that the system sends or receives is left out."""
    expected = {"index.html"}
    expected |= {f"apps/{app}.html" for app in APPS}
    expected |= {f"events/{event.topic}.html" for event in EVENTS}

    assert set(pages_of(site)) == expected


def test_links_lead_somewhere(site: dict[str, bytes]) -> None:
    """Every relative link names a file of the site, and its fragment an element there."""
    pages = pages_of(site)
    for path, page in pages.items():
        assert len(page.ids) == len(set(page.ids)), f"{path}: an id stands twice"
        for _, reference in page.references:
            if "://" in reference:
                continue
            target, _, fragment = reference.partition("#")
            linked = normpath(str(PurePosixPath(path).parent / target)) if target else path
            assert linked in site, f"{path} links to {reference}"
            if fragment:
                assert fragment in pages[linked].ids, f"{path} links to {reference}"


def test_search_leads_somewhere(site: dict[str, bytes]) -> None:
    """Every hit of the search is on a page, fields at their own row."""
    pages = pages_of(site)
    urls = re.findall(r'"url": "([^"]+)"', site["search-index.js"].decode())

    assert len(urls) > 100
    for url in urls:
        path, _, fragment = url.partition("#")
        assert not fragment or fragment in pages[path].ids, url


def test_pages_need_nothing_from_outside(site: dict[str, bytes]) -> None:
    """Only a link that is clicked leaves the site; nothing is inline that a strict policy would stop."""
    for path, page in pages_of(site).items():
        assert not page.inline, f"{path}: {page.inline}"
        assert {tag for tag, reference in page.references if "://" in reference} <= {"a"}, path
        assert not page.open, f"{path}: {page.open} are not closed"
    assert b"://" not in site["site.css"]
    assert b"://" not in site["site.js"]


def test_same_documents_give_the_same_site(site: dict[str, bytes]) -> None:
    """A rebuild changes nothing, so that a published site only changes with its documents."""
    assert build() == site


def test_map_shows_every_operation(system: System) -> None:
    """What is sent or received in the document is a path on the map, and nothing else is."""
    drawn = lay_out(system)
    sent = {(sending.app, sending.topic) for app in system.apps for sending in app.sends}
    received = {(queue.app, topic) for app in system.apps for queue in app.queues for topic in queue.topics}
    outside = {(OUTSIDE, event.topic) for event in system.events if event.from_outside}

    assert {(edge.app, edge.topic) for edge in drawn.edges} == sent | received | outside
    assert {topic for _, topic in outside} == {"order.created.v1", "order.cancelled.v1", "stock.adjusted.v1"}


def test_boxes_of_the_map_lie_side_by_side(system: System) -> None:
    """No box hides another or leaves the drawing."""
    drawn = lay_out(system)
    for column in (drawn.publishers, drawn.events, drawn.consumers):
        above = Node("", 0, 0, 0, 0)
        for node in column:
            assert node.y > above.y + above.height
            above = node
        assert above.y + above.height <= drawn.height


def test_way_of_failures_is_the_topology(system: System) -> None:
    """The pauses and names on the map are those that RabbitMQ has."""
    way = failures(system)

    assert [pause.seconds for pause in way.pauses] == [2, 15, 60, 600]
    assert (way.events, way.replay, way.dead, way.unrouted) == ("events", "replay", "dead", "unrouted")
    assert way.archive == "recovery"


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_programs_have_every_property_and_header(system: System, event: Any) -> None:
    """Whoever copies a program that publishes sets all that our own apps set; the Python ones are Python."""
    documented = system.event(event.topic)
    names = {prop["name"] for prop in documented.properties}
    for snippet in snippets(documented, "publish"):
        for header in documented.example_headers:
            assert f'"{header}"' in snippet.code, snippet.tool.name
        written = re.sub(r"([a-z])([A-Z])", r"\1_\2", snippet.code).lower()
        in_its_words = {"delivery_mode": r"delivery_mode|persist", "type": r"\b(message_)?type\b"}
        for name in names:
            assert re.search(in_its_words.get(name, name), written), f"{snippet.tool.name} lacks {name}"
    for action in ACTIONS:
        for snippet in snippets(documented, action):
            if snippet.tool.lexer == "python":
                compile(snippet.code, snippet.file, "exec")
            assert "{{" not in snippet.code


SCHEMA = {
    "components": {
        "schemas": {
            "Basket": {
                "type": "object",
                "required": ["lines"],
                "properties": {
                    "lines": {
                        "type": "array",
                        "items": {"$ref": "#/components/schemas/Line"},
                        "minItems": 1,
                        "maxItems": 1000,
                        "description": "What is in it.",
                    },
                    "note": {
                        "anyOf": [{"type": "string", "maxLength": 9}, {"type": "null"}],
                        "default": None,
                        "examples": ["a gift"],
                    },
                    "kind": {"$ref": "#/components/schemas/Kind", "description": "Which."},
                },
            },
            "Line": {
                "type": "object",
                "title": "Line",
                "required": ["sku"],
                "properties": {"sku": {"type": "string", "pattern": "^[A-Z]+$"}},
            },
            "Kind": {"type": "string", "enum": ["one", "other"], "description": "Not this."},
        }
    }
}


def test_schema_becomes_rows() -> None:
    """Nested fields follow their parent, with types, limits, defaults and what is required."""
    shown = list(rows(SCHEMA, {"$ref": "#/components/schemas/Basket"}))

    def told(row: Row) -> tuple[Any, ...]:
        return row.path, row.depth, row.type, row.required, [(fact.text, *fact.code) for fact in row.facts]

    assert [told(row) for row in shown] == [
        ("lines", 0, "array of object (Line)", True, [("1 to 1,000 items",)]),
        ("lines[].sku", 1, "string", True, [("matches", "^[A-Z]+$")]),
        ("note", 0, "string or null", False, [("at most 9 characters",)]),
        ("kind", 0, "string", False, [("one of", "one", "other")]),
    ]
    assert shown[2].examples == ("a gift",)
    assert shown[3].description == "Which."


def test_command_writes_the_site(site: dict[str, bytes], tmp_path: Path) -> None:
    """`orderflow asyncapi site` writes exactly what the ingress serves."""
    outcome = CliRunner().invoke(cli, ["site", "--output", str(tmp_path)])

    assert outcome.exit_code == 0, outcome.output
    written = {
        str(path.relative_to(tmp_path).as_posix()): path.read_bytes()
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    assert written == site


def test_missing_documents_are_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without documents the command says which one is missing and what writes it."""
    with pytest.raises(documents.DocumentsMissingError, match=r"system.yaml: no such document; `orderflow"):
        build(documents.read(tmp_path))
    monkeypatch.setattr("apps.site.pages.read", lambda: documents.read(tmp_path))
    outcome = CliRunner().invoke(cli, ["site", "--output", str(tmp_path / "site")])
    assert isinstance(outcome.exception, UsageError)


@pytest.fixture
async def ingress() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://ingress") as client:
        yield client


async def test_ingress_serves_the_site(ingress: httpx.AsyncClient, site: dict[str, bytes]) -> None:
    """Without a key, with its media types, and under a policy that obeys nothing inline."""
    for path, media_type in {
        "": "text/html; charset=utf-8",
        "events/order.created.v1.html": "text/html; charset=utf-8",
        "site.css": "text/css; charset=utf-8",
        "site.js": "text/javascript; charset=utf-8",
        "icon.svg": "image/svg+xml",
        "documents/system.yaml": "application/yaml",
        "schemas/order.created.v1.json": "application/json",
    }.items():
        answer = await ingress.get(f"/asyncapi/{path}")
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, media_type), path
        assert answer.content == site[path or "index.html"]
        policy = answer.headers["Content-Security-Policy"]
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy


async def test_unchanged_page_is_not_sent_again(ingress: httpx.AsyncClient) -> None:
    """A browser that has a page asks whether it is still the same, and gets no body."""
    first = await ingress.get("/asyncapi/")
    again = await ingress.get("/asyncapi/", headers={"If-None-Match": first.headers["ETag"]})
    other = await ingress.get("/asyncapi/site.css", headers={"If-None-Match": first.headers["ETag"]})

    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]
    assert first.headers["Cache-Control"] == "no-cache"
    assert other.status_code == 200


async def test_address_without_a_slash_leads_to_the_site(ingress: httpx.AsyncClient) -> None:
    """`/asyncapi` is redirected, or the relative links of the first page would lead astray."""
    answer = await ingress.get("/asyncapi", follow_redirects=True)

    assert answer.url.path == "/asyncapi/"
    assert (await ingress.head("/asyncapi/")).status_code == 200


async def test_unknown_page_is_a_problem(ingress: httpx.AsyncClient) -> None:
    """What the site does not have is told as the API tells it."""
    answer = await ingress.get("/asyncapi/events/order.lost.v1.html")

    assert answer.status_code == 404
    assert answer.json()["detail"] == "/asyncapi/events/order.lost.v1.html: the site has no such page"


async def test_pages_are_only_read(ingress: httpx.AsyncClient) -> None:
    """A 405 must name the methods that there are, also of what the API's own document leaves out."""
    answer = await ingress.post("/asyncapi/index.html")
    assert answer.status_code == 405
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD"}


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.key)
def test_each_version_is_received_in_a_queue_of_its_own(system: System, tool: Tool) -> None:
    """A reader who follows the pages of two versions would else bind one queue to both of them."""
    first = system.event("order.created.v1")
    second = replace(first, topic="order.created.v2")
    programs = [
        next(one.code for one in snippets(event, "subscribe") if one.tool == tool)
        for event in (first, second)
    ]
    queues = [set(re.findall(r"your-app\.[a-z0-9-]+", program)) for program in programs]
    assert queues == [{"your-app.order-created"}, {"your-app.order-created-v2"}]
