"""What a virtual host of RabbitMQ holds besides messages: queues, bindings, policies, users and rights."""

from collections.abc import Mapping
from typing import Any

from apps.cli.rabbitmq_management import ManagementApi

Definitions = Mapping[str, list[dict[str, Any]]]

_RIGHTS = ("permissions", "topic_permissions")
_THINGS = ("policies", "exchanges", "queues", "bindings")


def export(api: ManagementApi) -> Definitions:
    """The definitions of the virtual host, and the users that may do something in it, passwords hashed.

    The administrator who asks is left out: whoever restores is one.

    Raises:
        UsageError: RabbitMQ refuses, with its reason.
        DependencyUnavailable: it does not answer.
    """
    everything, me = api.get("definitions"), api.get("whoami")["name"]
    ours = {
        part: [one for one in everything[part] if one["vhost"] == api.vhost and one.get("user") != me]
        for part in (*_RIGHTS, *_THINGS)
    }
    names = {right["user"] for right in ours["permissions"]}
    return {**ours, "users": [user for user in everything["users"] if user["name"] in names]}


def define(api: ManagementApi, definitions: Definitions) -> None:
    """Make all of it in the virtual host, whatever that was called before; raises as `export` does.

    The administrator who asks keeps the password and the rights of now.
    """
    me = api.get("whoami")["name"]
    names_a_user = {"users": "name", **dict.fromkeys(_RIGHTS, "user")}
    here = {
        part: [
            {**one, "vhost": api.vhost} if "vhost" in one else one
            for one in entries
            if part not in names_a_user or one[names_a_user[part]] != me
        ]
        for part, entries in definitions.items()
    }
    api.post(here, "definitions")
