"""Broker users of other systems: each can do what it is for, and RabbitMQ refuses it everything else."""

import re
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from apps.cli.errors import UsageError
from apps.cli.rabbitmq_management import ManagementApi
from apps.kit.topology import DELIVERY_LIMIT, EVENTS
from contracts import EVENTS as CONTRACTS

MOST_WAITING = 100_000
"""Messages in a subscriber's queue: a day's, at one event a second."""
MOST_WAITING_BYTES = 500_000_000
"""On the broker's disk, which everybody shares."""
MOST_REJECTED = 10_000

_NOTHING = "^$"


class Role(StrEnum):
    """What a user is for."""

    PUBLISHER = "publisher"
    SUBSCRIBER = "subscriber"

    @property
    def tag(self) -> str:
        """By which RabbitMQ tells our users from others; it gives no right."""
        return f"orderflow-{self}"


@dataclass(frozen=True, kw_only=True)
class BrokerUser:
    """One system's access to the events."""

    name: str
    role: Role
    events: Sequence[str]
    """Topics, sorted."""
    queue: str | None = None
    """Of a subscriber."""
    waiting: int | None = None
    """Messages in that queue, by RabbitMQ's statistics, which may be 5 s old."""


class BrokerUsers:
    """The users of one virtual host that were made here; all others are left alone."""

    def __init__(self, api: ManagementApi) -> None:
        self._api = api

    def find(self, name: str) -> BrokerUser | None:
        """A user of ours, None if the name is free.

        Raises:
            UsageError: the name belongs to somebody else.
        """
        account = self._api.get("users", name)
        if account is None:
            return None
        role = _role(account)
        if role is None:
            raise UsageError(f"{name}: is taken by a user that Orderflow did not make, choose another name")
        if others := self._vhosts(name) - {self._api.vhost}:
            raise UsageError(f"{name}: is taken by a user of the virtual host {min(others)!r}")
        if role is Role.PUBLISHER:
            return BrokerUser(name=name, role=role, events=self._publishable(name))
        queue = self._api.get("queues", self._api.vhost, queue_of(name)) or {}
        events = sorted(self._bound(name))
        return BrokerUser(
            name=name, role=role, events=events, queue=queue_of(name), waiting=queue.get("messages")
        )

    def list(self) -> Sequence[BrokerUser]:
        """All users of ours, by name."""
        names = (account["name"] for account in self._api.get("users") if _role(account))
        ours = (self.find(name) for name in sorted(names) if self._vhosts(name) <= {self._api.vhost})
        return [user for user in ours if user is not None]

    def grant(self, name: str, role: Role, topics: Collection[str], password: str | None) -> str | None:
        """Let a user, made if need be, publish or receive these events and no others.

        Args:
            name: of the user.
            role: which of both.
            topics: of the events.
            password: a new one; without it, a user keeps its own, and a new user gets one made.

        Returns:
            The password, if it was set.

        Raises:
            UsageError: the name is taken, or the topology is not there.
        """
        if self._api.get("exchanges", self._api.vhost, EVENTS.name) is None:
            raise UsageError(
                f"the virtual host {self._api.vhost!r} has no exchange {EVENTS.name!r}:"
                " run `orderflow topology apply` first"
            )
        before = self.find(name)
        if before is None:
            password = password or make_password()
        elif before.role is not role:
            raise UsageError(f"{name}: is a {before.role} and cannot be a {role} too, choose another name")
        if password is not None:
            self._api.put({"password": password, "tags": role.tag}, "users", name)
        if role is Role.PUBLISHER:
            self._let_publish(name, topics)
        else:
            self._let_receive(name, topics)
        if before is not None and (password is not None or set(before.events) != set(topics)):
            # An open connection would stay, with its old password, and with rights that RabbitMQ remembers.
            self._api.delete("connections", "username", name)
        return password

    def remove(self, user: BrokerUser) -> None:
        """Delete a user, which ends its connections, and its queues with what waits in them."""
        if user.role is Role.SUBSCRIBER:
            for queue in _queues(user.name):
                self._api.delete("queues", self._api.vhost, queue)
        self._api.delete("users", user.name)

    def _let_publish(self, name: str, topics: Collection[str]) -> None:
        # The narrower right first: without it, the right to write to the exchange is one to every event.
        topic_rights = {"exchange": EVENTS.name, "write": exactly(topics), "read": _NOTHING}
        self._api.put(topic_rights, "topic-permissions", self._api.vhost, name)
        self._permit(name, write=f"^{EVENTS.name}$", read=_NOTHING)

    def _let_receive(self, name: str, topics: Collection[str]) -> None:
        for queue, arguments in _queues(name).items():
            self._api.put({"durable": True, "arguments": arguments}, "queues", self._api.vhost, queue)
        bound = self._bound(name)
        bindings = ("bindings", self._api.vhost, "e", EVENTS.name, "q", queue_of(name))
        for topic in set(topics) - bound.keys():
            self._api.post({"routing_key": topic}, *bindings)
        for topic in bound.keys() - set(topics):
            self._api.delete(*bindings, bound[topic])
        self._permit(name, write=_NOTHING, read=rf"^{re.escape(queue_of(name))}(\.rejected)?$")

    def _permit(self, name: str, *, write: str, read: str) -> None:
        rights = {"configure": _NOTHING, "write": write, "read": read}
        self._api.put(rights, "permissions", self._api.vhost, name)

    def _publishable(self, name: str) -> Sequence[str]:
        rights = [
            right["write"]
            for right in self._api.get("users", name, "topic-permissions") or ()
            if (right["vhost"], right["exchange"]) == (self._api.vhost, EVENTS.name)
        ]
        return sorted(topic for topic in known_topics() if any(re.search(right, topic) for right in rights))

    def _bound(self, name: str) -> dict[str, str]:
        """What leads into a subscriber's queue: topics, with RabbitMQ's names of their bindings."""
        bindings = self._api.get("queues", self._api.vhost, queue_of(name), "bindings") or ()
        return {
            binding["routing_key"]: binding["properties_key"]
            for binding in bindings
            if binding["source"] == EVENTS.name
        }

    def _vhosts(self, name: str) -> set[str]:
        return {right["vhost"] for right in self._api.get("users", name, "permissions") or ()}


def make_password() -> str:
    """One that nobody can guess, in characters that need no quoting in a URL."""
    return secrets.token_urlsafe(24)


def known_topics() -> Sequence[str]:
    """Every event's topic, in the order of the contracts."""
    return [event.topic for event in CONTRACTS]


def queue_of(name: str) -> str:
    """The queue from which a subscriber reads."""
    return f"subscriber.{name}"


def _queues(name: str) -> dict[str, dict[str, Any]]:
    """A subscriber's queue, and the one that keeps what it rejects, with their arguments.

    Whoever stops reading must harm nobody else: a full queue drops its oldest message, where one that refused
    the newest would have the publisher's own event refused.
    """
    queue, rejected = queue_of(name), f"{queue_of(name)}.rejected"
    bounded = {"x-queue-type": "quorum", "x-overflow": "drop-head", "x-max-length-bytes": MOST_WAITING_BYTES}
    return {
        rejected: {**bounded, "x-max-length": MOST_REJECTED},
        queue: {
            **bounded,
            "x-max-length": MOST_WAITING,
            "x-delivery-limit": DELIVERY_LIMIT,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": rejected,
        },
    }


def exactly(topics: Collection[str]) -> str:
    """A regular expression for these routing keys only: `$` alone would let a line feed follow them."""
    return rf"^({'|'.join(map(re.escape, sorted(topics)))})(?!\n)$"


def _role(account: dict[str, Any]) -> Role | None:
    return next((role for role in Role if role.tag in account["tags"]), None)
