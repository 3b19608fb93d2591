"""Where documents lie: a local folder, S3, Azure or Google Cloud Storage, by URL."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from apps.kit.errors import DependencyUnavailable

_TIMEOUT_SECONDS = 20.0


class StoreUnavailable(DependencyUnavailable):
    """The store is out of reach, or takes nothing."""

    dependency = "documents"


class DocumentStore:
    """Documents by path; opened at the first use, so that nothing fails to start for want of it."""

    def __init__(self, url: str) -> None:
        """Touch nothing yet.

        Args:
            url: a folder, or `s3://`, `az://` or `gs://` with bucket and prefix; credentials come from the
                variables of the provider's own tools.
        """
        self._url = url

    async def put(self, path: str, content: bytes) -> None:
        """Store a document whole, over what is there; returns once it is safe.

        Raises:
            DependencyUnavailable: the store is out of reach, or takes nothing.
        """
        with _out_of_reach():
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                await self._store.put_async(path, content)
            if isinstance(self._store, LocalStore) and self._store.prefix is not None:
                await asyncio.to_thread(_force_to_disk, self._store.prefix / path)

    async def get(self, path: str) -> tuple[int, AsyncIterator[bytes]]:
        """The size of a document in bytes, and its content piece by piece.

        Raises:
            DependencyUnavailable: the store is out of reach, or has no such document.
        """
        with _out_of_reach():
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                found = await self._store.get_async(path)
        return found.meta["size"], _pieces(found.stream())

    @cached_property
    def _store(self) -> ObjectStore:
        if "://" in self._url:
            return from_url(self._url)
        return LocalStore(Path(self._url).absolute(), mkdir=True)


async def _pieces(stream: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    async for piece in stream:
        yield bytes(piece)


@contextmanager
def _out_of_reach() -> Iterator[None]:
    # A timeout is an OSError too. What the store says of itself may hold addresses and account names.
    try:
        yield
    except (BaseError, OSError) as error:
        raise StoreUnavailable(f"The document store is out of reach: {type(error).__name__}") from error


def _force_to_disk(path: Path) -> None:
    """What the catalogue says is stored must outlive a power cut: the file, and its name in the folder."""
    for part in (path, path.parent):
        descriptor = os.open(part, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
