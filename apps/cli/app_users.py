"""The apps' own users: each may do at RabbitMQ and at MongoDB what its code does there, and nothing else."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from pymongo.uri_parser import parse_uri

from apps.cli.broker_users import exactly
from apps.cli.mongodb_client import connected
from apps.cli.rabbitmq_management import ManagementApi
from apps.cli.secret_files import APPS, user_of
from apps.kit.broker import EventBroker
from apps.kit.settings import database_name
from apps.kit.specification.operations import sent_by
from apps.kit.topology import DEAD, EVENTS, REPLAY, RETRY_LEVELS, bindings_of, event_of

_OPERATOR = "ingress"
"""Replays dead letters: into any inbox, and what no queue wanted under the topic that it had."""
_STORES_OF_THE_OPERATOR = ("orders", "recovery", "webhooks", "access", "documents")
_READ_BY_THE_OPERATOR = ("stock", "billing", "notifications")
"""What the console shows of an order, and their apps alone may change."""

_ANYTHING, _NOTHING = ".*", "^$"


STORES = sorted({*_STORES_OF_THE_OPERATOR, *(app for app in APPS if app != _OPERATOR)})
"""Every database, by what follows the prefix in its name."""


class BrokerRights(NamedTuple):
    """Regular expressions for queues and exchanges, for the topics of events, and for keys of retries."""

    read: str
    write: str
    receive: str
    publish: str
    retry: str


def broker_rights(broker: EventBroker) -> BrokerRights:
    """What an app does at RabbitMQ, by its subscribers and publishers.

    A consumer reads its queue and keeps it bound, for which RabbitMQ asks for the right to write to the queue
    and to read from the exchange. What it cannot handle it writes to the retry levels or the dead letters; a
    retry level writes to whatever queue the key names, so that the key must be one of the app's own.
    """
    bindings = [binding for consumer in broker.consumers for binding in bindings_of(consumer.queue)]
    received = {binding.routing_key for binding in bindings if binding.exchange is EVENTS}
    published = {event.topic for event in sent_by(broker)}
    write = {binding.queue.name for binding in bindings}
    inboxes = {binding.queue.name for binding in bindings if event_of(binding.queue)}
    if inboxes:
        write |= {DEAD.name, *(level.exchange.name for level in RETRY_LEVELS)}
    if published:
        write.add(EVENTS.name)
    if broker.app == _OPERATOR:
        write.add(REPLAY.name)
    return BrokerRights(
        read=_only({name for binding in bindings for name in (binding.queue.name, binding.exchange.name)}),
        write=_only(write),
        receive=_only(received),
        publish=_ANYTHING if broker.app == _OPERATOR else _only(published),
        retry=_only(inboxes),
    )


def stores_of(app: str) -> Collection[str]:
    """What an app reads and writes: the database of its name, or as the ingress those of several apps."""
    return _STORES_OF_THE_OPERATOR if app == _OPERATOR else (app,)


def stores_read_by(app: str) -> Collection[str]:
    """What an app reads, and does not write."""
    return _READ_BY_THE_OPERATOR if app == _OPERATOR else ()


def make_broker_user(api: ManagementApi, broker: EventBroker, password: str) -> None:
    """Let an app do at RabbitMQ what its code does; done again, it sets password and rights anew.

    Raises:
        UsageError: RabbitMQ refuses, with its reason.
        DependencyUnavailable: it does not answer.
    """
    name, rights = user_of(broker.app), broker_rights(broker)
    api.put({"password": password, "tags": ""}, "users", name)
    # The narrower right first: without it, the right to write to the exchange is one to every event.
    topics = {"exchange": EVENTS.name, "read": rights.receive, "write": rights.publish}
    api.put(topics, "topic-permissions", api.vhost, name)
    for level in RETRY_LEVELS:
        keys = {"exchange": level.exchange.name, "read": _NOTHING, "write": rights.retry}
        api.put(keys, "topic-permissions", api.vhost, name)
    permissions = {"configure": _NOTHING, "read": rights.read, "write": rights.write}
    api.put(permissions, "permissions", api.vhost, name)


def make_database_users(mongodb_url: str, database_prefix: str, passwords: Mapping[str, str]) -> None:
    """Let each app use the databases that it needs; done again, it sets passwords and rights anew.

    A server that was started as the only member of a replica set and is not one yet is made one.

    Args:
        mongodb_url: with an administrator's login.
        database_prefix: as in the settings.
        passwords: by app.

    Raises:
        UsageError: MongoDB refuses, with its reason.
        DependencyUnavailable: it does not answer.
    """
    with connected(mongodb_url) as client:
        _initiate(mongodb_url)
        known = {user["user"] for user in client.admin.command("usersInfo")["users"]}
        for app, password in passwords.items():
            name = user_of(app)
            roles = [
                {"role": role, "db": database_name(database_prefix, store)}
                for role, stores in (("readWrite", stores_of(app)), ("read", stores_read_by(app)))
                for store in stores
            ]
            command = "updateUser" if name in known else "createUser"
            client.admin.command(command, name, pwd=password, roles=roles)


def _initiate(url: str) -> None:
    """Make a server that waits to become a replica set one of which it is the only member."""
    parsed = parse_uri(url)
    name = parsed["options"].get("replicaSet")
    (host, port), *others = parsed["nodelist"]
    if name is None or others:
        return
    with connected(url, directConnection=True, replicaSet=None) as client:
        if client.admin.command("hello").get("isreplicaset"):
            members = [{"_id": 0, "host": f"{host}:{port}"}]
            client.admin.command("replSetInitiate", {"_id": name, "members": members})


def _only(names: Collection[str]) -> str:
    return exactly(names) if names else _NOTHING
