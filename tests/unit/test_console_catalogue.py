"""Every text of the console is there in every language, and none is kept that no page shows."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from babel.messages.pofile import read_po
from jinja2.ext import babel_extract

import apps.console

HOME = Path(apps.console.__file__).parent
KEYWORDS = ("_", "gettext", "ngettext")
OPTIONS = {"trim_blocks": "true", "lstrip_blocks": "true", "silent": "false"}
_REFUSALS = ("ProblemError", "DependencyUnavailable")
_PLACE = re.compile(r"%\((\w+)\)s")


def of_templates() -> Iterator[str]:
    """What the templates say, in English."""
    for file in HOME.glob("templates/**/*.html"):
        with file.open("rb") as content:
            for _line, _function, texts, _comments in babel_extract(content, KEYWORDS, (), OPTIONS):
                text = texts[0] if isinstance(texts, tuple) else texts
                if text:
                    yield text


def of_modules() -> Iterator[str]:
    """What the modules say by `_("…")` and `gettext(request)("…")`."""
    for file in HOME.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and _translates(node.func):
                yield from (text.value for text in node.args if isinstance(text, ast.Constant))


def _translates(function: ast.expr) -> bool:
    if isinstance(function, ast.Call):
        return isinstance(function.func, ast.Name) and function.func.id == "gettext"
    return isinstance(function, ast.Name) and function.id == "_"


def of_refusals() -> Iterator[str]:
    """What the routes refuse with; pages translate that as they show it."""
    for file in HOME.parent.glob("**/*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _REFUSALS:
                yield from (text.value for text in node.args if isinstance(text, ast.Constant))


def of_catalogues() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Each entry: its file, the English text by which it is found, and all that it says, English first."""
    for file in sorted((HOME / "locale" / "pt_BR").glob("*.po")):
        with file.open("rb") as content:
            for entry in read_po(content, locale="pt_BR", abort_invalid=True):
                if entry.id:
                    english = (entry.id,) if isinstance(entry.id, str) else tuple(entry.id)
                    other = (entry.string,) if isinstance(entry.string, str) else tuple(entry.string)
                    yield file.name, english[0], (*english, *other)


def test_every_text_is_translated() -> None:
    """What a page says in English it says in Portuguese too."""
    said = {*of_templates(), *of_modules()}
    translated = {english for _file, english, texts in of_catalogues() if all(texts)}

    assert len(said) > 200
    assert said - translated == set()


def test_no_translation_is_left_over() -> None:
    """What no page says any more does not stay in a catalogue."""
    said = {*of_templates(), *of_modules(), *of_refusals()}

    assert {(file, english) for file, english, _texts in of_catalogues() if english not in said} == set()


def test_same_text_is_translated_alike() -> None:
    """Where two pages say the same, they do so in both languages: all catalogues are read as one."""
    said: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for _file, english, texts in of_catalogues():
        said[english].add(texts)

    assert [ways for ways in said.values() if len(ways) > 1] == []


def test_translations_have_the_places_of_the_text() -> None:
    """A translation names what its text names; only one of a single thing may leave the number out."""
    for file, _english, texts in of_catalogues():
        wanted = {place for text in texts for place in _PLACE.findall(text)}
        whole = (texts[0], texts[-1]) if len(texts) == 2 else (texts[1], texts[-1])
        assert [set(_PLACE.findall(text)) for text in whole] == [wanted, wanted], f"{file}: {texts}"
