"""`orderflow backup` and `restore`: all databases as they were at one moment, and RabbitMQ's definitions."""

import hashlib
import json
import os
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import AwareDatetime, BaseModel, ValidationError

from apps.cli.errors import UsageError
from apps.cli.output import progress, result
from apps.cli.rabbitmq_management import ManagementApi
from apps.cli.topology_users import ManagementUrl
from apps.kit.clock import utc_now
from apps.kit.settings import Settings, database_name, get_settings

if TYPE_CHECKING:  # slow to import
    from apps.cli.mongodb_client import Client

_MANIFEST = "manifest.json"
_MONGODB = "mongodb"
_DEFINITIONS = "rabbitmq-definitions.json"
_IDLE_TOO = {"$currentOp": {"allUsers": True, "idleConnections": True}}


class Manifest(BaseModel, strict=True):
    """What a backup says of itself; written last, so that without it a backup is none."""

    made_at: AwareDatetime
    database_prefix: str
    documents: dict[str, int]
    sha256: dict[str, str]


def backup(
    directory: Annotated[Path, typer.Argument(help="Is made; must be empty if it is there.")],
    management_url: ManagementUrl = None,
) -> None:
    """Write all databases, as they are at one moment, and RabbitMQ's queues and users; nothing has to stop.

    Messages under way are not in it, a restore tells which orders to send again; nor are the PDFs. The files
    hold customers' data.

    Example: orderflow backup /backups/2026-11-22
    """
    from apps.cli.app_users import STORES  # noqa: PLC0415  # slow to import
    from apps.cli.mongodb_client import connected  # noqa: PLC0415
    from apps.cli.mongodb_dump import dump  # noqa: PLC0415
    from apps.cli.rabbitmq_definitions import export  # noqa: PLC0415

    os.umask(0o077)
    settings = get_settings()
    if directory.exists() and any(directory.iterdir()):
        raise UsageError(f"{directory}: is not empty, and one backup must not mix with another")
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)  # it may have been there
    made_at = utc_now()
    databases = [database_name(settings.database_prefix, store) for store in STORES]
    with connected(settings.mongodb_url.get_secret_value()) as client:
        documents = dump(client, databases, directory / _MONGODB)
    definitions = export(_api(settings, management_url))
    (directory / _DEFINITIONS).write_text(json.dumps(definitions, indent=2))
    manifest = Manifest(
        made_at=made_at,
        database_prefix=settings.database_prefix,
        documents=documents,
        sha256=_checksums(directory),
    )
    (directory / _MANIFEST).write_text(manifest.model_dump_json(indent=2))
    queues = len(definitions["queues"])
    result.print(f"{sum(documents.values()):,} documents and {queues} queues are in {directory}")


def restore(
    directory: Annotated[Path, typer.Argument(help="What `orderflow backup` wrote.")],
    replace: Annotated[bool, typer.Option("--replace", help="Delete what the databases hold now.")] = False,
    management_url: ManagementUrl = None,
) -> None:
    """Put a backup back, into databases that are empty; refused while an app runs.

    Prints the orders of which messages may have been under way: apply topology and users, start the apps,
    and send these again.

    Example: orderflow restore /backups/2026-11-22 > orders
    """
    from apps.cli.app_users import STORES  # noqa: PLC0415  # slow to import
    from apps.cli.mongodb_client import connected  # noqa: PLC0415
    from apps.cli.mongodb_dump import load  # noqa: PLC0415
    from apps.cli.rabbitmq_definitions import define  # noqa: PLC0415

    settings = get_settings()
    manifest = _verified_manifest(directory)
    former, now = manifest.database_prefix, settings.database_prefix
    names = {database_name(former, store): database_name(now, store) for store in STORES}
    for folder in sorted((directory / _MONGODB).glob("*")):
        if folder.name not in names:
            raise UsageError(
                f"{folder}: is of no app that this release knows, or of another prefix than the manifest"
            )
    api = _api(settings, management_url)
    with connected(settings.mongodb_url.get_secret_value()) as client:
        emptied = () if replace else names.values()
        _require_rest(client, api, emptied)
        define(api, json.loads((directory / _DEFINITIONS).read_text()))
        _require_rest(client, api, emptied)  # an app may have been started meanwhile
        for database in names.values():
            client.drop_database(database)
        documents = load(client, directory / _MONGODB, names)
        # A message that waits for longer than this leaves its order stuck, which shows by itself.
        since = manifest.made_at - timedelta(seconds=settings.stuck_after_seconds)
        for order in client[database_name(now, "orders")]["orders"].find(
            {"changed_at": {"$gte": since}}, {"_id": 1}
        ):
            typer.echo(order["_id"])
    progress.print(f"{sum(documents.values()):,} documents are as they were at {manifest.made_at}.")
    progress.print("Users of MongoDB are in no backup. Run orderflow topology apply,")
    progress.print("then orderflow users apply DIRECTORY, then start the apps,")
    progress.print("and send the orders above again: orderflow order resend ID...")


def _api(settings: Settings, management_url: str | None) -> ManagementApi:
    return ManagementApi(settings.rabbitmq_url.get_secret_value(), management_url)


def _require_rest(client: "Client", api: ManagementApi, must_be_empty: Iterable[str]) -> None:
    """Refuse while an app could write, or where documents would be lost."""
    for consumer in api.get("consumers", api.vhost) or ():
        raise UsageError(f"{consumer['queue']['name']} has a consumer: stop every app first")
    for connection in client.admin.aggregate([_IDLE_TOO]):
        if (name := connection.get("appName", "")).startswith("orderflow-"):
            raise UsageError(f"{name} is connected to MongoDB: stop every app first")
    for database in must_be_empty:
        for collection in client[database].list_collection_names():
            if client[database][collection].find_one() is not None:
                filled = f"{database}.{collection}"
                raise UsageError(
                    f"{filled} holds documents already: --replace deletes what the databases hold"
                )


def _checksums(directory: Path) -> dict[str, str]:
    checksums = {}
    for file in sorted(directory.rglob("*")):
        if file.is_file() and file.name != _MANIFEST:
            with file.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            checksums[str(file.relative_to(directory))] = digest
    return checksums


def _verified_manifest(directory: Path) -> Manifest:
    """The manifest of a backup that is whole, in each byte."""
    file = directory / _MANIFEST
    if not file.exists():
        raise UsageError(f"{file}: is missing, so this is no backup, or one that was not finished")
    try:
        manifest = Manifest.model_validate_json(file.read_bytes())
    except ValidationError:
        raise UsageError(f"{file}: is not the manifest of a backup") from None
    expected, found = manifest.sha256, _checksums(directory)
    for name in sorted(expected | found):
        if found.get(name) != expected.get(name):
            problem = "is not as it was written" if name in found else "is missing"
            raise UsageError(f"{directory / name}: {problem}")
    return manifest
