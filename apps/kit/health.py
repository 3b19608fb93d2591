"""Honest health: live is the event loop, ready is RabbitMQ, every consumer and MongoDB answering now."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import orjson

from apps.kit.broker import EventBroker
from apps.kit.mongo import Database

Check = Callable[[], Awaitable[None]]
"""Returns when all is well, raises an exception whose text says what is not."""

_CHECK_TIMEOUT_SECONDS = 3.0


class NotReadyError(Exception):
    """What a worker needs and does not have now."""


async def run_checks(checks: Mapping[str, Check]) -> dict[str, str]:
    """Run all checks at once; returns `ok` or what is wrong for each."""

    async def run(check: Check) -> str:
        try:
            async with asyncio.timeout(_CHECK_TIMEOUT_SECONDS):
                await check()
        except TimeoutError:
            return f"no answer within {_CHECK_TIMEOUT_SECONDS:g} s"
        except Exception as error:  # noqa: BLE001  # whatever it is, the answer is "not ready"
            return str(error) or type(error).__name__
        return "ok"

    return dict(zip(checks, await asyncio.gather(*map(run, checks.values())), strict=True))


def report(is_ready: bool, states: Mapping[str, str]) -> bytes:  # noqa: FBT001
    """The JSON body of a readiness answer."""
    return orjson.dumps({"status": "ready" if is_ready else "not ready", "checks": states})


def broker_check(broker: EventBroker) -> Check:
    """RabbitMQ is connected."""

    async def check() -> None:
        if not await broker.ping(timeout=1):
            raise NotReadyError("not connected")

    return check


def consumers_check(broker: EventBroker) -> Check:
    """Every queue of the broker has a consumer.

    Asks the server on a channel of its own: a client's own view stays green when its queue is deleted.
    """

    async def check() -> None:
        if not await broker.ping(timeout=1):
            raise NotReadyError("not connected")
        connection = await broker.connect()
        async with connection.channel(publisher_confirms=False) as channel:
            for consumer in broker.consumers:
                if not consumer.running:
                    raise NotReadyError(f"this process does not consume {consumer.queue.name}")
                queue = await channel.declare_queue(consumer.queue.name, passive=True, robust=False)
                if not queue.declaration_result.consumer_count:
                    raise NotReadyError(f"nobody consumes {consumer.queue.name}")

    return check


def waiting_check(broker: EventBroker) -> Check:
    """No message waits for something out of reach."""

    async def check() -> None:
        if reasons := broker.waiting.reasons:
            raise NotReadyError(f"messages wait: {', '.join(reasons)}")

    return check


def mongodb_check(database: Database) -> Check:
    """MongoDB answers."""

    async def check() -> None:
        await database.client.admin.command("ping")

    return check
