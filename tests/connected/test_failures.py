"""What fails, and what dies: nothing is lost, nothing is held up, and the reason is kept."""

import asyncio
import json
import os
import signal
from uuid import uuid4

import pytest
from conftest import RETRY_DELAYS_SECONDS, System, body_of, eventually, new_order

from contracts import StockAdjusted

pytestmark = pytest.mark.connected


async def test_poison_is_set_aside_with_its_reason_and_holds_nobody_up(system: System) -> None:
    """Every kind of unreadable message becomes a dead letter at once; the orders around it go through."""
    (sku,) = await system.stock_up(None)
    orders = [new_order((sku, 1)) for _ in range(6)]
    good = json.loads(orders[0].model_dump_json())
    poison = {
        "not json": b"\xff\xfe{",
        "empty": b"",
        "wrong shape": b"[1, 2]",
        "no lines": json.dumps(good | {"lines": []}).encode(),
        "wrong total": json.dumps(good | {"total": "1.00"}).encode(),
        "money as a number": json.dumps(good | {"total": 2.5}).encode(),
    }
    ids = {str(uuid4()): body for body in poison.values()}
    for (message_id, body), order in zip(ids.items(), orders, strict=True):
        await system.publish_raw("order.created.v1", body, message_id=message_id)
        await system.publish(order)

    for order in orders:
        assert (await system.settled(order.order_id))["status"] == "unreachable"
    for message_id, body in ids.items():
        letters = await system.dead_letters(message_id, 2)
        assert [letter["queue"] for letter in letters] == ["orders.order-created", "stock.order-created"]
        for letter in letters:
            assert letter["body"] == body
            assert letter["error_type"] == "ValidationError"
            assert letter["attempts"] == 1
            assert letter["event_type"] == "order.created.v1"
            assert letter["reason"]


async def test_dead_letter_names_the_field_that_broke_the_contract(system: System) -> None:
    """An operator reads what was wrong and where."""
    order = new_order(("any", 1))
    body = json.loads(order.model_dump_json()) | {"currency": "GBX"}
    message_id = str(uuid4())

    await system.publish_raw("order.created.v1", json.dumps(body).encode(), message_id=message_id)

    for letter in await system.dead_letters(message_id, 2):
        assert letter["reason"] == "currency: 'GBX' is not an ISO 4217 currency code"


async def test_message_of_another_type_than_its_routing_key_is_refused(system: System) -> None:
    """A type that contradicts the routing key is an unknown type, whatever the body says."""
    order = new_order(("any", 1))

    await system.publish_raw(
        order.topic, order.model_dump_json().encode(), type="order.created.v9", message_id="odd-type"
    )

    for letter in await system.dead_letters("odd-type", 2):
        assert letter["error_type"] == "UnknownTypeError"
        assert "order.created.v9" in letter["reason"]


async def test_copy_that_a_header_led_to_another_queue_is_refused(system: System) -> None:
    """A right to publish one event is no right to another: before RabbitMQ 4.0, `CC` gets around it."""
    (sku,) = await system.stock_up(1)
    message_id = str(uuid4())
    stolen = StockAdjusted(
        adjustment_id=uuid4(), sku=sku, mode="set", quantity=1000, adjusted_at="2026-11-02T00:00:00Z"
    )

    await system.publish_raw(
        "order.packed.v1",
        stolen.model_dump_json().encode(),
        message_id=message_id,
        headers={"CC": [stolen.topic], "orderflow-routing-key": stolen.topic},
    )

    letter = await system.dead_letter(message_id)
    assert letter["queue"] == "stock.stock-adjusted"
    assert letter["reason"] == "routing key: is 'order.packed.v1', this queue receives 'stock.adjusted.v1'"
    actor = {"Orderflow-Actor": "a test"}
    answer = await system.api.post(f"/v1/dead-letters/{letter['_id']}/replay", headers=actor)
    assert answer.is_success, answer.text

    async def died_again() -> bool:
        again = await system.dead_letter(message_id)
        return again["state"] == "open" and again["replays"] == 1

    await eventually(died_again, "dead again after its replay")
    level = await system.database("stock")["levels"].find_one({"_id": sku})
    assert level["available"] == 1


async def test_handler_that_keeps_failing_is_tried_five_times_and_then_dead(system: System) -> None:
    """Four pauses of the configured lengths lie between five attempts; then the message keeps its reason."""
    sku = f"sku-{uuid4().hex[:12]}"
    write_off = StockAdjusted(
        adjustment_id=uuid4(), sku=sku, mode="add", quantity=-5, adjusted_at="2026-11-01T08:00:00Z"
    )

    await system.publish(write_off)

    letter = await system.dead_letter(str(write_off.adjustment_id))
    assert letter["error_type"] == "StockBelowZeroError"
    assert letter["attempts"] == 5
    assert letter["queue"] == "stock.stock-adjusted"
    assert "StockBelowZeroError" in letter["traceback"]
    passed = letter["last_failed_at"] - letter["first_failed_at"]
    assert passed.total_seconds() >= sum(RETRY_DELAYS_SECONDS)


async def test_failure_that_passes_is_retried_until_it_does(system: System) -> None:
    """A write-off that came before its count is applied by a later attempt, without help."""
    sku = f"sku-{uuid4().hex[:12]}"
    write_off = StockAdjusted(
        adjustment_id=uuid4(), sku=sku, mode="add", quantity=-5, adjusted_at="2026-11-01T09:00:00Z"
    )
    await system.publish(write_off)
    log = system.stack.logs / "stock.log"

    async def failed_once() -> bool:
        return any(
            str(write_off.adjustment_id) in line and "will be tried again" in line
            for line in log.read_text().splitlines()
        )

    await eventually(failed_once, "first attempt failed")
    await system.stock_up(20, [sku])

    async def applied() -> bool:
        level = await system.database("stock")["levels"].find_one({"_id": sku})
        return level["available"] == 15

    await eventually(applied, "the write-off is applied")


async def test_nonsense_timestamp_costs_nothing(system: System) -> None:
    """A time in nanoseconds, which no client can decode, neither ends the connection nor the order."""
    (sku,) = await system.stock_up(None)
    order = new_order((sku, 1))

    await system.publish_bare(order, timestamp=1_700_000_000_000_000_000)

    assert (await system.settled(order.order_id))["status"] == "unreachable"
    log = (system.stack.logs / "stock.log").read_text()
    assert "InvalidFrameError" not in log


async def test_event_that_no_queue_wants_is_kept(system: System) -> None:
    """A routing key that nobody consumes ends in the archive, not in nothing."""
    await system.publish_raw("order.packed.v1", b"{}", message_id="nobody-wants-this")

    letter = await system.dead_letter("nobody-wants-this")

    assert (letter["source"], letter["queue"], letter["event_type"]) == ("unrouted", None, "order.packed.v1")
    assert letter["body"] == b"{}"


@pytest.mark.parametrize("app", ["api", "orders", "stock", "billing", "notifications", "recovery"])
async def test_app_killed_in_mid_work_loses_and_doubles_nothing(system: System, app: str) -> None:
    """Kill -9 of any app while orders flow: it comes back, and each order has one invoice and one mail."""
    (sku,) = await system.stock_up(1000)
    orders = [new_order((sku, 1), email=f"kill-{app}-{number}@example.com") for number in range(30)]
    restarts = system.stack.supervisor.restarts(app)

    for number, order in enumerate(orders):
        await system.publish(order)
        if number == 10:
            os.kill(system.stack.supervisor.pid(app), signal.SIGKILL)

    for order in orders:
        assert (await system.settled(order.order_id, 60))["status"] == "notified"
    assert system.stack.supervisor.restarts(app) == restarts + 1
    ids = [order.order_id for order in orders]
    assert await system.database("billing")["invoices"].count_documents({"_id": {"$in": ids}}) == 30
    log = system.database("notifications")["notifications"]
    assert await log.count_documents({"order_id": {"$in": ids}}) == 30
    level = await system.database("stock")["levels"].find_one({"_id": sku})
    assert (level["available"], level["reserved"]) == (970, 30)
    await system.stack.supervisor.wait_ready(30)


async def test_orders_are_accepted_while_rabbitmq_is_away_and_flow_when_it_is_back(system: System) -> None:
    """With RabbitMQ stopped POST answers 202 and fast; the relay publishes the orders after its return."""
    (sku,) = await system.stock_up(None)
    node = system.stack.rabbitmq
    accepted = []
    await asyncio.to_thread(node.ctl, "stop_app")
    try:
        for _ in range(10):
            answer = await system.api.post("/v1/orders", json=body_of(new_order((sku, 1))))
            assert answer.status_code == 202
            assert answer.elapsed.total_seconds() < 2
            accepted.append(answer.json()["order_id"])
        ready = await system.api.get("/health/ready")
        assert ready.status_code == 200
        assert ready.json()["checks"]["rabbitmq"] != "ok"
    finally:
        await asyncio.to_thread(node.ctl, "start_app")

    async def our_own_channel_is_back() -> bool:
        return not system.channel.is_closed

    await eventually(our_own_channel_is_back, "the test's own connection")
    for order_id in accepted:
        assert (await system.settled(order_id, 90))["status"] == "unreachable"
    await system.stack.supervisor.wait_ready(60)


async def test_transaction_left_open_by_a_dead_worker_is_waited_out(system: System) -> None:
    """What a worker had locked when it was killed delays others until MongoDB lets go, and fails nobody."""
    (sku,) = await system.stock_up(10)
    order = new_order((sku, 1))
    session = system.mongo.start_session()
    await session.start_transaction()
    levels = system.database("stock")["levels"]
    await levels.update_one({"_id": sku}, {"$inc": {"available": -1}}, session=session)

    await system.publish(order)

    assert (await system.settled(order.order_id, 60))["status"] == "unreachable"
    level = await levels.find_one({"_id": sku})
    assert (level["available"], level["reserved"]) == (9, 1)
    log = (system.stack.logs / "stock.log").read_text()
    assert not any(str(order.order_id) in line and "will be tried again" in line for line in log.splitlines())
    await session.end_session()


async def test_workers_wait_for_mongodb_without_spending_attempts(system: System) -> None:
    """With MongoDB away messages wait, readiness says so, and work goes on by itself when it is back."""
    (sku,) = await system.stock_up(None)
    order = new_order((sku, 1))
    mongodb = system.stack.mongodb
    await asyncio.to_thread(mongodb.stop)
    try:
        await system.publish(order)
        answer = await system.api.post("/v1/orders", json=body_of(order))
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        log = system.stack.logs / "stock.log"

        async def waits() -> bool:
            return any(
                str(order.order_id) in line and "waiting for a dependency" in line
                for line in log.read_text().splitlines()
            )

        await eventually(waits, "stock waits for MongoDB")
        assert (await system.api.get("/health/ready")).status_code == 503
    finally:
        await asyncio.to_thread(mongodb.start)

    assert (await system.settled(order.order_id, 60))["status"] == "unreachable"
    assert not any(
        str(order.order_id) in line and "will be tried again" in line
        for app in ("stock", "orders", "billing", "notifications")
        for line in (system.stack.logs / f"{app}.log").read_text().splitlines()
    )
    await system.stack.supervisor.wait_ready(60)
