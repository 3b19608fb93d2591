"""`orderflow topology user`: broker users for other systems that publish or receive events themselves."""

import re
from dataclasses import asdict
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated

import typer

from apps.cli.errors import UsageError
from apps.cli.output import AsJson, progress, result, show_json, show_table
from apps.cli.rabbitmq_management import ManagementApi
from apps.kit.settings import get_settings

if TYPE_CHECKING:  # takes a second to import
    from apps.cli.broker_users import BrokerUsers, Role

app = typer.Typer(help="Give other systems access to the events.", no_args_is_help=True)

_NAME = re.compile("[a-z][a-z0-9-]{2,49}")
_SHORTEST_PASSWORD = 16

Name = Annotated[str, typer.Argument(help="Of the user: small letters, digits and hyphens.")]
Events = Annotated[list[str], typer.Option("--event", help="Its topic; repeat it.")]
NewPassword = Annotated[
    bool, typer.Option("--new-password", help="Make another password; open connections are closed.")
]
PasswordFile = Annotated[
    typer.FileText | None,
    typer.Option(help="Take the password from this file, from standard input if it is -."),
]
ManagementUrl = Annotated[
    str | None,
    typer.Option(
        envvar="ORDERFLOW_RABBITMQ_MANAGEMENT_URL",
        help="RabbitMQ's management API, with an administrator's login unless ORDERFLOW_RABBITMQ_URL has one;"
        " else port 15672 of the broker's host.",
        show_envvar=True,
    ),
]


@app.command()
def publisher(
    name: Name,
    event: Events,
    new_password: NewPassword = False,
    password_file: PasswordFile = None,
    management_url: ManagementUrl = None,
) -> None:
    """Make a user that may publish these events and nothing else, or change which they are.

    Prints its URL, with the password if that is new: it is shown this once.

    Example: orderflow topology user publisher marketplace --event order.created.v1
    """
    from apps.cli.broker_users import Role  # noqa: PLC0415  # slow to import

    _grant(Role.PUBLISHER, name, event, management_url, new_password, password_file)


@app.command()
def subscriber(
    name: Name,
    event: Events,
    new_password: NewPassword = False,
    password_file: PasswordFile = None,
    management_url: ManagementUrl = None,
) -> None:
    """Make a user that may read these events from a queue of its own, or change which they are.

    Prints its URL, with the password if that is new: it is shown this once.

    Example: orderflow topology user subscriber erp --event invoice.issued.v1 --event invoice.voided.v1
    """
    from apps.cli.broker_users import Role  # noqa: PLC0415  # slow to import

    _grant(Role.SUBSCRIBER, name, event, management_url, new_password, password_file)


@app.command(name="list")
def list_users(management_url: ManagementUrl = None, as_json: AsJson = False) -> None:
    """List these users, what they may publish or receive, and what waits for them.

    Example: orderflow topology user list
    """
    _, users = _connect(management_url)
    found = users.list()
    if as_json:
        show_json([asdict(user) for user in found])
        return
    show_table(
        ("user", "role", "events", "queue", "waiting"),
        [(user.name, user.role, " ".join(user.events), user.queue, user.waiting) for user in found],
    )


@app.command()
def remove(name: Name, management_url: ManagementUrl = None) -> None:
    """Delete such a user, and a subscriber's queue with what waits in it; its connections are closed.

    Example: orderflow topology user remove marketplace
    """
    _, users = _connect(management_url)
    user = users.find(name)
    if user is None:
        raise UsageError(f"{name}: there is no such user, `orderflow topology user list` shows all")
    users.remove(user)
    result.print(f"{name} is removed")


def _grant(
    role: "Role",
    name: str,
    events: list[str],
    management_url: str | None,
    new_password: bool,
    password_file: typer.FileText | None,
) -> None:
    from apps.cli.broker_users import make_password, queue_of  # noqa: PLC0415  # slow to import

    for event in events:
        _require_event(event)
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name}: a name has 3 to 50 small letters, digits and hyphens, a letter first")
    if new_password and password_file is not None:
        raise UsageError("--new-password makes a password and --password-file brings one: choose one of them")
    wanted = make_password() if new_password else None
    if password_file is not None:
        wanted = _password_in(password_file)
    api, users = _connect(management_url)
    password = users.grant(name, role, events, wanted)
    topics = ", ".join(sorted(set(events)))
    publishes = f"may publish {topics} to the exchange events"
    receives = f"receives {topics} in the queue {queue_of(name)}"
    progress.print(f"{name} {publishes if role == 'publisher' else receives}.", highlight=False)
    if password is None:
        progress.print("Its password is as it was.")
        return
    progress.print("This is the only time that its password is shown:")
    typer.echo(api.rabbitmq_url.with_user(name).with_password(password).with_query(None))


def _require_event(topic: str) -> None:
    from apps.cli.broker_users import known_topics  # noqa: PLC0415  # slow to import

    if topic not in known_topics():
        nearest = get_close_matches(topic.lower(), known_topics(), cutoff=0.5)
        hint = (
            f"did you mean {' or '.join(nearest)}?" if nearest else f"known are {', '.join(known_topics())}"
        )
        raise UsageError(f"--event {topic}: there is no such event; {hint}")


def _password_in(file: typer.FileText) -> str:
    password = file.read().rstrip("\r\n")
    if len(password) < _SHORTEST_PASSWORD or not password.isprintable():
        raise UsageError(f"--password-file: must hold one line of {_SHORTEST_PASSWORD} characters or more")
    return password


def _connect(management_url: str | None) -> tuple[ManagementApi, "BrokerUsers"]:
    from apps.cli.broker_users import BrokerUsers  # noqa: PLC0415  # slow to import

    api = ManagementApi(get_settings().rabbitmq_url.get_secret_value(), management_url)
    return api, BrokerUsers(api)
