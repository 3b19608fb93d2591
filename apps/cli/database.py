"""An app's database as commands use it: there within seconds, or one line that says it is not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from odmantic import Model
from pymongo.errors import PyMongoError

from apps.kit.errors import DependencyUnavailable
from apps.kit.mongo import Database, open_database

_TIMEOUT_SECONDS = 10.0


@asynccontextmanager
async def database(app: str, *documents: type[Model]) -> AsyncIterator[Database]:
    """The app's own database, for as long as one command may take.

    Raises:
        DependencyUnavailable: MongoDB does not answer, or no longer.
    """
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS), open_database(app, *documents) as opened:
            yield opened
    except (TimeoutError, PyMongoError):
        raise DependencyUnavailable(
            f"MongoDB did not answer within {_TIMEOUT_SECONDS:g} s (ORDERFLOW_MONGODB_URL)"
        ) from None
