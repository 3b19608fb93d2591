"""Sends orders with a bounded number in flight; each is sent again, unchanged, until it is confirmed."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager

from apps.kit.errors import DependencyUnavailable
from apps.kit.publishing import Publish, PublishFailed, event_publisher
from contracts import OrderCreated


@asynccontextmanager
async def connect(*, patience_seconds: float, on_wait: Callable[[str], None]) -> AsyncIterator[Publish]:
    """A publisher's connection, for which RabbitMQ may first have to come up.

    Raises:
        DependencyUnavailable: it did not within the time.
    """
    clock = asyncio.get_running_loop().time
    give_up_at = clock() + patience_seconds
    async with AsyncExitStack() as stack:
        while True:
            try:
                publish = await stack.enter_async_context(event_publisher("import", timeout_seconds=3))
                break
            except DependencyUnavailable as failure:  # only after some seconds, so no pause is needed
                if clock() >= give_up_at:
                    raise
                on_wait(str(failure))
        yield publish


async def publish_orders(
    orders: Iterable[OrderCreated],
    publish: Publish,
    *,
    window: int = 100,
    patience_seconds: float = 60,
    pause_seconds: float = 0.5,
    on_progress: Callable[[OrderCreated], None] = lambda _: None,
    on_wait: Callable[[str], None] = lambda _: None,
) -> int:
    """Publish all orders and return their number; `publish` returns once the broker has confirmed.

    At most `window` orders are taken from the iterable and not yet confirmed. An order that fails is tried
    again for `patience_seconds`; a repeat carries the same ids, so nothing is ordered twice.

    Raises:
        PublishFailed: one order stayed unconfirmed for that long; those in flight are given up with it.
    """
    remaining = iter(orders)
    confirmed = 0

    async def send() -> None:
        nonlocal confirmed
        for order in remaining:  # shared: every sender takes the next one
            await _publish_until_confirmed(order, publish, patience_seconds, pause_seconds, on_wait)
            confirmed += 1
            on_progress(order)

    try:
        async with asyncio.TaskGroup() as senders:
            for _ in range(window):
                senders.create_task(send())
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return confirmed


async def _publish_until_confirmed(
    order: OrderCreated,
    publish: Publish,
    patience_seconds: float,
    pause_seconds: float,
    on_wait: Callable[[str], None],
) -> None:
    clock = asyncio.get_running_loop().time
    give_up_at: float | None = None
    while True:
        try:
            await publish(order)
        except PublishFailed as failure:
            give_up_at = give_up_at or clock() + patience_seconds
            if clock() >= give_up_at:
                raise
            on_wait(f"RabbitMQ does not confirm ({failure})")
            await asyncio.sleep(pause_seconds)
        else:
            return
