"""`orderflow keys`: who may use the API. Straight in MongoDB: the first key must come from somewhere."""

import asyncio
import getpass
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

import typer

from apps.access.domain import new_key, prefix_of
from apps.cli.errors import UsageError
from apps.cli.output import AsJson, progress, result, show_json, show_table
from apps.kit.clock import utc_now
from apps.kit.scopes import Scope

if TYPE_CHECKING:  # takes a second to import
    from apps.access.mongo import ApiKey, AuditEntry, MongoAuditLog, MongoKeys

app = typer.Typer(help="Make, list and revoke the keys of the API.", no_args_is_help=True)

_OF_CLIENTS = {Scope.ORDERS_READ, Scope.ORDERS_WRITE}
"""What a key may do that is bound to one client: everything else shows or changes what is others'."""


@app.command()
def create(
    name: Annotated[str, typer.Option(help="What it is for, such as the system that gets it.")],
    scope: Annotated[list[Scope], typer.Option(help="What it may do; repeat it.")],
    client: Annotated[str | None, typer.Option(help="See and place this client's orders only.")] = None,
    expires_in: Annotated[
        int | None, typer.Option(min=1, max=3650, metavar="DAYS", help="Without it, it does not expire.")
    ] = None,
) -> None:
    """Make a key and print it, once: what is stored does not tell it.

    Example: orderflow keys create --name checkout --scope orders:write --scope orders:read
    """
    if client is not None and (others := set(scope) - _OF_CLIENTS):
        raise UsageError(f"--scope {min(others)}: not for a key that is bound to one client")
    key = new_key()

    async def store() -> None:
        async with _stores() as (keys, audit):
            await audit.begin(_entry(f"keys create {prefix_of(key)} ({', '.join(scope)})"))
            expires_at = utc_now() + timedelta(days=expires_in) if expires_in else None
            await keys.put(key, name=name, scopes=scope, client=client, expires_at=expires_at)

    asyncio.run(store())
    progress.print("This is the only time that the key is shown.")
    typer.echo(key)


@app.command(name="list")
def list_keys(as_json: AsJson = False) -> None:
    """List all keys, the newest first; what is shown of a key opens nothing.

    Example: orderflow keys list
    """

    async def read() -> list["ApiKey"]:
        async with _stores() as (keys, _):
            return list(await keys.list())

    found = asyncio.run(read())
    if as_json:
        show_json([key.model_dump(mode="json", exclude={"digest"}) for key in found])
        return
    columns = ("key", "name", "scopes", "client", "expires", "last used", "revoked")
    show_table(
        columns,
        [
            (
                key.id,
                key.name,
                " ".join(key.scopes),
                key.client,
                key.expires_at,
                key.last_used_at,
                key.revoked_at,
            )
            for key in found
        ],
    )


@app.command()
def revoke(key: Annotated[str, typer.Argument(help="As `orderflow keys list` shows it.")]) -> None:
    """Make a key worthless for ever; every ingress refuses it within 5 s.

    Example: orderflow keys revoke mfzwizlt
    """

    async def end() -> bool:
        async with _stores() as (keys, audit):
            await audit.begin(_entry(f"keys revoke {key}"))
            return await keys.revoke(key)

    # Whoever pastes the whole key must not find it in the audit log.
    if prefix_of(key) is not None or not asyncio.run(end()):
        raise UsageError("no key of that name is known: `orderflow keys list` shows all")
    result.print(f"{key} is revoked")


@app.command()
def audit(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most entries.")] = 50, as_json: AsJson = False
) -> None:
    """List what was done by management, over HTTP and to keys, the newest first.

    Example: orderflow keys audit --limit 100
    """

    async def read() -> list["AuditEntry"]:
        async with _stores() as (_, log):
            return list(await log.newest(limit))

    entries = asyncio.run(read())
    if as_json:
        show_json([entry.model_dump(mode="json", exclude={"id"}) for entry in entries])
        return
    show_table(
        ("at", "caller", "action", "status", "request"),
        [(entry.at, entry.caller, entry.action, entry.status, entry.request_id) for entry in entries],
    )


def _entry(action: str) -> "AuditEntry":
    from apps.access.mongo import AuditEntry  # noqa: PLC0415

    user = f"{getpass.getuser()} (command line)"
    return AuditEntry(id=uuid4(), at=utc_now(), caller=user, action=action, request_id=uuid4().hex)


@asynccontextmanager
async def _stores() -> AsyncIterator[tuple["MongoKeys", "MongoAuditLog"]]:
    from apps.access.mongo import DOCUMENTS, MongoAuditLog, MongoKeys  # noqa: PLC0415
    from apps.cli.database import database  # noqa: PLC0415

    async with database("access", *DOCUMENTS) as opened:
        yield MongoKeys(opened), MongoAuditLog(opened)
