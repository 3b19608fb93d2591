"""Private services for a whole run, and in them a virtual host and databases for each round."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self
from urllib.parse import quote
from uuid import uuid4

import httpx
from pymongo import MongoClient

from apps.cli.local.mongodb import MongoReplicaSet
from apps.cli.local.rabbitmq import RabbitNode
from tests.bench.contender import Place


class Services:
    """One RabbitMQ node and one MongoDB replica set, up while the context is open."""

    def __init__(self, directory: Path) -> None:
        self.rabbitmq = RabbitNode(directory / "rabbitmq")
        self.mongodb = MongoReplicaSet(directory / "mongodb", cache_gb=4)
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        for service in (self.rabbitmq, self.mongodb):
            service.start()
            self._undo.callback(service.stop)
        self._management = self._undo.enter_context(
            httpx.Client(
                base_url=self.rabbitmq.management_url, auth=self.rabbitmq.login, trust_env=False, timeout=30
            )
        )
        return self

    def __exit__(self, *_error: object) -> None:
        self._undo.close()

    @property
    def pids(self) -> dict[str, int]:
        """The process ids of both."""
        return {"rabbitmq": self.rabbitmq.pid, "mongodb": self.mongodb.pid}

    @contextmanager
    def place(self, settings: Mapping[str, str] = {}) -> Iterator[Place]:
        """A virtual host and databases of its own; both are dropped at the end."""
        name = f"bench_{uuid4().hex[:8]}"
        host = f"/api/vhosts/{quote(name, safe='')}"
        user, _ = self.rabbitmq.login
        self._management.put(host).raise_for_status()
        rights = {"configure": ".*", "write": ".*", "read": ".*"}
        self._management.put(f"/api/permissions/{name}/{user}", json=rights).raise_for_status()
        try:
            url = self.rabbitmq.url + name
            yield Place(url, self.mongodb.url, name, settings)
        finally:
            self._management.delete(host).raise_for_status()
            self._drop(name)

    def _drop(self, name: str) -> None:
        with MongoClient(self.mongodb.url) as client:
            for database in client.list_database_names():
                if database.startswith(name):
                    client.drop_database(database)

    def versions(self) -> dict[str, str]:
        """Of both servers."""
        overview = self._management.get("/api/overview").raise_for_status().json()
        with MongoClient(self.mongodb.url) as client:
            return {"rabbitmq": overview["rabbitmq_version"], "mongodb": client.server_info()["version"]}
