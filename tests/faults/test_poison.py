"""What cannot be handled dies, at once or after its attempts, with its reason, and holds up nobody else."""

import json
from base64 import b64encode
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any
from uuid import uuid5

import httpx
import pytest

from apps.kit.topology import EVENTS as EXCHANGE
from contracts import EVENTS, OrderCreated
from contracts.event import NAMESPACE
from tests.faults.conftest import Scenario
from tests.faults.load import Load, Placed, Poison, queues_of
from tests.faults.system import System

MANY_LINES = 60_000
"""Lines that make an order of 5 MB."""
WRONG_LINE = {"sku": "", "quantity": -1, "unit_price": 0.5, "note": "x" * 30}
ALWAYS_FAILS = "customer-whose-orders-always-fail"
DELAYS_SECONDS = (3, 4, 5, 6)
TOLERANCE = 0.2


@dataclass(frozen=True)
class Wrong:
    """A message that nobody can handle, and what its dead letters must say."""

    body: bytes
    reason: str
    error_type: str = "ValidationError"
    topic: str = OrderCreated.topic
    properties: dict[str, Any] = field(default_factory=dict)


def wrong_messages(load: Load) -> dict[str, tuple[Wrong, OrderCreated]]:
    """Every kind of poison, and the order that it was made of."""
    orders = {kind: load.order() for kind in KINDS}
    return {kind: (make(json.loads(order.model_dump_json())), order) for kind, order, make in _made(orders)}


def _made(orders: dict[str, OrderCreated]) -> list[tuple[str, OrderCreated, Any]]:
    return [(kind, orders[kind], make) for kind, make in KINDS.items()]


def _with_type(good: dict[str, Any], stated: str) -> Wrong:
    return Wrong(
        json.dumps(good).encode(), f"type: is {stated!r}", "UnknownTypeError", properties={"type": stated}
    )


def _with(good: dict[str, Any], reason: str, **fields: Any) -> Wrong:
    return Wrong(json.dumps(good | fields).encode(), reason)


def _nested(good: dict[str, Any]) -> Wrong:
    """Deep within a field that nobody asked for, in an order that is right but for that."""
    body = json.dumps(good).removesuffix("}") + ', "extra": ' + "[" * 100_000 + "]" * 100_000 + "}"
    return Wrong(body.encode(), "recursion limit")


KINDS = {
    "undecodable": lambda _good: Wrong(b"\xff\xfe{", "Invalid JSON"),
    "empty": lambda _good: Wrong(b"", "Invalid JSON"),
    "no-object": lambda _good: Wrong(b"null", "Input should be an object"),
    "cut-off": lambda good: Wrong(json.dumps(good).encode()[:-10], "Invalid JSON"),
    "unknown-type": lambda good: _with_type(good, "parcel.lost.v1"),
    "wrong-version": lambda good: _with_type(good, "order.created.v2"),
    "wrong-total": lambda good: _with(good, "total", total="1.00"),
    "float": lambda good: _with(good, "total", total=1.5),
    "nested": _nested,
    "5-mb-noise": lambda _good: Wrong(b"\xfe" * 5_000_000, "Invalid JSON"),
    "5-mb-order": lambda good: _with(good, "lines", lines=good["lines"][:1] * MANY_LINES),
    "5-mb-errors": lambda good: _with(good, "lines", lines=[WRONG_LINE] * MANY_LINES),
    "3000-errors": lambda good: _with(good, "lines.0", lines=[WRONG_LINE] * 1_000),
}


@pytest.mark.faults(11, "messages that nobody can handle", "15 kinds, to every queue")
@pytest.mark.representative
async def test_poison_dies_at_once(scenario: Scenario) -> None:
    """Each is dead after one attempt, with its reason; a message without an id is one with a derived id."""
    async with scenario.system() as system:
        async with system.load(orders=60, poison_share=0) as load:
            sent: list[tuple[Poison, Wrong]] = []
            for kind, (wrong, order) in wrong_messages(load).items():
                poison = await load.publish_poison(
                    kind, wrong.topic, wrong.body, order_id=order.order_id, **wrong.properties
                )
                sent.append((poison, wrong))
            for event in (one for one in EVENTS if queues_of(one.topic)):
                wrong = Wrong(b"[1", "Invalid JSON", topic=event.topic)
                sent.append((await load.publish_poison("everywhere", event.topic, wrong.body), wrong))
            sent.append(await publish_poison_without_id(system, load))
            await publish_order_without_id(system, load)
        await scenario.passes(system, load)
        archive = system.database("recovery")["dead_letters"]
        letters = {(one["message_id"], one["queue"]): one async for one in archive.find({}, {"body": 0})}
    for poison, wrong in sent:
        for queue in poison.queues:
            letter = letters[poison.message_id, queue]
            said = (letter["attempts"], letter["error_type"])
            assert said == (1, wrong.error_type), f"{poison.kind} in {queue}: {said}"
            assert wrong.reason in letter["reason"], f"{poison.kind} in {queue}: {letter['reason'][:300]}"


async def publish_poison_without_id(system: System, load: Load) -> tuple[Poison, Wrong]:
    """Two undecodable messages, which without an id of their own are the same one."""
    wrong = Wrong(b"neither an id nor JSON", "Invalid JSON")
    derived = str(uuid5(NAMESPACE, wrong.body.hex()))
    poison = load.poison[derived] = Poison(derived, queues_of(wrong.topic), "no-id")
    for _ in range(2):
        await publish_bare(system, wrong.topic, wrong.body)
    return poison, wrong


async def publish_order_without_id(system: System, load: Load) -> None:
    """An order that nothing is wrong with: its id is derived from what it says."""
    order = load.order()
    await publish_bare(system, order.topic, order.model_dump_json().encode())
    content = order.model_dump(mode="json", exclude={"order_id", "placed_at"}, exclude_none=True)
    load.placed[order.order_id] = Placed(order.order_id, content)


async def publish_bare(system: System, topic: str, body: bytes) -> None:
    """Publish without any property, which client libraries do not let one do: by RabbitMQ's HTTP API."""
    node = system.services.rabbitmq
    async with httpx.AsyncClient(auth=node.login, timeout=10, trust_env=False) as http:
        answer = await http.post(
            f"{node.management_url}/api/exchanges/{system.vhost}/{EXCHANGE.name}/publish",
            json={
                "properties": {},
                "routing_key": topic,
                "payload": b64encode(body).decode(),
                "payload_encoding": "base64",
            },
        )
    assert answer.json() == {"routed": True}, answer.text


@pytest.mark.faults(12, "a handler that always fails", "stock, for three orders")
async def test_handler_that_always_fails(scenario: Scenario) -> None:
    """Exactly one attempt more than there are retry levels, at their distances, and then it is dead."""
    async with scenario.system(
        settings={"ORDERFLOW_RETRY_DELAYS_SECONDS": json.dumps(DELAYS_SECONDS)},
        failpoints={"stock": f"fail-for:{ALWAYS_FAILS}"},
    ) as system:
        async with system.load(orders=60, poison_share=0, rate=6) as load:
            poison = []
            for placed in (5, 10, 15):  # apart from each other: a level holds several, of different ages
                await load.accepted(placed)
                poison.append(await publish_failing_order(load))
        await scenario.passes(system, load)
        failures = failures_by_message(system, "stock")
        archive = system.database("recovery")["dead_letters"]
        letters = {one["message_id"]: one async for one in archive.find()}
    assert set(failures) == {one.message_id for one in poison}
    for message_id, attempts in failures.items():
        assert [number for number, _ in attempts] == [1, 2, 3, 4, 5]
        pauses = [(after - before).total_seconds() for (_, before), (_, after) in pairwise(attempts)]
        for pause, delay in zip(pauses, DELAYS_SECONDS, strict=True):
            assert abs(pause - delay) <= TOLERANCE * delay, f"{pauses} s instead of {DELAYS_SECONDS} s"
        letter = letters[message_id]
        assert (letter["attempts"], letter["error_type"]) == (5, "RuntimeError")
        assert letter["reason"] == "a handler that always fails"


async def publish_failing_order(load: Load) -> Poison:
    """An order that stock fails at, and that the read model knows as any other."""
    order = load.order()
    body = json.loads(order.model_dump_json())
    body["customer"] = {"id": ALWAYS_FAILS}
    return await load.publish_poison(
        "always-fails",
        order.topic,
        json.dumps(body).encode(),
        queues=frozenset({"stock.order-created"}),
        order_id=order.order_id,
    )


def failures_by_message(system: System, process: str) -> dict[str, list[tuple[int, datetime]]]:
    """Number and time of each attempt that failed, by message id, as the process has logged them."""
    found = defaultdict(list)
    for entry in system.entries(process):
        if entry["event"] in {"will be tried again", "dead letter"}:
            failed_at = datetime.fromisoformat(entry["timestamp"])
            found[entry["event_id"]].append((entry["attempt"], failed_at))
    return dict(found)
