"""The key of a local system: made once per home directory, with every right, for its own commands."""

from pathlib import Path

from pydantic import SecretStr

from apps.kit.scopes import Scope
from apps.kit.settings import Settings


def key_kept_in(home: Path) -> str:
    """The home's key; the first time it is made, whole or not at all."""
    from apps.access.domain import new_key, prefix_of  # noqa: PLC0415  # commands that need no key start faster

    file = home / "api-key"
    if file.exists() and prefix_of(key := file.read_text()) is not None:
        return key
    key = new_key()
    unfinished = home / "api-key.new"
    unfinished.touch(mode=0o600)
    unfinished.write_text(key)
    unfinished.replace(file)
    return key


async def make_valid(key: str, mongodb_url: str, database_prefix: str | None) -> None:
    """Let an ingress on that database take the key, with every scope.

    Raises:
        DependencyUnavailable: MongoDB does not answer.
    """
    from apps.access.mongo import ApiKey, MongoKeys  # noqa: PLC0415  # takes a second to import
    from apps.kit.mongo import open_database  # noqa: PLC0415

    settings = Settings(mongodb_url=SecretStr(mongodb_url))
    if database_prefix is not None:
        settings = settings.model_copy(update={"database_prefix": database_prefix})
    async with open_database("access", ApiKey, settings=settings) as database:
        await MongoKeys(database).put(key, name="orderflow up", scopes=list(Scope))
