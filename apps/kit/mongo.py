"""MongoDB as every app uses it: a replica set, and writes that are on a majority of disks."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from odmantic import Model
from odmantic.index import ODMBaseIndex
from pymongo import AsyncMongoClient, WriteConcern
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import (
    BulkWriteError,
    CollectionInvalid,
    ConnectionFailure,
    DuplicateKeyError,
    OperationFailure,
    PyMongoError,
)
from pymongo.read_concern import ReadConcern
from structlog.stdlib import get_logger

from apps.kit.errors import DependencyUnavailable
from apps.kit.mongo_metrics import LISTENERS
from apps.kit.settings import Settings, database_name, get_settings
from apps.kit.tracing import IS_ON
from apps.kit.tracing.mongodb import CommandSpans

Result = TypeVar("Result")
Document = TypeVar("Document", bound=Model)

DURABLE = WriteConcern(w="majority", j=True)
_DUPLICATE_KEY = 11000
_NAMESPACE_EXISTS = 48
_START_TIMEOUT_SECONDS = 20.0
_LONGEST_CONTENTION_SECONDS = 90.0
"""A worker that is killed leaves its transaction open, and what it touched locked, for the server's
`transactionLifetimeLimitSeconds`, by default 60. Whoever meets it must wait that out, not fail."""

log = get_logger()


class NoReplicaSetError(DependencyUnavailable):
    """Transactions and majority writes need a replica set."""

    def __init__(self) -> None:
        super().__init__(
            "ORDERFLOW_MONGODB_URL: this MongoDB is no replica set (start mongod with --replSet)"
        )


class Database:
    """An app's own database: its collections by the ODMantic models of their documents.

    ODMantic's engine would do the same over motor, which runs each command in a thread: see ADR 0004.
    """

    def __init__(self, client: AsyncMongoClient[dict[str, Any]], name: str) -> None:
        self.client = client
        self.name = name

    def collection(self, document: type[Model]) -> AsyncCollection[dict[str, Any]]:
        """Where the documents of a kind are."""
        return self.client[self.name][document.__collection__]

    async def prepare(self, documents: Iterable[type[Model]]) -> None:
        """Make the collections and their indexes, as far as they are missing.

        Raises:
            pymongo.errors.OperationFailure: an index of the same name is there already and is another.
        """
        documents = list(documents)
        existing = set(await self.client[self.name].list_collection_names()) if documents else set()
        for document in documents:
            # Made ahead, so that no transaction has to wait for a collection to appear.
            if document.__collection__ not in existing:
                try:
                    await self.client[self.name].create_collection(document.__collection__)
                except (CollectionInvalid, OperationFailure) as error:
                    if isinstance(error, OperationFailure) and error.code != _NAMESPACE_EXISTS:
                        raise  # else another process was first
            indexes = [
                index.get_pymongo_index() if isinstance(index, ODMBaseIndex) else index
                for index in document.__indexes__()
            ]
            if indexes:
                await self.collection(document).create_indexes(indexes)


def parsed(model: type[Document], document: dict[str, Any] | None) -> Document | None:
    """A document that was found, as its model; None if none was."""
    return None if document is None else model.model_validate_doc(document)


class ConflictError(Exception):
    """What is stored is not what a group was decided on: read it and decide anew."""


@asynccontextmanager
async def open_database(
    app: str, *documents: type[Model], settings: Settings | None = None
) -> AsyncIterator[Database]:
    """The app's own database with its collections and indexes in place; as `open_databases` does it."""
    async with open_databases(app, {app: documents}, settings) as databases:
        yield databases[app]


@asynccontextmanager
async def open_databases(
    process: str, wanted: Mapping[str, Iterable[type[Model]]], settings: Settings | None = None
) -> AsyncIterator[Mapping[str, Database]]:
    """Databases of several apps over the same connections; waits a while for MongoDB.

    A process cannot be told to stop while it starts, so it gives up in the end: its runner starts it again.

    Args:
        process: names the connections in MongoDB's log.
        wanted: by app, the documents whose collections and indexes are to be there; none to read only.
        settings: those of this process unless given.

    Raises:
        NoReplicaSetError: the server stands alone.
        DependencyUnavailable: it does not answer.
    """
    settings = settings or get_settings()
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
        settings.mongodb_url.get_secret_value(),
        appname=f"orderflow-{process}",
        tz_aware=True,
        uuidRepresentation="standard",
        w="majority",
        journal=True,
        readConcernLevel="majority",
        serverSelectionTimeoutMS=3000,
        connectTimeoutMS=3000,
        socketTimeoutMS=20_000,
        event_listeners=[*LISTENERS, *([CommandSpans()] if IS_ON else [])],
    )
    databases = {app: Database(client, database_name(settings.database_prefix, app)) for app in wanted}
    give_up_at = time.monotonic() + _START_TIMEOUT_SECONDS
    try:
        while True:
            try:
                if "setName" not in await client.admin.command("hello"):
                    raise NoReplicaSetError
                for app, documents in wanted.items():
                    await databases[app].prepare(documents)
                break
            except ConnectionFailure as error:
                if time.monotonic() > give_up_at:
                    raise DependencyUnavailable(
                        f"MongoDB did not answer within {_START_TIMEOUT_SECONDS:g} s (ORDERFLOW_MONGODB_URL)"
                    ) from None
                log.warning("waiting for MongoDB", error=type(error).__name__)
                await asyncio.sleep(1)
        yield databases
    finally:
        await client.close()


def is_duplicate_key(error: Exception) -> bool:
    """Whether a write failed only because its natural key is there already."""
    if isinstance(error, BulkWriteError):
        details = error.details or {}
        problems = details.get("writeErrors", [])
        # Without a majority behind it, what was written counts for nothing yet.
        is_durable = not details.get("writeConcernErrors")
        return is_durable and bool(problems) and all(one["code"] == _DUPLICATE_KEY for one in problems)
    return isinstance(error, DuplicateKeyError)


async def in_transaction(
    database: Database,
    work: Callable[[AsyncClientSession], Awaitable[Result]],
    *,
    careful: Callable[[AsyncClientSession], Awaitable[Result]] | None = None,
) -> Result:
    """Run `work` in one durable snapshot transaction, again from its first read while others are faster.

    The driver's own loop is not used: it goes on for two minutes while MongoDB is away, without a pause.

    Args:
        database: whose.
        work: what is done. It must find what an earlier run of it has stored, or be refused a key that is
            there already, since a commit may pass and not be heard of.
        careful: what is done instead once `work` was refused a key, or found a conflict.

    Raises:
        pymongo.errors.ConnectionFailure: MongoDB is out of reach.
        ConflictError, pymongo.errors.PyMongoError: contention lasted too long, or it cannot pass.
    """
    give_up_at = time.monotonic() + _LONGEST_CONTENTION_SECONDS
    attempt = 0
    while True:
        try:
            async with (
                database.client.start_session() as session,
                await session.start_transaction(read_concern=ReadConcern("snapshot"), write_concern=DURABLE),
            ):
                return await work(session)
        except (ConflictError, PyMongoError) as error:
            if not _is_lost_race(error) or time.monotonic() > give_up_at:
                raise
            if careful is not None and (isinstance(error, ConflictError) or is_duplicate_key(error)):
                work = careful
            attempt += 1
            pause = min(0.2, 0.002 * 2 ** min(attempt, 10))
            await asyncio.sleep(random.uniform(0, pause))  # noqa: S311  # spreads contenders, no secret


def _is_lost_race(error: ConflictError | PyMongoError) -> bool:
    """Whether another process was faster, or a commit was not heard of."""
    if isinstance(error, ConflictError):
        return True
    if isinstance(error, ConnectionFailure):
        return False
    return is_duplicate_key(error) or any(
        error.has_error_label(label)
        for label in ("TransientTransactionError", "UnknownTransactionCommitResult")
    )
