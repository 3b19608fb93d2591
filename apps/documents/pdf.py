"""Invoices and credit notes as PDF: the same event gives the same bytes, in every process."""

from functools import lru_cache
from pathlib import Path

import orjson
import typst

from apps.documents.domain import Statement, paper_of
from apps.documents.view import view_of
from apps.kit.errors import PermanentError
from apps.kit.settings import Settings

_TEMPLATE = Path(__file__).parent / "templates" / "document.typ"
_LARGE_CHARACTERS = 50_000
"""Of all values together: some 150 lines."""
_REMEMBERED_COMPILATIONS = 12
"""Typst drops from its cache what its last ten or so did not use, and has no other way to empty it."""


class DocumentNotSetError(PermanentError):
    """The template cannot set this document, and will not when asked again."""

    def __init__(self, number: str) -> None:
        super().__init__(f"Document {number} cannot be set as PDF")


def render(statement: Statement, settings: Settings) -> bytes:
    """The document as PDF, in the customer's language; computes without holding the GIL.

    Raises:
        DocumentNotSetError: the template fails.
    """
    paper = paper_of(statement)
    # Values travel as one JSON text, so that no character in them is ever read as markup.
    values = orjson.dumps(view_of(statement, settings)).decode()
    try:
        return typst.compile(
            _TEMPLATE,
            format="pdf",
            font_paths=_fonts(),
            sys_inputs={"document": values},
            timestamp=int(paper.issued_at.timestamp()),
        )
    except typst.TypstError as error:
        raise DocumentNotSetError(paper.number) from error
    finally:
        if len(values) > _LARGE_CHARACTERS:
            _forget()


def _forget() -> None:
    """Empty typst's cache: five invoices of 600 lines one after the other would fill 700 MB."""
    for _ in range(_REMEMBERED_COMPILATIONS):
        typst.compile(b"", format="pdf", font_paths=_fonts())


@lru_cache(maxsize=1)
def _fonts() -> typst.Fonts:
    """The typeface that typst brings, and behind it the machine's own for scripts that it lacks."""
    return typst.Fonts()
