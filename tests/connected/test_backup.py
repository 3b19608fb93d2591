"""Backup and restore, rehearsed: a copy made under load comes back, and every order in it reaches its end."""

import asyncio
import json
import shutil
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage
from bson import UuidRepresentation, decode_all
from bson.codec_options import CodecOptions
from conftest import SETTINGS, System, body_of, eventually, new_order
from own_system import OwnSystem, management, own_system, own_vhost
from pymongo import AsyncMongoClient, MongoClient
from test_commands import Result, orderflow

from apps.cli.backup import _verified_manifest
from apps.cli.books import Stores
from apps.cli.errors import UsageError
from apps.cli.local.mongodb import MongoReplicaSet
from apps.cli.local.rabbitmq import RabbitNode

pytestmark = pytest.mark.connected

UNITS = 1000
SOLD_OUT_UNITS = 2
CODEC: CodecOptions[dict[str, Any]] = CodecOptions(uuid_representation=UuidRepresentation.STANDARD)
SLOW_MAIL = {"ORDERFLOW_MAILS_PER_SECOND": "4"}
"""So that orders are on their way when the backup is made."""

USUAL_PAUSES = {"ORDERFLOW_STUCK_AFTER_SECONDS": "900"}
"""As long before the backup a message may have been sent that was still under way; other tests wait less."""


@dataclass(frozen=True)
class Place:
    """Where a system keeps what it has: a virtual host and databases of its own."""

    system: System
    name: str
    rabbitmq_url: str
    mongodb_url: str

    @cached_property
    def mongo(self) -> AsyncMongoClient[dict[str, Any]]:
        return AsyncMongoClient(self.mongodb_url)

    @property
    def prefix(self) -> str:
        return f"orderflow_{self.name}"

    @property
    def node(self) -> RabbitNode:
        node = self.system.stack.rabbitmq
        assert node is not None
        return node

    async def run(self, *command: str, **settings: str) -> Result:
        own = {
            "ORDERFLOW_RABBITMQ_URL": self.rabbitmq_url,
            "ORDERFLOW_RABBITMQ_MANAGEMENT_URL": self.node.management_url,
            "ORDERFLOW_MONGODB_URL": self.mongodb_url,
            "ORDERFLOW_DATABASE_PREFIX": self.prefix,
        }
        return await orderflow(None, *command, **{**SETTINGS, **own, **settings})

    def started(self, home: Path, **environment: str) -> AbstractAsyncContextManager[OwnSystem]:
        return own_system(
            home,
            self.rabbitmq_url,
            self.mongodb_url,
            environment={**environment, "ORDERFLOW_DATABASE_PREFIX": self.prefix},
        )

    async def definitions(self, part: str) -> list[dict[str, Any]]:
        async with management(self.node) as api:
            found = (await api.get(f"/{part}")).json()
        return [one for one in found if one["vhost"] == self.name]


@asynccontextmanager
async def place_of(system: System, name: str, mongodb_url: str) -> AsyncIterator[Place]:
    """An empty place, of which nothing stays."""
    async with own_vhost(system.stack.rabbitmq, name) as rabbitmq_url:
        place = Place(system, name, rabbitmq_url, mongodb_url)
        yield place
    for database in await place.mongo.list_database_names():
        if database.startswith(place.prefix):
            await place.mongo.drop_database(database)
    await place.mongo.close()


@pytest.fixture(scope="module")
async def source(system: System) -> AsyncIterator[Place]:
    async with place_of(system, "source", system.stack.mongodb_url) as place:
        yield place


@pytest.fixture(scope="module")
def new_mongodb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One that nobody uses: the apps of the run are connected to the other one."""
    replica_set = MongoReplicaSet(tmp_path_factory.mktemp("mongodb"))
    replica_set.start()
    yield replica_set.url
    replica_set.stop()


@pytest.fixture
async def target(system: System, new_mongodb: str) -> AsyncIterator[Place]:
    """RabbitMQ and MongoDB as they are after a loss."""
    async with place_of(system, "target", new_mongodb) as place:
        yield place


@dataclass(frozen=True)
class Made:
    """A backup, and what is known of the system from which it was made."""

    directory: Path
    home: Path
    levels: dict[str, int]

    @property
    def manifest(self) -> dict[str, Any]:
        return json.loads((self.directory / "manifest.json").read_text())

    def documents(self, database: str, collection: str) -> list[dict[str, Any]]:
        [file] = self.directory.glob(f"mongodb/*_{database}/{collection}.bson")
        return decode_all(file.read_bytes(), CODEC)


async def place_orders(system: OwnSystem, skus: list[str], count: int) -> list[str]:
    """Orders over HTTP, every fifth of an article that soon is sold out; their ids."""
    plenty, scarce = skus
    ids = []
    for number in range(count):
        order = new_order((scarce if number % 5 == 0 else plenty, 1), email=f"c{number}@example.com")
        answer = await system.api.post("/v1/orders", json=body_of(order))
        assert answer.status_code == 202, answer.text
        ids.append(answer.json()["order_id"])
    return ids


@pytest.fixture(scope="module")
async def made(source: Place, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A backup that is made while orders come in, are in every stage, and some are being cancelled."""
    home, directory = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("backup") / "of-today"
    async with source.started(home, **SLOW_MAIL) as system:
        plenty = await system.stock_up(UNITS)
        scarce = await system.stock_up(SOLD_OUT_UNITS)
        skus = [*plenty, *scarce]
        user = ("topology", "user", "publisher", "marketplace", "--event", "order.created.v1")
        assert (await source.run(*user)).code == 0
        for order_id in (early := await place_orders(system, skus, 10)):
            await system.settled(order_id)

        async def cancel(order_id: str) -> None:
            await system.api.post(f"/v1/orders/{order_id}/cancel", json={"reason": "Too late."})

        later = asyncio.create_task(place_orders(system, skus, 60))
        cancels = [asyncio.create_task(cancel(order_id)) for order_id in early[1:4]]
        done = await source.run("backup", str(directory))
        assert done.code == 0, done.err
        await asyncio.gather(later, *cancels)
    return Made(directory, home, {plenty[0]: UNITS, scarce[0]: SOLD_OUT_UNITS})


async def counts(place: Place) -> dict[str, int]:
    """Documents by store and collection."""
    found = {}
    for database in await place.mongo.list_database_names():
        if (store := database.removeprefix(f"{place.prefix}_")) != database:
            collections = place.mongo[database]
            for name in await collections.list_collection_names():
                found[f"{store}.{name}"] = await collections[name].count_documents({})
    return found


@dataclass(frozen=True)
class Restored:
    """A place as a restore left it, and the orders that it told to send again."""

    place: Place
    to_resend: list[str]
    told: str


@pytest.fixture(scope="module")
async def restored(system: System, made: Made, new_mongodb: str) -> AsyncIterator[Restored]:
    async with place_of(system, "restored", new_mongodb) as place:
        done = await place.run("restore", str(made.directory), **USUAL_PAUSES)
        assert done.code == 0, done.err
        yield Restored(place, done.out.split(), done.err)


async def test_every_document_comes_back(made: Made, restored: Restored) -> None:
    """As many as the manifest says, in each collection, whatever prefix the databases have now."""
    assert await counts(restored.place) == {
        name.replace("orderflow_source_", ""): count for name, count in made.manifest["documents"].items()
    }


async def test_indexes_come_back(source: Place, restored: Restored) -> None:
    """Uniqueness and expiry are kept by indexes: each is there again, with its options."""

    async def indexes(place: Place) -> dict[str, Any]:
        orders = place.mongo[f"{place.prefix}_orders"]["orders"]
        return dict(await orders.index_information())

    found = await indexes(restored.place)
    assert found == await indexes(source)
    assert found["idempotency_key"]["unique"]


async def test_queues_and_rights_of_others_come_back(source: Place, restored: Restored) -> None:
    """Every queue with its bindings, and the users of other systems, are there before any app starts."""
    for part in ("queues", "bindings", "permissions", "topic-permissions"):
        now = [strip(one) for one in await restored.place.definitions(part)]
        assert sorted(now, key=str) == sorted([strip(one) for one in await source.definitions(part)], key=str)
    assert any(one["user"] == "marketplace" for one in await restored.place.definitions("topic-permissions"))


async def test_restore_tells_what_makes_the_logins(restored: Restored) -> None:
    """Users of MongoDB are in no backup, and after its loss no app could log in."""
    assert "orderflow topology apply" in restored.told
    assert "orderflow users apply" in restored.told


def strip(definition: dict[str, Any]) -> dict[str, Any]:
    """What of a definition does not depend on where it is, or on what goes on there."""
    wanted = (
        "name",
        "arguments",
        "source",
        "destination",
        "routing_key",
        "user",
        "read",
        "write",
        "configure",
    )
    return {name: definition[name] for name in wanted if name in definition}


async def test_every_order_of_the_backup_ends_and_the_books_balance(made: Made, restored: Restored) -> None:
    """After a loss of everything each order goes on where the backup saw it, and what was under way again."""
    place = restored.place
    ids = [str(order["_id"]) for order in made.documents("orders", "orders")]
    assert len(ids) > 10, "the backup was made before the load began"

    async with place.started(made.home) as system:
        settings = {"ORDERFLOW_API_URL": system.stack.api_url, "ORDERFLOW_API_KEY": system.stack.api_key}

        async def under_way() -> list[str]:
            return [one for one in ids if (await system.order(one) or {"awaits": "an answer"})["awaits"]]

        assert await under_way(), "nothing was under way when the backup was made"
        sent = await place.run("order", "resend", *restored.to_resend, **settings)
        assert sent.code == 0, sent.err

        async def balanced() -> bool:
            return not await under_way() and balance(made, place)

        await eventually(balanced, "every order has ended, and the books balance", 120)
        stuck = await place.run("order", "list", "--stuck", "--json", **settings)
        assert json.loads(stuck.out)["orders"] == []


def papers(place: Place) -> int:
    """Invoices and credit notes that are stored as PDF."""
    with MongoClient[dict[str, Any]](place.mongodb_url) as client:
        catalogue = client[f"{place.prefix}_documents"]["documents"]
        return catalogue.count_documents({"sha256": {"$ne": None}})


def balance(made: Made, place: Place) -> bool:
    """Whether stock, invoices and PDFs are what the orders say; invoice numbers have no gap at any time."""
    stores = Stores(place.mongodb_url, place.prefix)
    account = stores.account({sku: str(units) for sku, units in made.levels.items()}, 0, 0)
    assert (account.stock_errors, account.number_gaps) == (0, 0)
    ended = account.notified + account.rejected + account.cancelled
    return (
        account.orders == ended
        and account.units_reserved == account.notified
        and account.invoices == account.notified + account.cancelled
        and account.credit_notes == account.cancelled
        and papers(place) == account.invoices + account.credit_notes
    )


async def test_restore_never_mixes_two_systems(made: Made, target: Place) -> None:
    """Where documents are, nothing is restored unless they may be deleted."""
    level = {"_id": "of-another-system"}
    levels = target.mongo[f"{target.prefix}_stock"]["levels"]
    await levels.insert_one(level)

    refused = await target.run("restore", str(made.directory))

    assert refused.code == 2
    assert "orderflow_target_stock.levels holds documents" in refused.err
    assert await counts(target) == {"stock.levels": 1}
    replaced = await target.run("restore", str(made.directory), "--replace")
    assert replaced.code == 0, replaced.err
    assert await levels.find_one(level) is None


async def test_backup_is_not_written_over_another(made: Made, source: Place) -> None:
    """A directory holds one backup, or nothing that could be taken for one."""
    refused = await source.run("backup", str(made.directory))
    assert refused.code == 2
    assert "is not empty" in refused.err


async def test_backup_is_its_owners_only(source: Place, tmp_path: Path) -> None:
    """Nobody else on the machine can read customers' data, whoever made the directory."""
    directory = tmp_path / "backup"
    directory.mkdir()
    directory.chmod(0o755)

    done = await source.run("backup", str(directory))

    assert done.code == 0, done.err
    for path in (directory, *directory.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


async def test_restore_is_refused_while_an_app_is_connected(made: Made, target: Place) -> None:
    """What still runs would write into what is restored: even an idle app, one that only has HTTP."""
    with MongoClient[dict[str, Any]](target.mongodb_url, appname="orderflow-ingress") as app:
        app.admin.command("ping")
        refused = await target.run("restore", str(made.directory), "--replace")

    assert refused.code == 2
    assert "orderflow-ingress" in refused.err
    assert await counts(target) == {}
    assert await target.definitions("queues") == []


async def test_restore_is_refused_while_a_queue_is_read(made: Made, target: Place) -> None:
    """A consumer in the virtual host is an app that is about to write."""

    async def nothing(_: AbstractIncomingMessage) -> None:
        pass

    async with await aio_pika.connect(target.rabbitmq_url) as connection:
        queue = await (await connection.channel()).declare_queue("stock.order-created", durable=True)
        await queue.consume(nothing)

        async def shown() -> bool:
            async with management(target.node) as api:
                return bool((await api.get(f"/consumers/{target.name}")).json())

        await eventually(shown, "RabbitMQ shows the consumer")
        refused = await target.run("restore", str(made.directory), "--replace")

    assert refused.code == 2
    assert "stock.order-created" in refused.err
    assert await counts(target) == {}
    assert [queue["name"] for queue in await target.definitions("queues")] == ["stock.order-created"]


@contextmanager
def definitions_trigger(action: Callable[[], object]) -> Iterator[str]:
    """A management API without consumers, that does something else when it is given definitions; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"[]" if "consumers" in self.path else b'{"name": "me"}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            action()
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


async def test_what_is_written_meanwhile_is_not_deleted(made: Made, target: Place) -> None:
    """An app that starts while a restore begins may accept an order: it is not dropped unseen."""
    with MongoClient[dict[str, Any]](target.mongodb_url) as client:
        orders = client[f"{target.prefix}_orders"]["orders"]
        with definitions_trigger(lambda: orders.insert_one({"_id": "accepted"})) as url:
            management_url = {"ORDERFLOW_RABBITMQ_MANAGEMENT_URL": url}
            refused = await target.run("restore", str(made.directory), **management_url)

    assert refused.code == 2
    assert "orderflow_target_orders.orders holds documents" in refused.err
    assert await counts(target) == {"orders.orders": 1}


def rewrite_manifest(directory: Path, **changes: object) -> None:
    file = directory / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize(
    "changes",
    [
        {"made_at": "yesterday"},
        {"made_at": 1_700_000_000},
        {"made_at": "2026-11-22T10:00:00"},
        {"database_prefix": None},
        {"sha256": []},
        {"sha256": {"manifest": 1}},
    ],
)
def test_manifest_of_another_shape_is_refused(made: Made, tmp_path: Path, changes: dict[str, Any]) -> None:
    """What a restore will need, it asks for before it deletes anything."""
    copy = Path(shutil.copytree(made.directory, tmp_path / "copy"))
    rewrite_manifest(copy, **changes)
    with pytest.raises(UsageError, match="is not the manifest of a backup"):
        _verified_manifest(copy)


async def test_backup_with_an_unknown_database_is_refused_before_anything_is_touched(
    made: Made, target: Place, tmp_path: Path
) -> None:
    """One of a release with more apps, or whose manifest names another prefix."""
    copy = Path(shutil.copytree(made.directory, tmp_path / "copy"))
    rewrite_manifest(copy, database_prefix="another")
    await target.mongo[f"{target.prefix}_stock"]["levels"].insert_one({"_id": "here"})

    refused = await target.run("restore", str(copy), "--replace")

    assert refused.code == 2
    assert f"{copy / 'mongodb'}/orderflow_source_" in refused.err
    assert await counts(target) == {"stock.levels": 1}
    assert await target.definitions("queues") == []


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("name", "spoil", "problem"),
    [
        ("mongodb/orderflow_source_orders/orders.bson", flip_a_bit, "is not as it was written"),
        ("mongodb/orderflow_source_billing/invoices.bson", cut_off, "is not as it was written"),
        ("mongodb/orderflow_source_stock/levels.metadata.json", Path.unlink, "is missing"),
        ("rabbitmq-definitions.json", flip_a_bit, "is not as it was written"),
        ("manifest.json", Path.unlink, "was not finished"),
        ("manifest.json", cut_off, "is not the manifest of a backup"),
    ],
)
def test_damage_is_found_and_named(
    made: Made, tmp_path: Path, name: str, spoil: Callable[[Path], object], problem: str
) -> None:
    """A bit is wrong, an end or a file is missing: the line says in which file."""
    copy = Path(shutil.copytree(made.directory, tmp_path / "copy"))
    assert _verified_manifest(copy).documents == made.manifest["documents"]
    spoil(copy / name)
    with pytest.raises(UsageError, match=f"{copy / name}: .*{problem}"):
        _verified_manifest(copy)


async def test_damaged_backup_is_refused_before_anything_is_touched(
    made: Made, target: Place, tmp_path: Path
) -> None:
    """A restore that could not be completed is not begun."""
    copy = Path(shutil.copytree(made.directory, tmp_path / "copy"))
    flip_a_bit(copy / "mongodb" / "orderflow_source_stock" / "reservations.bson")

    refused = await target.run("restore", str(copy), "--replace")

    assert refused.code == 2
    assert refused.err.startswith("orderflow: ")
    assert refused.err.strip().count("\n") == 0
    assert await counts(target) == {}
    assert await target.definitions("queues") == []
