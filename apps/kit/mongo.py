"""MongoDB as every app uses it: a replica set, and writes that are on a majority of disks."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorClientSession
from odmantic import AIOEngine, Model
from pymongo import WriteConcern
from pymongo.errors import BulkWriteError, CollectionInvalid, ConnectionFailure, DuplicateKeyError
from pymongo.read_concern import ReadConcern
from structlog.stdlib import get_logger

from apps.kit.settings import get_settings

Result = TypeVar("Result")

DURABLE = WriteConcern(w="majority", j=True)
_DUPLICATE_KEY = 11000
_MOST_ATTEMPTS = 20

log = get_logger()


class NoReplicaSetError(Exception):
    """Transactions and majority writes need a replica set."""

    def __init__(self) -> None:
        super().__init__(
            "ORDERFLOW_MONGODB_URL: this MongoDB is no replica set (start mongod with --replSet)"
        )


class ConflictError(Exception):
    """Another process changed what a group was decided on: read again and decide anew."""


@asynccontextmanager
async def open_database(app: str, *documents: type[Model]) -> AsyncIterator[AIOEngine]:
    """The app's own database with its collections and indexes in place; waits until MongoDB answers.

    Raises:
        NoReplicaSetError: the server stands alone.
    """
    settings = get_settings()
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
    try:
        while True:
            try:
                await _prepare(engine, documents)
                break
            except ConnectionFailure as error:
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
            except CollectionInvalid:  # another replica of the worker was first
                continue
    await engine.configure_database(documents)


def is_duplicate_key(error: Exception) -> bool:
    """Whether a write failed only because its natural key is there already."""
    if isinstance(error, BulkWriteError):
        problems = (error.details or {}).get("writeErrors", [])
        return bool(problems) and all(problem["code"] == _DUPLICATE_KEY for problem in problems)
    return isinstance(error, DuplicateKeyError)


async def in_transaction(
    engine: AIOEngine, work: Callable[[AsyncIOMotorClientSession], Coroutine[Any, Any, Result]]
) -> Result:
    """Run `work` in one durable snapshot transaction, again from its first read when another was faster.

    Raises:
        ConflictError, pymongo.errors.PyMongoError: it did not pass in 20 attempts, or cannot.
    """
    for attempt in range(1, _MOST_ATTEMPTS + 1):
        try:
            async with await engine.client.start_session() as session:
                result: Result = await session.with_transaction(
                    work, read_concern=ReadConcern("snapshot"), write_concern=DURABLE
                )
                return result
        except (ConflictError, DuplicateKeyError, BulkWriteError) as error:
            lost_race = isinstance(error, ConflictError) or is_duplicate_key(error)
            if not lost_race or attempt == _MOST_ATTEMPTS:
                raise
            await asyncio.sleep(random.uniform(0, 0.01 * attempt))  # noqa: S311  # spreads contenders, no secret
    raise AssertionError("unreachable")
