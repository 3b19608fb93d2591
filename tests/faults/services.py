"""The services of a session: one RabbitMQ node and one MongoDB, which scenarios break and put right again."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from apps.cli.local.daemon import Daemon
from apps.cli.local.errors import LocalServiceError
from apps.cli.local.mongodb import REPLICA_SET, MongoReplicaSet, find_mongod, mongod_command
from apps.cli.local.ports import LOOPBACK, free_port
from apps.cli.local.rabbitmq import RabbitNode

STATISTICS_SECONDS = 1.0
"""How often RabbitMQ counts what is in its queues; by default it is 5 s."""


@dataclass
class Services:
    """What all systems of a session share, each with a virtual host and a database prefix of its own."""

    rabbitmq: RabbitNode
    mongodb: MongoReplicaSet
    rabbitmq_version: str

    async def restore(self) -> None:
        """Undo what a scenario that failed has left behind: the next one begins with sound services."""
        if not await asyncio.to_thread(self.rabbitmq.is_ready):
            await asyncio.to_thread(self.rabbitmq.kill)
            await asyncio.to_thread(self.rabbitmq.start)
        try:
            await asyncio.to_thread(_ping, self.mongodb.url)
        except (PyMongoError, LocalServiceError):
            await asyncio.to_thread(self.mongodb.kill)
            await asyncio.to_thread(self.mongodb.start)


def rabbit_node(directory: Path) -> RabbitNode:
    """A node, not started, that counts often and keeps its ports."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("port", "management-port"):
        (directory / name).write_text(f"{free_port()}\n")
    milliseconds = round(STATISTICS_SECONDS * 1000)
    return RabbitNode(
        directory,
        configuration=f"collect_statistics_interval = {milliseconds}\n",
        erl_arguments=f"-rabbit quorum_tick_interval {milliseconds}",
    )


def mongo_server(directory: Path) -> MongoReplicaSet:
    """A one-member replica set, not started, that keeps its port and obeys `failCommand`."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "port").write_text(f"{free_port()}\n")
    return MongoReplicaSet(directory, parameters=("enableTestCommands=1",))


@asynccontextmanager
async def running_services(home: Path) -> AsyncIterator[Services]:
    """Both services, until the context closes."""
    rabbitmq, mongodb = rabbit_node(home / "rabbitmq"), mongo_server(home / "mongodb")
    try:
        for service in (rabbitmq, mongodb):
            await asyncio.to_thread(service.start)
        async with httpx.AsyncClient(auth=rabbitmq.login, trust_env=False) as http:
            overview = (await http.get(f"{rabbitmq.management_url}/api/overview")).json()
        yield Services(rabbitmq, mongodb, overview["rabbitmq_version"])
    finally:
        for service in (rabbitmq, mongodb):
            await asyncio.to_thread(service.stop)


class ThreeMembers:
    """A replica set of three on this machine, for what one member cannot show: elections."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ports = [free_port() for _ in range(3)]
        self._members = [Daemon("mongod", directory / str(number)) for number in range(3)]

    @property
    def url(self) -> str:
        hosts = ",".join(f"{LOOPBACK}:{port}" for port in self._ports)
        return f"mongodb://{hosts}/?replicaSet={REPLICA_SET}"

    def start(self) -> None:
        """Start all members; when it returns there is a primary."""
        for number in range(3):
            self.start_member(number)
        for port in self._ports:
            # Each must answer, or it is not let in.
            _ping(f"mongodb://{LOOPBACK}:{port}/?directConnection=true", timeout_seconds=60)
        first = f"mongodb://{LOOPBACK}:{self._ports[0]}/?directConnection=true"
        members = [{"_id": number, "host": f"{LOOPBACK}:{port}"} for number, port in enumerate(self._ports)]
        # An election after 2 s instead of 10: the scenario is about what it does, not how long it takes.
        config = {"_id": REPLICA_SET, "members": members, "settings": {"electionTimeoutMillis": 2000}}
        with MongoClient[dict[str, Any]](first, serverSelectionTimeoutMS=30_000) as client:
            client.admin.command("replSetInitiate", config)
        self.primary()

    def start_member(self, number: int) -> None:
        """Start one member on the data that it has."""
        binary = find_mongod()
        assert binary is not None, "there is no mongod"
        data = self._directory / str(number) / "data"
        data.mkdir(parents=True, exist_ok=True)
        self._members[number].start(mongod_command(binary, data, self._ports[number]), os.environ)

    def primary(self, deadline_seconds: float = 60) -> int:
        """Number of the present primary, once there is one that a majority follows."""
        deadline = time.monotonic() + deadline_seconds
        with MongoClient[dict[str, Any]](self.url, serverSelectionTimeoutMS=1000) as client:
            while True:
                try:
                    client.admin.command("ping")
                    if client.primary is not None:
                        return self._ports.index(client.primary[1])
                except PyMongoError:
                    assert time.monotonic() < deadline, "no primary in time"

    def step_down(self) -> None:
        """Make the primary give up its place for ten seconds."""
        with MongoClient[dict[str, Any]](self.url, serverSelectionTimeoutMS=10_000) as client:
            client.admin.command("replSetStepDown", 10, secondaryCatchUpPeriodSecs=5, force=True)

    def kill_member(self, number: int) -> None:
        self._members[number].stop(timeout_seconds=0)

    def stop(self) -> None:
        for member in self._members:
            member.stop()


def _ping(url: str, timeout_seconds: int = 3) -> None:
    with MongoClient[dict[str, Any]](url, serverSelectionTimeoutMS=timeout_seconds * 1000) as client:
        client.admin.command("ping")
