"""A queue or a binding is deleted under load: the app that owns it puts it back, and no order is lost."""

import asyncio
import json
import os
import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from uuid import UUID

import aio_pika
import httpx
import pytest
from aio_pika.abc import AbstractChannel, AbstractQueue

from apps.cli.system import apply_topology
from apps.kit.settings import get_settings
from apps.kit.topology import EVENTS, inbox
from contracts import EVENTS as EVENT_TYPES
from contracts import Event, InvoiceIssued, OrderCreated, OrderValidated
from tests.faults.conftest import Scenario
from tests.faults.eventually import eventually
from tests.faults.load import Load
from tests.faults.system import System

NOTICED_SECONDS = 30
"""For so long at most is a queue or a binding missing without being put back, or without a red readiness."""
REPAIRED_SECONDS = 120
AT_LEAST = 10
"""Orders that each loss is to concern."""
AT_LEAST_PASSED = 3
PREFETCH = 2
"""Few messages are with a consumer, so that others wait in its queue."""
STUCK_SOON = {"ORDERFLOW_STUCK_AFTER_SECONDS": "4"}
# No poison: what is missed is sent again by order, and poison is none. All are served, however many.
ORDERS_ONLY: dict[str, float] = {
    "rate": 20,
    "units": 100_000,
    "http_share": 1,
    "poison_share": 0,
    "cancel_share": 0,
}
Awaited = tuple[str, ...]
"""What the list of stuck orders says of one of them."""
Binding = tuple[str, str]
"""Queue and routing key."""


@pytest.mark.faults(9, "a queue deleted under its consumer, with messages in it", "{}")
@pytest.mark.parametrize(
    ("app", "event", "awaits"),
    [
        pytest.param("stock", OrderCreated, ("stock", "invoice", "notification"), id="stock.order-created"),
        pytest.param("billing", OrderValidated, ("invoice", "notification"), id="billing.order-validated"),
        pytest.param("orders", InvoiceIssued, ("invoice",), id="orders.invoice-issued"),
    ],
)
async def test_queue_deleted_under_its_consumer(
    scenario: Scenario, app: str, event: type[Event], awaits: Awaited
) -> None:
    """Its consumer comes back or is not ready; what was in the queue is found as stuck and sent again."""
    queue, few = inbox(app, event).name, {app: {"ORDERFLOW_PREFETCH": str(PREFETCH)}}
    async with scenario.system(settings=STUCK_SOON, settings_of=few) as system, rabbitmq(system) as channel:
        async with system.load(**ORDERS_ONLY) as load:
            await load.accepted(20)
            with frozen(system, app):
                lost = await until_waiting(system, queue, PREFETCH + AT_LEAST) - PREFETCH
                await channel.queue_delete(queue)
            await comes_back(system, app, queue)
        missed = await send_stuck_orders_again(system, load)
        await scenario.passes(system, load)
    assert len(missed[awaits]) >= lost


@pytest.mark.faults(9, "a queue deleted that its app may not declare", "billing.order-validated")
async def test_deleted_queue_that_its_app_may_not_declare(scenario: Scenario) -> None:
    """Without the right to put its queue back an app is not ready; once somebody else has, it goes on."""
    queue = inbox("billing", OrderValidated).name
    # What has declared the topology runs with the default delays, which are in the names of the levels.
    defaults = {"ORDERFLOW_RETRY_DELAYS_SECONDS": json.dumps(get_settings().retry_delays_seconds)}
    settings = STUCK_SOON | defaults | {"ORDERFLOW_DECLARE_TOPOLOGY": "false"}
    async with scenario.system(settings=settings) as system, rabbitmq(system) as channel:
        async with system.load(**ORDERS_ONLY) as load:
            await load.accepted(20)
            await channel.queue_delete(queue)
            async with no_right_to_configure(system):
                await system.turns_red("billing", NOTICED_SECONDS)
                await load.accepted(len(load.placed) + AT_LEAST)
            await apply_topology(system.rabbitmq_url)
            await comes_back(system, "billing", queue)
        await send_stuck_orders_again(system, load)
        await scenario.passes(system, load)


@pytest.mark.faults(10, "a binding removed under load", "a binding of each app")
async def test_binding_removed_under_load(scenario: Scenario) -> None:
    """Its app restores it, with no right to configure; what it missed is found as stuck and sent again."""
    removed: dict[Binding, Awaited] = {
        binding("notifications", InvoiceIssued): ("notification",),
        binding("orders", InvoiceIssued): ("invoice",),
        binding("billing", OrderValidated): ("invoice", "notification"),
        binding("stock", OrderCreated): ("stock", "invoice", "notification"),
    }
    async with scenario.system(settings=STUCK_SOON) as system, rabbitmq(system) as channel:
        async with system.load(**ORDERS_ONLY) as load:
            await load.accepted(20)
            taps = {one: await tap(channel, one) for one in removed}
            async with no_right_to_configure(system):
                # One after the other: whoever misses the same events would hide behind the other.
                for one in removed:
                    await let_events_pass_without(system, channel, one, taps[one])
                    await restored(system, [one])
            for passing in taps.values():
                await passing.delete(if_unused=False, if_empty=False)
        missed = await send_stuck_orders_again(system, load)
        await scenario.passes(system, load)
    assert set(missed) >= set(removed.values())


@pytest.mark.faults(10, "every binding of an event removed under load", "OrderValidated to all three")
async def test_every_binding_of_an_event_removed(scenario: Scenario) -> None:
    """What no queue wanted is archived; replayed once the bindings are back, it goes its way."""
    removed = [binding(app, OrderValidated) for app in ("billing", "orders", "webhooks")]
    # What the wiretap takes is not unrouted.
    heard = [event.topic for event in EVENT_TYPES if event is not OrderValidated]
    async with scenario.system(settings=STUCK_SOON, tap=heard) as system, rabbitmq(system) as channel:
        letters = system.database("recovery")["dead_letters"]
        async with system.load(**ORDERS_ONLY) as load:
            await load.accepted(20)
            while await letters.count_documents({}) < AT_LEAST:
                await unbind(channel, *removed)
                await restored(system, removed)
        unwanted = await replay_what_was_unrouted(system)
        await through(system, unwanted)
        # Those that one of the two already got, and the other not yet.
        await send_stuck_orders_again(system, load)
        await scenario.passes(system, load)
        assert await letters.distinct("event_type") == [OrderValidated.topic]
    assert len(unwanted) >= AT_LEAST


def binding(app: str, event: type[Event]) -> Binding:
    return inbox(app, event).name, event.topic


@asynccontextmanager
async def rabbitmq(system: System) -> AsyncIterator[AbstractChannel]:
    """A channel of somebody with every right."""
    async with await aio_pika.connect(system.rabbitmq_url, timeout=10) as connection:
        yield await connection.channel()


@asynccontextmanager
async def no_right_to_configure(system: System) -> AsyncIterator[None]:
    """The apps may write to queues and read from exchanges, as in production, and declare neither."""
    await permit(system, configure="^$")
    try:
        yield
    finally:
        await permit(system, configure=".*")


async def permit(system: System, configure: str) -> None:
    """Set what the user of the apps may declare, by a pattern of names."""
    node = system.services.rabbitmq
    path = f"/api/permissions/{system.vhost}/{node.login[0]}"
    async with httpx.AsyncClient(base_url=node.management_url, auth=node.login, trust_env=False) as http:
        answer = await http.put(path, json={"configure": configure, "write": ".*", "read": ".*"})
    answer.raise_for_status()


@contextmanager
def frozen(system: System, process: str) -> Iterator[None]:
    """Keep a process from taking anything out of its queues."""
    pid = system.stack.supervisor.pid(process)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def until_waiting(system: System, queue: str, messages: int) -> int:
    """Wait until so many messages are in a queue; returns how many there are."""

    async def waiting() -> int:
        size = (await system.queue_sizes())[queue]
        return size if size >= messages else 0

    return await eventually(waiting, f"{messages} messages in {queue}")


async def comes_back(system: System, app: str, queue: str) -> None:
    """Never silent: a queue is there with a consumer again, or the app says that it is not ready.

    In the second case it is started again, as an orchestrator does with an app that is not ready for long.
    """

    async def is_back() -> bool:
        return await is_consumed(system, queue)

    try:
        await eventually(is_back, f"somebody consumes {queue}", NOTICED_SECONDS)
    except AssertionError:
        await system.turns_red(app, deadline_seconds=0)
        system.kill(app)
        await eventually(is_back, f"somebody consumes {queue} after a restart", REPAIRED_SECONDS)


async def is_consumed(system: System, queue: str) -> bool:
    return any(one["name"] == queue and one.get("consumers") for one in await system.management("queues"))


async def bindings(system: System) -> set[Binding]:
    found = await system.management("bindings")
    return {(one["destination"], one["routing_key"]) for one in found if one["source"] == EVENTS.name}


async def unbind(channel: AbstractChannel, *removed: Binding) -> None:
    for name, routing_key in removed:
        queue = await channel.get_queue(name, ensure=False)
        await queue.unbind(EVENTS.name, routing_key)


async def tap(channel: AbstractChannel, bound: Binding) -> AbstractQueue:
    """A queue that shows which events pass, while another is not bound for them."""
    queue = await channel.declare_queue(exclusive=True)
    await queue.bind(EVENTS.name, bound[1])
    return queue


async def let_events_pass_without(
    system: System, channel: AbstractChannel, removed: Binding, passing: AbstractQueue
) -> None:
    """Remove a binding until some events have passed without it; it may be back before any has."""
    while True:
        await unbind(channel, removed)
        await passing.purge()

        async def have_passed() -> bool:
            queue = await channel.declare_queue(passing.name, passive=True)
            return (queue.declaration_result.message_count or 0) >= AT_LEAST_PASSED

        await eventually(have_passed, f"events pass without {removed}")
        # Only its app binds the queue again, and nobody but us unbinds it: unbound now, unbound all along.
        if removed not in await bindings(system):
            return


async def restored(system: System, removed: Iterable[Binding]) -> None:
    """Wait until the apps have put their bindings back."""

    async def are_back() -> bool:
        return await bindings(system) >= set(removed)

    await eventually(are_back, f"{removed} restored", NOTICED_SECONDS)


async def send_stuck_orders_again(system: System, load: Load) -> dict[Awaited, set[UUID]]:
    """Do what an operator does until every order is through; returns the stuck ones by what they awaited."""
    found: defaultdict[Awaited, set[UUID]] = defaultdict(set)
    orders = system.database("orders")["orders"]
    async with system.operator as api, asyncio.timeout(REPAIRED_SECONDS):
        while True:
            page = (await api.get("/v1/orders", params={"stuck": True, "limit": 200})).json()
            for order in page["orders"]:
                found[tuple(order["awaits"])].add(UUID(order["order_id"]))
                answer = await api.post(f"/v1/orders/{order['order_id']}/resend")
                assert answer.status_code == httpx.codes.ACCEPTED, answer.text
            if await orders.count_documents({"awaits": {}}) >= len(load.placed):
                return found
            await asyncio.sleep(1)


async def replay_what_was_unrouted(system: System) -> set[UUID]:
    """Replay all that no queue wanted, as an operator does; returns the orders that it was about."""
    replayed: set[UUID] = set()
    async with system.operator as api, asyncio.timeout(REPAIRED_SECONDS):
        while page := (await api.get("/v1/dead-letters", params={"source": "unrouted"})).json()[
            "dead_letters"
        ]:
            for letter in page:
                answer = await api.post(f"/v1/dead-letters/{letter['dead_letter_id']}/replay")
                assert answer.status_code == httpx.codes.OK, answer.text
                replayed.add(UUID(letter["order_id"]))
    return replayed


async def through(system: System, order_ids: Iterable[UUID]) -> None:
    """Wait until these orders await nothing more."""
    ids = list(order_ids)
    orders = system.database("orders")["orders"]

    async def are_through() -> bool:
        return await orders.count_documents({"_id": {"$in": ids}, "awaits": {}}) == len(ids)

    await eventually(are_through, "all orders through", REPAIRED_SECONDS)
