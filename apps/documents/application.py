"""Each invoice and each credit note is rendered and stored once, and repeats change nothing."""

import asyncio
from concurrent.futures import Executor
from typing import Protocol, runtime_checkable
from uuid import UUID

from apps.documents.domain import Paper, Statement, paper_of
from apps.documents.pdf import render
from apps.kit.settings import Settings

_UNSTORED_KEPT = 8
"""Documents, of up to 2 MB, that wait for the store: as many as there are messages, four of each queue."""


@runtime_checkable
class Catalogue(Protocol):
    """Which documents there are."""

    async def claim(self, paper: Paper) -> bool:
        """Take the document's number for its order; returns whether it still has to be stored.

        Raises:
            NumberTakenError: the number is another document's, or the order has one under another number.
        """

    async def stored(self, paper: Paper, content: bytes) -> None:
        """Note that the document is in the store."""


@runtime_checkable
class Store(Protocol):
    """Where documents lie."""

    async def put(self, path: str, content: bytes) -> None:
        """Store a document whole, over what is there; returns once it is safe.

        Raises:
            DependencyUnavailable: the store is out of reach.
        """


class Press:
    """Makes documents of invoices, off the event loop."""

    def __init__(self, catalogue: Catalogue, store: Store, threads: Executor, settings: Settings) -> None:
        self._catalogue = catalogue
        self._store = store
        self._threads = threads
        self._settings = settings
        self._unstored: dict[UUID, bytes] = {}

    async def make(self, statement: Statement) -> None:
        """Render and store the document, unless that is done.

        A crash in between stores it once more: under the same path, and with the same bytes. After an outage
        of the store, the next attempt need not render it again.

        Raises:
            NumberTakenError, DocumentNotSetError: there will never be such a document.
            DependencyUnavailable: the store is out of reach.
        """
        paper = paper_of(statement)
        if not await self._catalogue.claim(paper):
            return
        content = self._unstored.get(statement.event_id) or await self._rendered(statement)
        await self._store.put(paper.path, content)
        await self._catalogue.stored(paper, content)
        self._unstored.pop(statement.event_id, None)

    async def _rendered(self, statement: Statement) -> bytes:
        loop = asyncio.get_running_loop()
        content = await loop.run_in_executor(self._threads, render, statement, self._settings)
        self._unstored[statement.event_id] = content
        if len(self._unstored) > _UNSTORED_KEPT:
            del self._unstored[next(iter(self._unstored))]
        return content
