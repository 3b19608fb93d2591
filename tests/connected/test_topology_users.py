"""Broker users of other systems: what they are for works, and RabbitMQ itself refuses everything else."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import aio_pika
import httpx
import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import AMQPConnectionError, ChannelPreconditionFailed
from aiormq.exceptions import ChannelAccessRefused
from conftest import RETRY_DELAYS_SECONDS, System, eventually, new_order
from test_commands import Result, orderflow
from yarl import URL

from apps.cli.broker_users import BrokerUsers, Role
from apps.cli.errors import UsageError
from apps.cli.local.ports import free_port
from apps.cli.rabbitmq_management import ManagementApi
from apps.kit.errors import DependencyUnavailable
from contracts import Event, InvoiceIssued, OrderCreated, StockAdjusted

pytestmark = pytest.mark.connected


async def user(system: System, *arguments: str, **settings: str) -> Result:
    """Run `orderflow topology user` as an administrator."""
    management = {"ORDERFLOW_RABBITMQ_MANAGEMENT_URL": system.stack.rabbitmq.management_url}
    return await orderflow(system, "topology", "user", *arguments, **{**management, **settings})


@dataclass(frozen=True)
class Account:
    """A broker user that the command made."""

    name: str
    url: str

    @property
    def password(self) -> str:
        return str(URL(self.url).password)

    @property
    def queue(self) -> str:
        return f"subscriber.{self.name}"

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[AbstractChannel]:
        async with await aio_pika.connect(self.url) as connection:
            yield await connection.channel(on_return_raises=True)


def users(system: System, url: str | None = None, management_url: str | None = None) -> BrokerUsers:
    """What the command works with, for tests that need not start it."""
    node = system.stack.rabbitmq
    return BrokerUsers(ManagementApi(url or node.url, management_url or node.management_url))


def made(system: System, role: Role, *events: type[Event]) -> Account:
    name = f"{role}-{uuid4().hex[:8]}"
    password = users(system).grant(name, role, [event.topic for event in events], None)
    return Account(name, str(URL(system.stack.rabbitmq.url).with_user(name).with_password(password)))


async def printed(system: System, role: str, event: type[Event]) -> Account:
    name = f"{role}-{uuid4().hex[:8]}"
    done = await user(system, role, name, "--event", event.topic)
    assert done.code == 0, done.err
    return Account(name, done.out.strip())


@pytest.fixture(scope="module")
async def publisher(system: System) -> Account:
    return await printed(system, "publisher", OrderCreated)


@pytest.fixture(scope="module")
async def subscriber(system: System) -> Account:
    return await printed(system, "subscriber", InvoiceIssued)


async def publish(
    channel: AbstractChannel,
    event: Event,
    exchange: str = "events",
    key: str | None = None,
    **properties: Any,
) -> None:
    """Publish as docs/PUBLISHING.md tells: persistent, mandatory, confirmed."""
    message = aio_pika.Message(
        event.model_dump_json().encode(),
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=str(event.event_id),
        type=event.topic,
        **properties,
    )
    target = await channel.get_exchange(exchange, ensure=False) if exchange else channel.default_exchange
    await target.publish(message, event.topic if key is None else key, mandatory=True)


async def next_in(queue: AbstractQueue) -> AbstractIncomingMessage:
    async def check() -> AbstractIncomingMessage | None:
        return await queue.get(fail=False)

    message: AbstractIncomingMessage = await eventually(check, f"a message in {queue.name}")
    return message


def management(system: System) -> httpx.AsyncClient:
    node = system.stack.rabbitmq
    return httpx.AsyncClient(base_url=f"{node.management_url}/api", auth=node.login, timeout=15)


async def test_order_of_a_publisher_is_processed_and_a_subscriber_gets_its_invoice(
    system: System, publisher: Account, subscriber: Account
) -> None:
    """With the URLs that the commands print, one system orders and another receives just its event."""
    (sku,) = await system.stock_up(10)
    order = new_order((sku, 2))

    async with publisher.channel() as channel:
        await publish(channel, order, user_id=publisher.name)

    assert (await system.settled(order.order_id))["status"] == "unreachable"
    async with subscriber.channel() as channel:
        queue = await channel.get_queue(subscriber.queue)
        while True:  # orders of other tests may have been invoiced before
            message = await next_in(queue)
            assert message.type == InvoiceIssued.topic
            invoice = InvoiceIssued.model_validate_json(message.body)
            await message.ack()
            if invoice.order_id == order.order_id:
                break


Attempt = Callable[[AbstractChannel, Account], Awaitable[Any]]
ORDER = new_order(("any", 1))


async def declare_exchange(channel: AbstractChannel, _: Account) -> None:
    await channel.declare_exchange("of-an-outsider", durable=True)


async def declare_queue(channel: AbstractChannel, _: Account) -> None:
    await channel.declare_queue("of-an-outsider", durable=True)


async def declare_nameless_queue(channel: AbstractChannel, _: Account) -> None:
    await channel.declare_queue(exclusive=True)


async def delete_exchange(channel: AbstractChannel, _: Account) -> None:
    await channel.exchange_delete("events")


async def delete_queue(channel: AbstractChannel, _: Account) -> None:
    await channel.queue_delete("stock.order-created")


async def read_another_queue(channel: AbstractChannel, _: Account) -> None:
    await (await channel.get_queue("stock.order-created", ensure=False)).get(fail=False)


async def consume_another_queue(channel: AbstractChannel, _: Account) -> None:
    async def ignore(_message: AbstractIncomingMessage) -> None:
        pass

    await (await channel.get_queue("dead", ensure=False)).consume(ignore)


async def purge_another_queue(channel: AbstractChannel, _: Account) -> None:
    await (await channel.get_queue("stock.order-created", ensure=False)).purge()


async def publish_to_the_default_exchange(channel: AbstractChannel, _: Account) -> None:
    await publish(channel, ORDER, exchange="", key="stock.order-created")


async def publish_to_dead(channel: AbstractChannel, _: Account) -> None:
    await publish(channel, ORDER, exchange="dead")


async def publish_to_replay(channel: AbstractChannel, _: Account) -> None:
    await publish(channel, ORDER, exchange="replay", key="stock.order-created")


async def publish_to_a_retry_level(channel: AbstractChannel, _: Account) -> None:
    level = f"retry.{RETRY_DELAYS_SECONDS[0] * 1000:.0f}ms"
    await publish(channel, ORDER, exchange=level, key="stock.order-created")


async def publish_another_event(channel: AbstractChannel, _: Account) -> None:
    await publish(channel, ORDER, key="stock.adjusted.v1")


async def publish_another_version(channel: AbstractChannel, _: Account) -> None:
    await publish(channel, ORDER, key="order.created.v10")


async def publish_with_a_dot_that_is_none(channel: AbstractChannel, _: Account) -> None:
    await publish(channel, ORDER, key="order-created.v1")


async def publish_with_a_line_feed(channel: AbstractChannel, _: Account) -> None:
    await publish(channel, ORDER, key="order.created.v1\n")


ANYBODY = (
    declare_exchange,
    declare_queue,
    declare_nameless_queue,
    delete_exchange,
    delete_queue,
    read_another_queue,
    consume_another_queue,
    purge_another_queue,
    publish_to_the_default_exchange,
    publish_to_dead,
    publish_to_replay,
    publish_to_a_retry_level,
    publish_another_event,
)


@pytest.mark.parametrize(
    "attempt", [*ANYBODY, publish_another_version, publish_with_a_dot_that_is_none, publish_with_a_line_feed]
)
async def test_publisher_is_refused(publisher: Account, attempt: Attempt) -> None:
    """It cannot make, delete or read anything, nor write elsewhere or under another routing key."""
    async with publisher.channel() as channel:
        with pytest.raises(ChannelAccessRefused):
            await attempt(channel, publisher)


async def test_publisher_cannot_speak_for_another_user(system: System, publisher: Account) -> None:
    """RabbitMQ checks `user_id`, so whoever finds one on a message knows who sent it."""
    async with publisher.channel() as channel:
        with pytest.raises(ChannelPreconditionFailed):
            await publish(channel, ORDER, user_id=system.stack.rabbitmq.login[0])


async def publish_its_own_event(channel: AbstractChannel, _: Account) -> None:
    await publish(channel, ORDER, key=InvoiceIssued.topic)


async def publish_to_its_own_queue(channel: AbstractChannel, who: Account) -> None:
    await publish(channel, ORDER, exchange="", key=who.queue)


async def bind_its_queue_to_more(channel: AbstractChannel, who: Account) -> None:
    await (await channel.get_queue(who.queue, ensure=False)).bind("events", "#")


async def bind_its_queue_elsewhere(channel: AbstractChannel, who: Account) -> None:
    await (await channel.get_queue(who.queue, ensure=False)).bind("dead")


async def unbind_its_queue(channel: AbstractChannel, who: Account) -> None:
    await (await channel.get_queue(who.queue, ensure=False)).unbind("events", InvoiceIssued.topic)


async def delete_its_queue(channel: AbstractChannel, who: Account) -> None:
    await channel.queue_delete(who.queue)


async def read_a_queue_of_a_similar_name(channel: AbstractChannel, who: Account) -> None:
    await (await channel.get_queue(f"{who.queue}.rejectedly", ensure=False)).get(fail=False)


@pytest.mark.parametrize(
    "attempt",
    [
        *ANYBODY,
        publish_its_own_event,
        publish_to_its_own_queue,
        bind_its_queue_to_more,
        bind_its_queue_elsewhere,
        unbind_its_queue,
        delete_its_queue,
        read_a_queue_of_a_similar_name,
    ],
)
async def test_subscriber_is_refused(subscriber: Account, attempt: Attempt) -> None:
    """It cannot make, delete or write anything, nor read or bind any more than it was given."""
    async with subscriber.channel() as channel:
        with pytest.raises(ChannelAccessRefused):
            await attempt(channel, subscriber)


async def test_what_a_subscriber_rejects_is_kept_for_it(system: System) -> None:
    """A message that it cannot use goes to a queue beside its own, which it may read too."""
    who = made(system, Role.SUBSCRIBER, StockAdjusted)
    (sku,) = await system.stock_up(1)

    async with who.channel() as channel:
        message = await next_in(await channel.get_queue(who.queue))
        await message.reject(requeue=False)
        kept = await next_in(await channel.get_queue(f"{who.queue}.rejected"))
        await kept.ack()

    assert StockAdjusted.model_validate_json(kept.body).sku == sku


async def test_subscriber_that_stops_reading_harms_nobody(system: System) -> None:
    """Its full queue sets its oldest messages aside, while every publish goes on being confirmed."""
    who = made(system, Role.SUBSCRIBER, StockAdjusted)
    async with management(system) as http:
        [queue] = [q for q in (await http.get("/queues/%2F")).json() if q["name"] == who.queue]
        assert queue["arguments"]["x-max-length"] == 100_000
        assert queue["arguments"]["x-max-length-bytes"] == 500_000_000
        # The same limit, but one that a test can reach.
        few = {"pattern": f"^{who.queue}$", "apply-to": "queues", "definition": {"max-length": 3}}
        (await http.put(f"/policies/%2F/{who.name}", json=few)).raise_for_status()

        async def is_in_force() -> bool:
            return bool((await http.get(f"/queues/%2F/{who.queue}")).json().get("policy") == who.name)

        await eventually(is_in_force, "the policy")
        skus = [f"sku-{uuid4().hex[:12]}" for _ in range(20)]
        await system.stock_up(1, skus)
        async with who.channel() as channel:
            waiting = await channel.get_queue(who.queue)
            left = [StockAdjusted.model_validate_json((await next_in(waiting)).body).sku for _ in range(3)]
            aside = await next_in(await channel.get_queue(f"{who.queue}.rejected"))
        (await http.delete(f"/policies/%2F/{who.name}")).raise_for_status()

    assert left == skus[-3:]
    assert StockAdjusted.model_validate_json(aside.body).sku == skus[0]


async def test_repeated_command_keeps_the_password_and_changes_the_events(system: System) -> None:
    """The second run gives other events, and ends connections that might remember the old ones."""
    who = made(system, Role.PUBLISHER, OrderCreated)
    again = await user(system, "publisher", who.name, "--event", "order.created.v1")
    assert (again.code, again.out) == (0, "")
    assert "Its password is as it was." in again.err

    async with await aio_pika.connect(who.url) as connection:
        channel = await connection.channel(on_return_raises=True)
        await publish(channel, new_order(("nothing", 1)))
        users(system).grant(who.name, Role.PUBLISHER, [StockAdjusted.topic], None)

        async def is_closed() -> bool:
            return bool(channel.is_closed)

        await eventually(is_closed, "the connection is closed")
    async with who.channel() as channel:
        with pytest.raises(ChannelAccessRefused):
            await publish(channel, ORDER)


async def test_repeated_command_binds_and_unbinds(system: System) -> None:
    """A subscriber's queue keeps what waits in it, and receives the events of the last run only."""
    who = made(system, Role.SUBSCRIBER, StockAdjusted, OrderCreated)

    users(system).grant(who.name, Role.SUBSCRIBER, [InvoiceIssued.topic, StockAdjusted.topic], None)

    async with management(system) as http:
        bindings = (await http.get(f"/queues/%2F/{who.queue}/bindings")).json()
    assert {(b["source"], b["routing_key"]) for b in bindings if b["source"]} == {
        ("events", InvoiceIssued.topic),
        ("events", StockAdjusted.topic),
    }


async def test_password_is_rotated_or_brought(system: System, tmp_path: Path) -> None:
    """A new password replaces the old one at once; one from a file is taken without being made up."""
    who = made(system, Role.PUBLISHER, OrderCreated)
    event = ("--event", OrderCreated.topic)

    rotated = await user(system, "publisher", who.name, *event, "--new-password")

    assert rotated.code == 0, rotated.err
    with pytest.raises(AMQPConnectionError):
        await aio_pika.connect(who.url)
    async with Account(who.name, rotated.out.strip()).channel():
        pass
    file = tmp_path / "password"
    file.write_text("a:pass/word@with#signs\n")
    brought = await user(system, "publisher", who.name, *event, "--password-file", str(file))
    assert Account(who.name, brought.out.strip()).password == "a:pass/word@with#signs"
    async with Account(who.name, brought.out.strip()).channel():
        pass


async def test_users_are_listed_and_removed(system: System) -> None:
    """The list says what each may do; a removed user is gone with its queues and its connections."""
    publisher = made(system, Role.PUBLISHER, OrderCreated, StockAdjusted)
    subscriber = made(system, Role.SUBSCRIBER, InvoiceIssued)

    listed = {one["name"]: one for one in json.loads((await user(system, "list", "--json")).out)}
    assert listed[publisher.name]["role"] == "publisher"
    assert listed[publisher.name]["events"] == ["order.created.v1", "stock.adjusted.v1"]
    assert listed[subscriber.name]["events"] == ["invoice.issued.v1"]
    assert listed[subscriber.name]["queue"] == subscriber.queue
    assert "orderflow" not in listed

    async with await aio_pika.connect(subscriber.url) as connection:
        channel = await connection.channel()
        removed = await user(system, "remove", subscriber.name)
        assert removed.code == 0, removed.err
        users(system).remove(users(system).find(publisher.name))

        async def is_closed() -> bool:
            return bool(channel.is_closed)

        await eventually(is_closed, "the connection is closed")
    for who in (publisher, subscriber):
        with pytest.raises(AMQPConnectionError):
            await aio_pika.connect(who.url)
    async with management(system) as http:
        left = {queue["name"] for queue in (await http.get("/queues/%2F")).json()}
    assert not left & {subscriber.queue, f"{subscriber.queue}.rejected"}


async def test_names_of_others_are_left_alone(system: System, publisher: Account) -> None:
    """A user that somebody else made, one of another virtual host or one with the other role is refused."""
    async with management(system) as http:
        (await http.put("/users/somebody", json={"password": "x", "tags": ""})).raise_for_status()
        (await http.put("/vhosts/elsewhere")).raise_for_status()
    elsewhere = users(system, str(URL(system.stack.rabbitmq.url).with_path("/elsewhere")))
    for name in ("somebody", "orderflow"):
        with pytest.raises(UsageError, match="did not make"):
            users(system).grant(name, Role.PUBLISHER, [OrderCreated.topic], "a password of ours")
        with pytest.raises(UsageError, match="did not make"):
            users(system).find(name)
    with pytest.raises(UsageError, match="is a publisher"):
        users(system).grant(publisher.name, Role.SUBSCRIBER, [OrderCreated.topic], None)
    with pytest.raises(UsageError, match="virtual host '/'"):
        elsewhere.find(publisher.name)
    with pytest.raises(UsageError, match="topology apply"):
        elsewhere.grant("shop", Role.PUBLISHER, [OrderCreated.topic], None)

    assert publisher.name not in {user.name for user in elsewhere.list()}
    async with publisher.channel(), management(system) as http:
        assert (await http.get("/users/shop")).status_code == 404
        (await http.delete("/users/somebody")).raise_for_status()
        (await http.delete("/vhosts/elsewhere")).raise_for_status()


def test_wrong_addresses_are_named(system: System) -> None:
    """Whatever is wrong with address or login is said without the password."""
    node = system.stack.rabbitmq
    wrong = str(URL(node.management_url).with_user("orderflow").with_password("secret"))
    for url, text in (
        (wrong, "refuses the login"),
        ("localhost:15672", "must be the URL"),
        (system.stack.api_url, "not RabbitMQ's management API"),
        (f"{system.stack.api_url}/docs?x=1", "not RabbitMQ's management API"),
    ):
        with pytest.raises(UsageError, match=text) as caught:
            users(system, management_url=url).list()
        assert "secret" not in str(caught.value)
    nobody = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(DependencyUnavailable, match=nobody):
        users(system, management_url=nobody).list()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("shop", "--event", "order.create.v1"), "did you mean order.created.v1 or"),
        (("shop", "--event", "payment.taken"), "known are order.created.v1, order.cancelled.v1"),
        (("Shop!", "--event", "order.created.v1"), "Shop!: a name has"),
    ],
)
async def test_mistakes_are_named_in_one_line(system: System, arguments: tuple[str, ...], text: str) -> None:
    """An event or a name that cannot be is refused with exit code 2, before anything is made."""
    done = await user(system, "publisher", *arguments)

    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert text in done.err


async def test_message_with_a_user_id_is_retried_dies_and_is_replayed(system: System) -> None:
    """Copies are sent by other users, who must not carry its `user_id`: RabbitMQ would refuse them."""
    who = made(system, Role.PUBLISHER, StockAdjusted)
    write_off = StockAdjusted(
        adjustment_id=uuid4(),
        sku=f"sku-{uuid4().hex[:12]}",
        mode="add",
        quantity=-5,
        adjusted_at="2026-11-02T08:00:00Z",
    )

    async with who.channel() as channel:
        await publish(channel, write_off, user_id=who.name)

    letter = await system.dead_letter(str(write_off.event_id))
    assert letter["attempts"] == 1 + len(RETRY_DELAYS_SECONDS)
    await system.stock_up(20, [write_off.sku])
    answer = await system.api.post(f"/v1/dead-letters/{letter['_id']}/replay")
    assert answer.status_code == 200, answer.text

    async def applied() -> bool:
        level = await system.database("stock")["levels"].find_one({"_id": write_off.sku})
        return bool(level["available"] == 15)

    await eventually(applied, "the write-off is applied")
