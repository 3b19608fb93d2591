"""A seeded load: orders by HTTP and straight to RabbitMQ, some cancelled, duplicated, shuffled or poison."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random
from typing import Any, Self
from uuid import UUID

import aio_pika
import httpx
from aio_pika.abc import AbstractConnection, AbstractExchange

from apps.cli.api_client import bearer
from apps.cli.system import bindings
from apps.kit.clock import utc_now
from apps.kit.topology import EVENTS
from contracts import InvoiceIssued, OrderCancelled, OrderCreated, OrderValidated, StockAdjusted
from tests.connected.conftest import eventually

SKUS = tuple(f"hot-{letter}" for letter in "abcdef")
INBOXES = frozenset(
    (binding.queue.name, binding.routing_key) for binding in bindings() if binding.exchange == EVENTS
)
"""Queue and routing key of all that is bound to the events exchange."""
ANSWER_TIMEOUT_SECONDS = 15.0
CONFIRM_TIMEOUT_SECONDS = 10.0
PAUSE_SECONDS = 0.2


@dataclass(frozen=True)
class Placed:
    """An order that was accepted: answered with 202, or confirmed by RabbitMQ."""

    order_id: UUID
    content: dict[str, Any]
    """As it was sent, in JSON."""


@dataclass(frozen=True)
class Poison:
    """A message that must end in the dead letters, once for each queue that it was routed to."""

    message_id: str
    queues: frozenset[str]
    kind: str
    order_id: UUID | None = None
    """The order in it: known to the queues that can handle it, and to who shows what has died."""


@dataclass
class Load:
    """Sends orders while its context is open, and until all of them are accepted when it closes.

    With `orders` it sends so many, else until the context closes. What it was told is kept here for the
    ledger: nothing else counts as accepted.
    """

    api_urls: Sequence[str]
    api_key: str
    rabbitmq_url: str
    seed: str
    rate: float = 20
    """Orders per second, however slow the answers are."""
    orders: int | None = None
    http_share: float = 0.5
    repeat_share: float = 0.2
    """Of the orders by RabbitMQ, those that are sent two or three times, in between others."""
    poison_share: float = 0.05
    cancel_share: float = 0.05
    """Of the orders, those that are cancelled the way they came; by RabbitMQ, half of them beforehand."""
    mail_share: float = 0.6
    units: int = 150
    """Units of each article; those of the hot ones run out in a load of some hundred orders."""
    deadline_seconds: float = 180
    """For the orders that are under way when the context closes."""

    placed: dict[UUID, Placed] = field(default_factory=dict)
    cancelled: set[UUID] = field(default_factory=set)
    """Orders whose cancellation was accepted."""
    poison: dict[str, Poison] = field(default_factory=dict)
    contradicted: set[UUID] = field(default_factory=set)
    """Orders of which the scenario says more than one thing, and looks itself what comes of that."""
    refused: set[UUID] = field(default_factory=set)
    """Orders whose customer has only an address, which the scenario's mail server refuses for good."""
    initial: dict[str, int] = field(default_factory=dict)
    """Units of each article before the first order."""
    answers: Counter[str] = field(default_factory=Counter)
    """How often each HTTP status was answered, and each transport error met."""
    slowest_seconds: float = 0
    """The longest time to an answer of any kind."""
    sent: int = 0
    _drawn: int = 0

    async def __aenter__(self) -> Self:
        self._ending = asyncio.Event()
        self._api = httpx.AsyncClient(
            headers=bearer(self.api_key), timeout=ANSWER_TIMEOUT_SECONDS, trust_env=False
        )
        self._publisher = Publisher(self.rabbitmq_url)
        self._tasks: set[asyncio.Task[None]] = set()
        for sku in SKUS:
            # Before any order is placed: the counts are no part of what is put to the test.
            await self.count(sku, self.units)
        self._running = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                if self.orders is None:
                    self._ending.set()
                async with asyncio.timeout(self.deadline_seconds):
                    await self._running
                    await asyncio.gather(*self._tasks)
        except TimeoutError:
            raise AssertionError(
                f"{len(self._tasks)} sends were not accepted in {self.deadline_seconds:g} s: {self.answers}"
            ) from None
        finally:
            for task in (self._running, *self._tasks):
                task.cancel()
            await asyncio.gather(self._running, *self._tasks, return_exceptions=True)
            await self._api.aclose()
            await self._publisher.close()

    async def accepted(self, number: int, deadline_seconds: float = 60) -> None:
        """Wait until so many orders are accepted."""

        async def check() -> bool:
            return len(self.placed) >= number

        await eventually(check, f"{number} orders accepted", deadline_seconds)

    def draw(self) -> Random:
        """Chance for one thing to send: depends on the seed and on how many came before, not on time."""
        self._drawn += 1
        return Random(f"{self.seed}/{self._drawn}")  # noqa: S311  # to be repeated, not to be secret

    async def count(self, sku: str, quantity: int) -> None:
        """Publish that so many units of an article are there; before any order of it."""
        adjustment = StockAdjusted(
            adjustment_id=_uuid(self.draw()), sku=sku, mode="set", quantity=quantity, adjusted_at=utc_now()
        )
        self.initial[sku] = quantity
        await self._publisher.confirmed(
            adjustment.topic,
            adjustment.model_dump_json().encode(),
            message_id=str(adjustment.event_id),
        )

    async def post(self, random: Random | None = None) -> UUID:
        """Place one order over HTTP, as a client does: again under the same key until it is answered."""
        random = random or self.draw()
        body = self._content(random)
        key = f"load-{random.getrandbits(64):x}"
        answer = await self._answered(random, "/v1/orders", body, 202, headers={"Idempotency-Key": key})
        return self._accept(UUID(answer.json()["order_id"]), body)

    async def cancel(self, order_id: UUID, random: Random) -> None:
        """Cancel an order over HTTP, again until it is answered; one that is rejected stays as it is."""
        reason = {"reason": f"Of load {self.seed}."}
        answer = await self._answered(random, f"/v1/orders/{order_id}/cancel", reason, 202, 409)
        if answer.status_code == httpx.codes.ACCEPTED:
            self.cancelled.add(order_id)

    async def publish(self, order: OrderCreated, pauses: Sequence[float] = ()) -> UUID:
        """Publish one order straight to RabbitMQ until it is confirmed, and again after each pause."""
        for pause in (0, *pauses):
            await asyncio.sleep(pause)  # others come in between
            await self._publisher.confirmed(
                order.topic, order.model_dump_json().encode(), message_id=str(order.event_id)
            )
        content = order.model_dump(mode="json", exclude={"order_id", "placed_at"}, exclude_none=True)
        return self._accept(order.order_id, content)

    async def publish_cancellation(self, order: OrderCreated, pauses: Sequence[float] = ()) -> None:
        """Publish that an order is cancelled straight to RabbitMQ, and again after each pause."""
        event = OrderCancelled(
            order_id=order.order_id,
            customer=order.customer,
            reason=f"Of load {self.seed}.",
            cancelled_at=utc_now(),
        )
        self.cancelled.add(order.order_id)
        for pause in (0, *pauses):
            await asyncio.sleep(pause)
            await self._publisher.confirmed(
                event.topic, event.model_dump_json().encode(), message_id=str(event.event_id)
            )

    async def publish_poison(
        self,
        kind: str,
        topic: str,
        body: bytes,
        *,
        queues: frozenset[str] | None = None,
        order_id: UUID | None = None,
        **properties: Any,
    ) -> Poison:
        """Publish a message that must die: in every queue that its topic leads to, or in those given.

        `order_id` names the order in it, which the system may know of although nobody has accepted it.
        """
        message_id = f"poison-{kind}-{self.draw().getrandbits(64):x}"
        poison = Poison(message_id, queues or queues_of(topic), kind, order_id)
        # Known before it is sent: unconfirmed, it may have arrived all the same.
        self.poison[message_id] = poison
        await self._publisher.confirmed(topic, body, message_id=message_id, **properties)
        return poison

    def order(self, random: Random | None = None) -> OrderCreated:
        """The next order of the mix, under an id of its own."""
        random = random or self.draw()
        return OrderCreated.model_validate(
            self._content(random) | {"order_id": _uuid(random), "placed_at": utc_now()}
        )

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        while not self._ending.is_set() and (self.orders is None or self.sent < self.orders):
            task = asyncio.create_task(self._send(self.draw()))
            self._tasks.add(task)
            task.add_done_callback(self._done)
            self.sent += 1
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0, began + self.sent / self.rate - clock())):
                    await self._ending.wait()

    def _done(self, task: asyncio.Task[None]) -> None:
        # One that failed stays, and is raised where the load ends.
        if not task.cancelled() and task.exception() is None:
            self._tasks.discard(task)

    async def _send(self, random: Random) -> None:
        if random.random() < self.poison_share:
            order = self.order(random)
            kind, topic, body, properties = _poison(random, order)
            await self.publish_poison(kind, topic, body, order_id=order.order_id, **properties)
        is_cancelled = random.random() < self.cancel_share
        if random.random() < self.http_share:
            order_id = await self.post(random)
            if is_cancelled:
                await asyncio.sleep(random.uniform(0, 1))
                await self.cancel(order_id, random)
        else:
            is_repeated = random.random() < self.repeat_share
            pauses = [random.uniform(0, 2) for _ in range(random.choice((1, 2)))] if is_repeated else []
            order = self.order(random)
            comes_first = random.random() < 0.5
            if is_cancelled and comes_first:
                await self.publish_cancellation(order)
            await self.publish(order, pauses)
            if is_cancelled and not comes_first:
                await self.publish_cancellation(order, pauses)

    async def _answered(
        self, random: Random, path: str, body: dict[str, Any], *wanted: int, **options: Any
    ) -> httpx.Response:
        """The first answer with a wanted status; asks again, at any of the ingresses, until there is one."""
        clock = asyncio.get_running_loop().time
        while True:
            began, api = clock(), random.choice(self.api_urls)
            try:
                answer = await self._api.post(f"{api}{path}", json=body, **options)
                outcome = str(answer.status_code)
            except httpx.TransportError as error:
                outcome = type(error).__name__
            self.answers[outcome] += 1
            self.slowest_seconds = max(self.slowest_seconds, clock() - began)
            if outcome in map(str, wanted):
                return answer
            await asyncio.sleep(PAUSE_SECONDS)

    def _accept(self, order_id: UUID, content: dict[str, Any]) -> UUID:
        self.placed[order_id] = Placed(order_id, content)
        return order_id

    def _content(self, random: Random) -> dict[str, Any]:
        lines = [
            {"sku": sku, "quantity": random.randint(1, 3), "unit_price": random.choice(("2.50", "0.99"))}
            for sku in random.sample(SKUS, random.randint(1, 4))
        ]
        customer: dict[str, Any] = {"id": f"customer-{random.getrandbits(32):x}"}
        contact = random.random()
        if contact < self.mail_share:
            customer["email"] = f"{customer['id']}@example.com"
        elif contact < (1 + self.mail_share) / 2:
            customer["phone"] = f"+4479{random.randrange(10**8):08}"
        return {
            "customer": customer,
            "currency": "GBP",
            "lines": lines,
            "total": str(sum(line["quantity"] * Decimal(line["unit_price"]) for line in lines)),
        }


class Publisher:
    """Publishes until RabbitMQ confirms, over one connection, and over a new one whenever that fails."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connecting = asyncio.Lock()
        self._connection: AbstractConnection | None = None
        self._exchange: AbstractExchange | None = None

    async def confirmed(self, routing_key: str, body: bytes, **properties: Any) -> None:
        """Return once RabbitMQ has the message; an earlier try may have arrived too."""
        message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT, **properties)

        async def publish() -> None:
            exchange = await self._open()
            try:
                async with asyncio.timeout(CONFIRM_TIMEOUT_SECONDS):
                    await exchange.publish(message, routing_key)
            except (Exception, asyncio.CancelledError):
                if self._exchange is exchange:
                    self._exchange = None
                raise

        await again_until_done(publish)

    async def close(self) -> None:
        if self._connection is not None:
            with suppress(Exception):
                async with asyncio.timeout(1):
                    await self._connection.close()

    async def _open(self) -> AbstractExchange:
        async with self._connecting:
            if self._exchange is None:
                await self.close()
                async with asyncio.timeout(CONFIRM_TIMEOUT_SECONDS):
                    self._connection = await aio_pika.connect(self._url)
                    channel = await self._connection.channel(on_return_raises=True)
                    self._exchange = await channel.get_exchange(EVENTS.name, ensure=False)
            return self._exchange


async def again_until_done(act: Callable[[], Awaitable[None]]) -> None:
    """Do it again, with pauses, until it has succeeded or this task is cancelled."""
    while True:
        try:
            await act()
        except asyncio.CancelledError:
            # A connection that dies cancels what waits for its confirm; that is no wish to stop us.
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
        except Exception:  # noqa: BLE001, S110  # whatever it was, it is not confirmed
            pass
        else:
            return
        await asyncio.sleep(PAUSE_SECONDS)


def queues_of(topic: str) -> frozenset[str]:
    """The queues that an event of this topic must reach."""
    return frozenset(queue for queue, key in INBOXES if key == topic)


def _poison(random: Random, order: OrderCreated) -> tuple[str, str, bytes, dict[str, Any]]:
    """Kind, topic, body and properties of a message that nobody can handle, made of an order."""
    good = json.loads(order.model_dump_json())
    created = OrderCreated.topic
    return random.choice(
        (
            ("bytes", created, b"\xff\xfe{", {}),
            ("empty", OrderValidated.topic, b"", {}),
            ("no-lines", created, json.dumps(good | {"lines": []}).encode(), {}),
            ("wrong-total", created, json.dumps(good | {"total": "1.00"}).encode(), {}),
            ("other-event", StockAdjusted.topic, json.dumps(good).encode(), {}),
            ("wrong-type", created, json.dumps(good).encode(), {"type": "order.created.v9"}),
            ("nested", InvoiceIssued.topic, b"[" * 20_000 + b"]" * 20_000, {}),
        )
    )


def _uuid(random: Random) -> UUID:
    return UUID(int=random.getrandbits(128), version=4)
