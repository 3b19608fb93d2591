"""What a backup and a restore do with files, logins and refusals, without RabbitMQ and MongoDB."""

from typing import Any

import pytest
from bson import encode
from bson.raw_bson import RawBSONDocument
from pymongo.errors import BulkWriteError, OperationFailure, PyMongoError

from apps.cli.errors import UsageError
from apps.cli.mongodb_client import connected
from apps.cli.mongodb_dump import _batches
from apps.cli.rabbitmq_definitions import Definitions, define
from apps.cli.rabbitmq_management import ManagementApi

MIB = 1024 * 1024
NOBODY_LISTENS = "mongodb://127.0.0.1:1/"


@pytest.mark.parametrize(
    ("sizes", "batches"),
    [
        ([10] * 2001, [1000, 1000, 1]),
        ([8 * MIB] * 5, [2, 2, 1]),
        ([20 * MIB, 10], [1, 1]),
        ([], []),
    ],
)
def test_batch_is_neither_long_nor_large(sizes: list[int], batches: list[int]) -> None:
    """Parts of dead letters have 8 MiB each: a thousand of them at once would not fit into memory."""
    documents = (RawBSONDocument(encode({"part": bytes(size)})) for size in sizes)
    assert [len(batch) for batch in _batches(documents)] == batches


class RecordingApi(ManagementApi):
    """RabbitMQ's, of which the administrator `me` asks; keeps what it is given."""

    posted: Definitions

    def get(self, *path: str) -> Any:
        """Tell who asks."""
        assert path == ("whoami",)
        return {"name": "me"}

    def post(self, body: Any, *path: str) -> None:
        """Keep the definitions."""
        assert path == ("definitions",)
        self.posted = body


def test_restore_leaves_the_restoring_administrator_alone() -> None:
    """Its password and rights may be others now than when another administrator made the backup."""
    api = RecordingApi("amqp://mq/new")
    rights = [{"user": "me", "vhost": "old"}, {"user": "marketplace", "vhost": "old"}]
    users = [{"name": "me", "password_hash": "former"}, {"name": "marketplace", "password_hash": "x"}]
    queues = [{"name": "me", "vhost": "old"}]

    define(api, {"users": users, "permissions": rights, "topic_permissions": rights[:1], "queues": queues})

    assert api.posted == {
        "users": users[1:],
        "permissions": [{"user": "marketplace", "vhost": "new"}],
        "topic_permissions": [],
        "queues": [{"name": "me", "vhost": "new"}],
    }


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (
            BulkWriteError({"writeErrors": [{"code": 11000, "op": {"name": "Ana"}}]}),
            "BulkWriteError, code 11000",
        ),
        (
            BulkWriteError({"writeErrors": [], "writeConcernErrors": [{"code": 64, "errmsg": "Ana"}]}),
            "BulkWriteError, code 64",
        ),
        (OperationFailure("full: Ana", 8000, {"document": "Ana"}), "OperationFailure, code 8000"),
        (OperationFailure("Ana", 13, {"errmsg": "not authorized"}), "not authorized"),
        (PyMongoError("says why"), "says why"),
    ],
)
def test_refusal_shows_no_document(error: PyMongoError, shown: str) -> None:
    """Documents hold customers' data, and what a command prints may end up in a log."""
    with pytest.raises(UsageError) as refused, connected(NOBODY_LISTENS):
        raise error
    assert str(refused.value) == f"ORDERFLOW_MONGODB_URL: MongoDB refuses: {shown}"
