"""The embedded services are real, private, keep their data, and leave nothing running."""

import asyncio
import os
import socket
import sys
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import aio_pika
import aiosmtplib
import pytest
from pymongo import MongoClient

from apps.cli.local.errors import LocalServiceError
from apps.cli.local.mongodb import MongoReplicaSet
from apps.cli.local.ports import LOOPBACK, free_port, is_listening
from apps.cli.local.rabbitmq import RabbitNode
from apps.cli.local.supervisor import Supervisor

pytestmark = pytest.mark.connected


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitNode]:
    node = RabbitNode(tmp_path_factory.mktemp("rabbitmq"))
    node.start()
    yield node
    node.stop()


def processes_of(directory: Path) -> list[str]:
    """The command lines of all processes that were started with this directory in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (
                str(directory).encode()
                in (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
            ):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue  # it has ended meanwhile, or belongs to somebody else
    return found


async def test_virtual_hosts_are_separate_brokers(node: RabbitNode) -> None:
    """A virtual host takes connections once created and none once deleted."""
    url = node.create_vhost("a shop/test")
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("q", durable=True, arguments={"x-queue-type": "quorum"})
        assert queue.name == "q"
    node.delete_vhost("a shop/test")
    with pytest.raises(aio_pika.exceptions.AMQPException):
        await aio_pika.connect(url)


def test_an_outage_of_the_broker_can_be_made(node: RabbitNode) -> None:
    """`stop_app` and `start_app` take the broker away and bring it back at the same address."""
    url = node.url
    node.ctl("stop_app")
    assert not node.is_ready()
    node.ctl("start_app")
    assert node.is_ready()
    assert node.url == url
    with pytest.raises(LocalServiceError, match="rabbitmqctl no_such_command failed"):
        node.ctl("no_such_command")


async def test_rabbitmq_finds_its_messages_again_and_leaves_nothing_running(tmp_path: Path) -> None:
    """A second start, as by `orderflow up` the next day, finds durable queues with what was in them."""
    first = RabbitNode(tmp_path)
    await asyncio.to_thread(first.start)
    try:
        async with await aio_pika.connect(first.url) as connection:
            channel = await connection.channel()
            await channel.declare_queue("orders", durable=True, arguments={"x-queue-type": "quorum"})
            message = aio_pika.Message(b"kept", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await channel.default_exchange.publish(message, routing_key="orders")
        assert any("beam" in process for process in processes_of(tmp_path))
        assert any("epmd" in process for process in processes_of(tmp_path))
    finally:
        await asyncio.to_thread(first.stop)
    assert processes_of(tmp_path) == []

    second = RabbitNode(tmp_path)
    await asyncio.to_thread(second.start)
    try:
        async with await aio_pika.connect(second.url) as connection:
            channel = await connection.channel()
            queue = await channel.get_queue("orders")
            assert (await queue.get(timeout=10)).body == b"kept"
    finally:
        await asyncio.to_thread(second.stop)


def test_mongodb_finds_its_documents_again_at_another_port(tmp_path: Path) -> None:
    """A second start finds the data, with transactions, even if somebody took yesterday's port."""
    first = MongoReplicaSet(tmp_path)
    first.start()
    try:
        with MongoClient[dict[str, Any]](first.url, w="majority", journal=True) as client:
            client.shop.orders.insert_one({"_id": 1})
    finally:
        first.stop()
    assert processes_of(tmp_path) == []

    with socket.socket() as squatter:
        squatter.bind((LOOPBACK, int((tmp_path / "port").read_text())))
        second = MongoReplicaSet(tmp_path)
        second.start()
        try:
            assert second.url != first.url
            with MongoClient[dict[str, Any]](second.url) as client, client.start_session() as session:
                with session.start_transaction():
                    client.shop.orders.insert_one({"_id": 2}, session=session)
                assert client.shop.orders.count_documents({}) == 2
        finally:
            second.stop()


def test_a_service_that_cannot_start_says_why_and_leaves_nothing_running(tmp_path: Path) -> None:
    """The error carries the service's own last words, and what was started before it is stopped."""
    server = tmp_path / "rabbitmq-server"
    server.write_text("#!/bin/sh\necho the disk is on fire\nexit 1\n")
    server.chmod(0o755)
    node = RabbitNode(tmp_path / "node", server=server)
    with pytest.raises(LocalServiceError, match=r"(?s)rabbitmq ended while starting.*the disk is on fire"):
        node.start()
    assert processes_of(tmp_path) == []


async def test_the_mail_sink_keeps_mails_and_tells_no_names(tmp_path: Path) -> None:
    """A mail becomes one complete .eml file, and the log says nothing about the recipient."""
    port = free_port()
    kept = asyncio.Event()
    listening = asyncio.Event()

    def sink(_name: str, line: str) -> None:
        (kept if line.startswith("mail kept") else listening).set()

    supervisor = Supervisor(tmp_path / "logs", sink=sink)
    argv = [sys.executable, "-m", "apps.cli.local.mail_sink", "--port", str(port)]
    supervisor.add("mail", [*argv, "--directory", str(tmp_path / "mails")], dict(os.environ))
    await supervisor.start()
    try:
        async with asyncio.timeout(20):
            await listening.wait()
            mail = EmailMessage()
            mail["From"], mail["To"], mail["Subject"] = "shop@example.com", "ana@example.com", "Olá"
            mail["Message-ID"] = "<../7d2c/2f3e@orderflow>"
            mail.set_content("Obrigado, Ana.\n.\n")
            await aiosmtplib.send(mail, hostname=LOOPBACK, port=port, start_tls=False)
            await kept.wait()
    finally:
        await supervisor.stop()
    assert not is_listening(port)
    [file] = (tmp_path / "mails").iterdir()
    assert file.name.endswith("-7d2c_2f3e@orderflow.eml")
    assert b"Obrigado, Ana.\r\n.\r\n" in file.read_bytes()
    assert "ana" not in (tmp_path / "logs" / "mail.log").read_text().lower()
    assert supervisor.restarts("mail") == 0
