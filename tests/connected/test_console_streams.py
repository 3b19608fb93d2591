"""The first page and the streams of the real ingress: for whom, until when, and how they end."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import pytest
from conftest import SETTINGS, System, eventually, new_order
from test_keys import ingress, made

from apps.cli.local.ports import LOOPBACK, free_port
from apps.console.flow import PARTS

pytestmark = pytest.mark.connected

VIEWERS = 10
STOP_SECONDS = 10.0
"""Far less than what a stop may take while requests are under way."""


@asynccontextmanager
async def signed_in(key: str, url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A browser without scripts."""
    async with httpx.AsyncClient(base_url=url, timeout=15, trust_env=False) as browser:
        answer = await browser.post("/console/sign-in", data={"key": key})
        assert answer.status_code == 303, answer.text
        yield browser


async def heard(answer: httpx.Response, *texts: str) -> None:
    """Read a stream until it has told all of them."""
    told = ""
    async with asyncio.timeout(30):
        async for text in answer.aiter_text():
            told += text
            if all(one in told for one in texts):
                return
    pytest.fail(f"the stream ended without {texts}")


async def test_the_first_page_tells_it_all_without_scripts(system: System) -> None:
    """Counts, queues and times are in the page itself; nothing in it needs what its policy forbids."""
    (sku,) = await system.stock_up(10)
    order = new_order((sku, 1))
    await system.publish(order)
    await system.settled(order.order_id)
    async with signed_in(system.stack.api_key, system.stack.api_url) as browser:
        answer = await browser.get("/console/")
    assert answer.status_code == 200
    assert all(f'id="flow-{part}" data-poll' in answer.text for part in PARTS)
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
    for forbidden in (" style=", " onclick=", "<script>"):
        assert forbidden not in answer.text
    assert "stock.order-created" in answer.text
    assert 'href="/console/orders?status=notified"' in answer.text


async def test_an_order_over_amqp_is_told_to_open_pages(system: System) -> None:
    """The list hears of it, and the page of the order itself of each step."""
    (sku,) = await system.stock_up(10)
    order = new_order((sku, 1), email="ana@example.com")
    async with AsyncExitStack() as open_pages:
        browser = await open_pages.enter_async_context(signed_in(system.stack.api_key, system.stack.api_url))
        row = await open_pages.enter_async_context(browser.stream("GET", "/console/live/orders"))
        page = await open_pages.enter_async_context(
            browser.stream("GET", f"/console/live/orders/{order.order_id}")
        )
        assert row.headers["content-type"].startswith("text/event-stream")
        assert row.headers["cache-control"] == "no-store"
        await system.publish(order)
        await asyncio.gather(
            heard(row, f'id="order-{order.order_id}"', "badge notified"), heard(page, "badge notified")
        )


async def test_who_is_bound_to_a_client_is_not_shown_the_whole_shop(system: System) -> None:
    """The first page leads on to the own orders; the stream of the whole is refused."""
    key = await made(system, "--scope", "orders:read", "--client", "marketplace")
    async with signed_in(key, system.stack.api_url) as browser:
        assert (await browser.get("/console/")).headers["Location"].endswith("/console/orders")
        assert (await browser.get("/console/live/flow")).status_code == 403
        order = new_order(("any", 1))
        await system.publish(order)
        await eventually(lambda: system.order(order.order_id), "the order is known")
        assert (await browser.get(f"/console/live/orders/{order.order_id}")).status_code == 404


async def test_a_stop_does_not_wait_for_open_pages(system: System) -> None:
    """Their streams end, so that they come back to another process; this one ends as if nobody looked."""
    port = free_port()
    environment = {**os.environ, **system.stack.addresses, **SETTINGS}
    process = await asyncio.create_subprocess_exec(*ingress(port), env=environment)
    try:
        url = f"http://{LOOPBACK}:{port}"
        await eventually(lambda: _answers(url), "the ingress answers")
        async with AsyncExitStack() as open_pages:
            browser = await open_pages.enter_async_context(signed_in(system.stack.api_key, url))
            streams = [
                await open_pages.enter_async_context(browser.stream("GET", "/console/live/flow"))
                for _ in range(VIEWERS)
            ]
            readings = [asyncio.create_task(_read(stream)) for stream in streams]
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(STOP_SECONDS):
                assert await process.wait() == 0
                # Each to its proper end: a client that is cut off would raise.
                await asyncio.gather(*readings)
            assert time.monotonic() - began < STOP_SECONDS
    finally:
        if process.returncode is None:
            process.kill()


async def _answers(url: str) -> bool:
    try:
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            return (await client.get("/health/ready")).status_code == 200
    except httpx.TransportError:
        return False


async def _read(stream: httpx.Response) -> None:
    async for _ in stream.aiter_bytes():
        pass
