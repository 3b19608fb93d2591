"""What compose.yml relies on of the official entrypoint: makes the administrator once, then is mongod."""

import os
import subprocess
import sys
from pathlib import Path

from pymongo import MongoClient

DATA = Path("/data/db")
ONLY_WITH_USERS = {"--replSet", "--keyFile"}
"""Not at the first start, which makes the first user: with a key file nobody but users may enter."""


def secret(variable: str) -> str:
    return Path(os.environ[f"{variable}_FILE"]).read_text().strip()


def make_administrator(command: list[str]) -> None:
    """Start a mongod for this container alone, make the user, and stop it again."""
    kept = [
        word
        for word, before in zip(command, ["", *command], strict=False)
        if not {word, before} & ONLY_WITH_USERS and word != "--bind_ip_all"
    ]
    with subprocess.Popen([*kept, "--bind_ip", "127.0.0.1"]) as mongod:  # noqa: S603  # as the container is told
        client = MongoClient("mongodb://127.0.0.1/?directConnection=true")
        client.admin.command(
            "createUser",
            secret("MONGO_INITDB_ROOT_USERNAME"),
            pwd=secret("MONGO_INITDB_ROOT_PASSWORD"),
            roles=[{"role": "root", "db": "admin"}],
        )
        mongod.terminate()


if __name__ == "__main__":
    if not (DATA / "WiredTiger").exists():
        make_administrator(sys.argv[1:])
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606
