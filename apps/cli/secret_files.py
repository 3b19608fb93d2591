"""Secrets as files, one folder per reader: made once, kept ever after, readable by their owner only."""

import os
import secrets
from base64 import b64encode
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from yarl import URL

from apps.cli.errors import UsageError
from apps.cli.local.stack import WORKERS

APPS = ("ingress", *WORKERS)
JOB = "topology"
"""Its users are administrators, with whom RabbitMQ and MongoDB are born; it makes all others."""

_RABBITMQ_URL = "orderflow_rabbitmq_url"
_MONGODB_URL = "orderflow_mongodb_url"
_SECRET_KEY = "orderflow_secret_key"  # noqa: S105  # a file's name

_SHARE_THE_KEY = ("ingress", "notifications", "webhooks")
"""They sign links and open them, and seal the secrets of webhooks. All others are given a key that opens
nothing: in production none starts without one."""

_APP_USER_ID = 10001
_SERVICE_USER_ID = 999
"""In the official images of RabbitMQ and of MongoDB."""


class Addresses(NamedTuple):
    """Where RabbitMQ and MongoDB will be: `host` or `host:port`, of MongoDB also several, by commas."""

    rabbitmq: str
    vhost: str
    mongodb: str
    replica_set: str
    tls: bool = False


class Passwords(NamedTuple):
    """Of one app's users."""

    rabbitmq: str
    mongodb: str


def user_of(reader: str) -> str:
    """The name by which an app or the job logs in, at RabbitMQ and at MongoDB."""
    return f"orderflow-{reader}"


def write_missing(directory: Path, addresses: Addresses) -> int:
    """Write every secret that is not there yet; returns how many those were.

    Run by root, as in a container, it gives each folder to the user as which its reader runs.
    """
    written = 0

    def keep(reader: str, name: str, secret: str, owner: int = _APP_USER_ID) -> str:
        nonlocal written
        file = directory / reader / name
        if not file.exists():
            _write(file, secret, owner)
            written += 1
        # Each reader owns its folder, and must not make root read what a link in there names.
        with os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW)) as stream:
            return stream.read().strip()

    shared_key = keep(_SHARE_THE_KEY[0], _SECRET_KEY, _random())
    for reader in (*APPS, JOB):
        keep(reader, _SECRET_KEY, shared_key if reader in _SHARE_THE_KEY else _random())
        broker = keep(reader, _RABBITMQ_URL, _rabbitmq_url(user_of(reader), addresses))
        database = keep(reader, _MONGODB_URL, _mongodb_url(user_of(reader), addresses))
    # The last of them is the job's: its users come from the services' own configuration.
    keep("rabbitmq", "orderflow.conf", _rabbitmq_configuration(URL(broker)), _SERVICE_USER_ID)
    keep("mongodb", "root-username", user_of(JOB), _SERVICE_USER_ID)
    keep("mongodb", "root-password", _login(database)[1], _SERVICE_USER_ID)
    keep("mongodb", "keyfile", b64encode(secrets.token_bytes(512)).decode(), _SERVICE_USER_ID)
    return written


def read_passwords(directory: Path) -> dict[str, Passwords]:
    """What the URLs in the apps' folders say, by app.

    Raises:
        UsageError: one of them is none, or of another user.
        OSError: one of them is not there.
    """
    return {
        app: Passwords(
            _password_in(directory / app / _RABBITMQ_URL, user_of(app)),
            _password_in(directory / app / _MONGODB_URL, user_of(app)),
        )
        for app in APPS
    }


def _password_in(file: Path, expected_user: str) -> str:
    user, password = _login(file.read_text().strip())
    if user != expected_user or not password:
        raise UsageError(f"{file}: must be a URL with the user {expected_user} and a password")
    return password


def _login(url: str) -> tuple[str, str]:
    """User and password in a URL, which may have several hosts; empty where there are none."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "", ""
    return unquote(parts.username or ""), unquote(parts.password or "")


def _random() -> str:
    """256 bits in characters that need no quoting, neither in a URL nor in a configuration file."""
    return secrets.token_urlsafe(32)


def _rabbitmq_url(user: str, addresses: Addresses) -> str:
    scheme = "amqps" if addresses.tls else "amqp"
    url = URL(f"{scheme}://{addresses.rabbitmq}").with_user(user).with_password(_random())
    return str(url.with_path(f"/{addresses.vhost}"))


def _mongodb_url(user: str, addresses: Addresses) -> str:
    options = f"replicaSet={addresses.replica_set}&authSource=admin{'&tls=true' if addresses.tls else ''}"
    return f"mongodb://{user}:{_random()}@{addresses.mongodb}/?{options}"


def _rabbitmq_configuration(administrator: URL) -> str:
    return (
        f"default_user = {administrator.user}\n"
        f"default_pass = {administrator.password}\n"
        f"default_vhost = {administrator.path.removeprefix('/') or '/'}\n"
    )


def _write(file: Path, secret: str, owner: int) -> None:
    """Write a file whole or not at all, for its owner's eyes only from its first byte on."""
    _make_folder(file.parent, owner)
    unfinished = file.with_name(f".{file.name}.new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "w") as stream:
        stream.write(secret)
        stream.flush()
        _give(stream.fileno(), owner)
        os.fsync(stream.fileno())  # else a power cut may leave the name without the content
    unfinished.replace(file)


def _make_folder(folder: Path, owner: int) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.geteuid() != 0:
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(descriptor).st_uid != owner:
            os.fchmod(descriptor, 0o700)  # a volume, as it was mounted
            _give(descriptor, owner)
    finally:
        os.close(descriptor)


def _give(descriptor: int, owner: int) -> None:
    if os.geteuid() == 0:
        os.fchown(descriptor, owner, owner)
