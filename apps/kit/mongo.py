"""MongoDB as every app uses it: a replica set, and writes that are on a majority of disks."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorClientSession
from odmantic import AIOEngine, Model
from pymongo import WriteConcern
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
from apps.kit.settings import Settings, get_settings

Result = TypeVar("Result")

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


class ConflictError(Exception):
    """Another process changed what a group was decided on: read again and decide anew."""


@asynccontextmanager
async def open_database(
    app: str, *documents: type[Model], settings: Settings | None = None
) -> AsyncIterator[AIOEngine]:
    """The app's own database with its collections and indexes in place; waits a while for MongoDB.

    A process cannot be told to stop while it starts, so it gives up in the end: its runner starts it again.

    Raises:
        NoReplicaSetError: the server stands alone.
        DependencyUnavailable: it does not answer.
    """
    settings = settings or get_settings()
    client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(
        settings.mongodb_url.get_secret_value(),
        appname=f"orderflow-{app}",
        tz_aware=True,
        uuidRepresentation="standard",
        w="majority",
        journal=True,
        readConcernLevel="majority",
        serverSelectionTimeoutMS=3000,
        connectTimeoutMS=3000,
        socketTimeoutMS=20_000,
    )
    engine = AIOEngine(client=client, database=f"{settings.database_prefix}_{app}")
    give_up_at = time.monotonic() + _START_TIMEOUT_SECONDS
    try:
        while True:
            try:
                await _prepare(engine, documents)
                break
            except ConnectionFailure as error:
                if time.monotonic() > give_up_at:
                    raise DependencyUnavailable(
                        f"MongoDB did not answer within {_START_TIMEOUT_SECONDS:g} s (ORDERFLOW_MONGODB_URL)"
                    ) from None
                log.warning("waiting for MongoDB", error=type(error).__name__)
                await asyncio.sleep(1)
        yield engine
    finally:
        client.close()


async def _prepare(engine: AIOEngine, documents: tuple[type[Model], ...]) -> None:
    if "setName" not in await engine.client.admin.command("hello"):
        raise NoReplicaSetError
    existing = set(await engine.database.list_collection_names())
    for document in documents:
        # Made ahead, so that no transaction has to wait for a collection to appear.
        if document.__collection__ not in existing:
            try:
                await engine.database.create_collection(document.__collection__)
            except (CollectionInvalid, OperationFailure) as error:
                if isinstance(error, OperationFailure) and error.code != _NAMESPACE_EXISTS:
                    raise  # else another process was first
    await engine.configure_database(documents)


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
    engine: AIOEngine, work: Callable[[AsyncIOMotorClientSession], Awaitable[Result]]
) -> Result:
    """Run `work` in one durable snapshot transaction, again from its first read while others are faster.

    `work` must find what an earlier run of it has stored, since a commit may pass and not be heard of.
    The driver's own loop is not used: it goes on for two minutes while MongoDB is away, without a pause.

    Raises:
        pymongo.errors.ConnectionFailure: MongoDB is out of reach.
        ConflictError, pymongo.errors.PyMongoError: contention lasted too long, or it cannot pass.
    """
    give_up_at = time.monotonic() + _LONGEST_CONTENTION_SECONDS
    attempt = 0
    while True:
        try:
            async with (
                await engine.client.start_session() as session,
                session.start_transaction(read_concern=ReadConcern("snapshot"), write_concern=DURABLE),
            ):
                return await work(session)
        except (ConflictError, PyMongoError) as error:
            if not _is_lost_race(error) or time.monotonic() > give_up_at:
                raise
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
