"""`orderflow users`: every app's own users of RabbitMQ and MongoDB, from files that hold their secrets."""

import re
from pathlib import Path
from typing import Annotated

import typer

from apps.cli.errors import UsageError
from apps.cli.output import result
from apps.cli.rabbitmq_management import ManagementApi
from apps.cli.secret_files import Addresses, read_passwords, write_missing
from apps.cli.topology_users import ManagementUrl
from apps.kit.settings import get_settings

app = typer.Typer(help="Give each app users of its own, with the least rights.", no_args_is_help=True)

Directory = Annotated[Path, typer.Argument(help="Has a folder per app.", file_okay=False)]
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:\d{1,5})?")


@app.command(name="secrets")
def write_secrets(
    directory: Directory,
    rabbitmq: Annotated[str, typer.Option(metavar="HOST[:PORT]", help="Where RabbitMQ is.")] = "rabbitmq",
    vhost: Annotated[str, typer.Option(help="Its virtual host.")] = "orderflow",
    mongodb: Annotated[str, typer.Option(metavar="HOST[:PORT],...", help="Where MongoDB is.")] = "mongodb",
    replica_set: Annotated[str, typer.Option(help="Its name.")] = "orderflow",
    tls: Annotated[bool, typer.Option("--tls", help="Both are reached by TLS.")] = False,
) -> None:
    """Write the secrets that are missing, random ones; those that are there stay as they are.

    There is a folder for each app, for the job that makes their users, for RabbitMQ and for MongoDB.

    Example: orderflow users secrets ./secrets --rabbitmq mq.internal --mongodb db.internal:27017
    """
    for option, hosts in (("--rabbitmq", [rabbitmq]), ("--mongodb", mongodb.split(","))):
        if not all(_HOST.fullmatch(host) for host in hosts):
            raise UsageError(
                f"{option} {','.join(hosts)}: must be a host, or a host and a port: db.internal:27017"
            )
    written = write_missing(directory, Addresses(rabbitmq, vhost, mongodb, replica_set, tls))
    result.print(f"{written} secrets were made in {directory}; what was there is as it was.")


@app.command()
def apply(
    directory: Directory,
    management_url: ManagementUrl = None,
    rabbitmq_only: Annotated[
        bool, typer.Option("--rabbitmq-only", help="The users of MongoDB are made elsewhere, as for Atlas.")
    ] = False,
) -> None:
    """Make each app's users, or give them the passwords in these files and the rights of this release.

    ORDERFLOW_RABBITMQ_URL and ORDERFLOW_MONGODB_URL must have the logins of administrators.

    Example: orderflow users apply ./secrets
    """
    passwords = read_passwords(directory)
    from apps.cli.app_users import make_broker_user, make_database_users  # noqa: PLC0415  # slow to import
    from apps.cli.system import BROKERS  # noqa: PLC0415

    settings = get_settings()
    api = ManagementApi(settings.rabbitmq_url.get_secret_value(), management_url)
    for broker in BROKERS:
        make_broker_user(api, broker, passwords[broker.app].rabbitmq)
    if not rabbitmq_only:
        make_database_users(
            settings.mongodb_url.get_secret_value(),
            settings.database_prefix,
            {name: password.mongodb for name, password in passwords.items()},
        )
    where = "RabbitMQ" if rabbitmq_only else "RabbitMQ and MongoDB"
    result.print(f"{len(passwords)} apps have users of their own at {where}.")
