"""A private one-member MongoDB replica set, so that transactions work; its data stays in its directory."""

import importlib.util
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import ConnectionFailure, OperationFailure

from apps.cli.local.daemon import Daemon
from apps.cli.local.errors import LocalServiceError
from apps.cli.local.ports import LOOPBACK, is_listening, remembered_port

REPLICA_SET = "orderflow"
NOT_YET_INITIALIZED = 94
ALREADY_INITIALIZED = 23
START_TIMEOUT_SECONDS = 120.0
SMALL_CACHE_GB = 0.25


class MongoReplicaSet:
    """One mongod on loopback; it is the primary when `start` returns."""

    def __init__(
        self, directory: Path, *, parameters: Sequence[str] = (), cache_gb: float = SMALL_CACHE_GB
    ) -> None:
        """Prepare without starting anything.

        Args:
            directory: holds its data and its log.
            parameters: server parameters as `name=value`.
            cache_gb: memory for data and indexes, in GB.
        """
        self._directory = directory.resolve()
        self._parameters = parameters
        self._cache_gb = cache_gb
        self._daemon = Daemon("mongodb", self._directory)
        self._port = 0

    @property
    def url(self) -> str:
        """Connects directly: the address in the replica set's configuration need not be known."""
        return f"mongodb://{LOOPBACK}:{self._port}/?directConnection=true"

    @property
    def pid(self) -> int:
        """Process id of mongod."""
        return self._daemon.pid

    def start(self) -> None:
        """Start mongod on the data of the last time, if there is some."""
        binary = find_mongod()
        if binary is None:
            raise LocalServiceError(
                "mongod was not found: install MongoDB 6 or later, name its mongod in ORDERFLOW_MONGOD, "
                "or a running replica set in ORDERFLOW_MONGODB_URL"
            )
        data = self._directory / "data"
        data.mkdir(parents=True, exist_ok=True)
        self._port = remembered_port(self._directory / "port")
        command = mongod_command(binary, data, self._port, self._parameters, self._cache_gb)
        self._daemon.start(command, env=os.environ)
        try:
            self._wait_until_primary(time.monotonic() + START_TIMEOUT_SECONDS)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop mongod cleanly; the data stays."""
        self._daemon.stop()

    def kill(self) -> None:
        """End mongod as a loss of power would, with SIGKILL."""
        self._daemon.stop(timeout_seconds=0)

    def _wait_until_primary(self, deadline: float) -> None:
        while not is_listening(self._port):
            self._daemon.check_running(deadline)
        with MongoClient[dict[str, Any]](self.url, serverSelectionTimeoutMS=2000) as client:
            configured = False
            while True:
                try:
                    if not configured:
                        configured = self._configure(client)
                    if client.admin.command("hello")["isWritablePrimary"]:
                        return
                except ConnectionFailure:
                    pass  # just bound, not yet answering
                self._daemon.check_running(deadline)

    def _configure(self, client: MongoClient[dict[str, Any]]) -> bool:
        """Make this mongod the only member, under its present address; False if it has to be asked again."""
        address = f"{LOOPBACK}:{self._port}"
        try:
            config = client.admin.command("replSetGetConfig")["config"]
        except OperationFailure as failure:
            if failure.code != NOT_YET_INITIALIZED:
                raise
            members = [{"_id": 0, "host": address}]
            try:
                client.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": members})
            except OperationFailure as refusal:
                if refusal.code != ALREADY_INITIALIZED:
                    raise
                return False  # it has only just read the configuration of the last time
            return True
        if config["members"][0]["host"] != address:
            config["members"][0]["host"] = address
            config["version"] += 1
            # No member recognises itself under the old address, so there is no primary to ask: force it.
            client.admin.command("replSetReconfig", config, force=True)
        return True


def mongod_command(
    binary: Path,
    data: Path,
    port: int,
    parameters: Sequence[str] = (),
    cache_gb: float = SMALL_CACHE_GB,
) -> list[str]:
    """What runs one member of the replica set on loopback, made for a small machine."""
    every = (
        "diagnosticDataCollectionEnabled=false",
        # What a killed worker has locked is free again after this, not after a minute.
        "transactionLifetimeLimitSeconds=5",
        # By default a stopping member gives the others 15 s to notice; there are no others.
        "shutdownTimeoutMillisForSignaledShutdown=100",
        *parameters,
    )
    return [
        *(str(binary), "--dbpath", str(data), "--replSet", REPLICA_SET, "--quiet"),
        *("--bind_ip", LOOPBACK, "--port", str(port), "--nounixsocket"),
        *("--wiredTigerCacheSizeGB", str(cache_gb), "--oplogSize", "256"),
        *(word for parameter in every for word in ("--setParameter", parameter)),
    ]


def find_mongod() -> Path | None:
    """The mongod to use: ORDERFLOW_MONGOD, that of the development dependencies, or the one on the path."""
    if named := os.environ.get("ORDERFLOW_MONGOD"):
        return Path(named).resolve() if Path(named).is_file() else None
    # The wheel's package looks for a home directory when imported; only its place is wanted.
    if (package := importlib.util.find_spec("fiftyone")) is not None:
        for location in package.submodule_search_locations or ():
            binary = Path(location) / "db" / "bin" / "mongod"
            if binary.is_file():
                if not os.access(binary, os.X_OK):
                    binary.chmod(0o755)
                return binary
    on_path = shutil.which("mongod")
    return Path(on_path) if on_path else None
