"""The MongoDB that `orderflow up` starts, where a real one cannot be made to answer so."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pymongo.errors import OperationFailure

from apps.cli.local.mongodb import ALREADY_INITIALIZED, NOT_YET_INITIALIZED, MongoReplicaSet
from apps.cli.local.ports import LOOPBACK


def test_mongod_that_is_reading_its_configuration_is_asked_again(tmp_path: Path) -> None:
    """Started on old data, it denies for a moment that it has any configuration, and refuses a new one."""
    configuration = {"version": 1, "members": [{"_id": 0, "host": f"{LOOPBACK}:0"}]}
    answers: list[Any] = [
        OperationFailure("no config has been received", NOT_YET_INITIALIZED),
        OperationFailure("already initialized", ALREADY_INITIALIZED),
        {"config": configuration},
    ]

    def command(*_: Any) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    client: Any = SimpleNamespace(admin=SimpleNamespace(command=command))
    mongodb = MongoReplicaSet(tmp_path)
    assert [mongodb._configure(client) for _ in range(2)] == [False, True]
    assert not answers
