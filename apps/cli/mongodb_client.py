"""MongoDB as an administrator's commands see it: what it refuses, or that it is away, is one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pymongo import MongoClient
from pymongo.errors import BulkWriteError, ConnectionFailure, OperationFailure, PyMongoError

from apps.cli.errors import UsageError
from apps.kit.errors import DependencyUnavailable

_TIMEOUT_MILLISECONDS = 10_000

Client = MongoClient[dict[str, Any]]


@contextmanager
def connected(url: str, **options: Any) -> Iterator[Client]:
    """A client of the MongoDB that `ORDERFLOW_MONGODB_URL` names.

    Raises:
        UsageError: MongoDB refuses, with its reason.
        DependencyUnavailable: it does not answer.
    """
    try:
        with MongoClient[dict[str, Any]](
            url,
            tz_aware=True,
            uuidRepresentation="standard",
            serverSelectionTimeoutMS=_TIMEOUT_MILLISECONDS,
            **options,
        ) as client:
            yield client
    except ConnectionFailure as error:
        raise DependencyUnavailable(
            f"MongoDB does not answer (ORDERFLOW_MONGODB_URL): {type(error).__name__}"
        ) from None
    except PyMongoError as error:
        raise UsageError(f"ORDERFLOW_MONGODB_URL: MongoDB refuses: {_reason(error)}") from None


def _reason(error: PyMongoError) -> str:
    """Why MongoDB refuses; never the whole of what it answers, in which there may be documents."""
    if not isinstance(error, OperationFailure):
        return str(error)
    details, code = error.details or {}, error.code
    if isinstance(error, BulkWriteError):
        code = [*details.get("writeErrors", ()), *details.get("writeConcernErrors", ())][0]["code"]
    return details.get("errmsg") or f"{type(error).__name__}, code {code}"
