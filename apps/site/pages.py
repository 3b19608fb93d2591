"""Every file of the site by its path: pages, documents to download, the search index, style and script."""

import json
from collections.abc import Iterator, Mapping
from functools import partial
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

from apps.site.documents import SYSTEM, parse, read
from apps.site.failures import failures, length
from apps.site.map import OUTSIDE, lay_out
from apps.site.schema import rows
from apps.site.search import index
from apps.site.snippets import snippets
from apps.site.system import Event, System, understand

# What a document says is CommonMark; HTML in it would be shown, not obeyed.
_MARKDOWN = MarkdownIt("commonmark", {"html": False})
_FORMATTER = HtmlFormatter(nowrap=True)


def build(texts: Mapping[str, str] | None = None) -> dict[str, bytes]:
    """The site over the given documents, else over the committed ones.

    Raises:
        DocumentsMissingError: there are none.
    """
    texts = texts or read()
    documents = {name: parse(text) for name, text in texts.items()}
    system = understand(documents[SYSTEM])
    site = dict(_pages(system))
    site |= {f"documents/{name}.yaml": text for name, text in texts.items()}
    site |= {f"documents/{name}.json": _json(document) for name, document in documents.items()}
    for event in system.events:
        site[f"schemas/{event.topic}.json"] = _json(_standalone(system, event))
    # A script rather than JSON: a page that is opened as a file may load it too.
    site["search-index.js"] = f"window.searchIndex = {json.dumps(index(system), ensure_ascii=False)};\n"
    for file in (files("apps.site") / "static").iterdir():
        site[file.name] = file.read_text(encoding="utf-8")
    return {path: text.encode() for path, text in sorted(site.items())}


def _pages(system: System) -> Iterator[tuple[str, str]]:
    environment = _environment(system)
    page = partial(_page, environment)
    yield (
        "index.html",
        page("index.html", "", map=lay_out(system), failures=failures(system), first=_first_steps(system)),
    )
    for app in system.apps:
        yield f"apps/{app.name}.html", page("app.html", "../", app=app)
    for event in system.events:
        yield (
            f"events/{event.topic}.html",
            page(
                "event.html",
                "../",
                event=event,
                fields=list(rows(system.document, event.payload)),
                headers=list(rows(system.document, event.headers)),
                programs={action: snippets(event, action) for action in ("publish", "subscribe")},
            ),
        )


def _first_steps(system: System) -> dict[str, Any]:
    """What somebody new tries first: an order that becomes an invoice."""
    published, subscribed = system.event("order.created.v1"), system.event("invoice.issued.v1")
    return {
        "before": system.event("stock.adjusted.v1"),
        "published": published,
        "publish": snippets(published, "publish"),
        "subscribed": subscribed,
        "subscribe": snippets(subscribed, "subscribe"),
    }


def _page(environment: Environment, template: str, root: str, **parts: Any) -> str:
    return environment.get_template(template).render(root=root, **parts)


def _environment(system: System) -> Environment:
    environment = Environment(
        loader=PackageLoader("apps.site"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"system": system, "info": system.document["info"], "outside": OUTSIDE}
    environment.filters |= {
        "prose": _prose,
        "phrase": _phrase,
        "code": _code,
        "pretty": _json,
        "pause": length,
    }
    return environment


def _prose(text: str) -> Markup:
    return Markup(_MARKDOWN.render(text))  # noqa: S704  # it escapes what it does not make


def _phrase(text: str) -> Markup:
    return Markup(_MARKDOWN.renderInline(text))  # noqa: S704  # as above


def _code(text: str, language: str) -> Markup:
    return Markup(highlight(text, get_lexer_by_name(language), _FORMATTER))  # noqa: S704  # as above


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n"


def _standalone(system: System, event: Event) -> dict[str, Any]:
    """The event's JSON Schema by itself, with all that it refers to."""
    schemas = system.document["components"]["schemas"]
    needed: dict[str, Any] = {}

    def localised(node: Any) -> Any:
        if isinstance(node, list):
            return [localised(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" not in node:
            return {key: localised(value) for key, value in node.items()}
        name = node["$ref"].rpartition("/")[2]
        if name not in needed:
            needed[name] = {}
            needed[name] = localised(schemas[name])
        return {**node, "$ref": f"#/$defs/{name}"}

    top: dict[str, Any] = localised(schemas[event.schema_name])
    draft = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": event.name}
    return draft | top | ({"$defs": dict(sorted(needed.items()))} if needed else {})
