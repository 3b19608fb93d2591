"""The site and the console as the ingress serves them, read in a real Chromium that reaches nothing else."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.async_api import Browser, async_playwright

from apps.cli.local.ports import LOOPBACK, free_port
from apps.ingress.api import api
from tests.browser.reader import Reader, Readers
from tests.connected.conftest import System, running
from tests.infra.conftest import need, npm_packages

__all__ = ["need", "npm_packages"]

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
DESK = {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"}


@pytest.fixture(scope="session")
async def url() -> AsyncIterator[str]:
    """Where the site is: the ingress without its stores, which the pages do not need."""
    port = free_port(18400)
    server = uvicorn.Server(uvicorn.Config(api, LOOPBACK, port, lifespan="off", log_level="warning"))
    serving = asyncio.create_task(server.serve())
    yield f"http://{LOOPBACK}:{port}/asyncapi/"
    server.should_exit = True
    await serving


@pytest.fixture(scope="session")
async def chromium() -> AsyncIterator[Browser]:
    executable = shutil.which("chromium")
    if executable is None:
        pytest.fail("Chromium is missing: apt-get install chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        await browser.close()


@asynccontextmanager
async def watched(chromium: Browser, url: str) -> AsyncIterator[Readers]:
    """Makes readers, with options of their browser; whatever goes wrong in one of them fails the test."""
    made: list[Reader] = []

    async def reader(**options: Any) -> Reader:
        context = await chromium.new_context(**options)
        page = await context.new_page()
        page.set_default_timeout(60_000)
        new = Reader(context, page, url)
        await context.route("**/*", new.allow_only_the_site)
        page.on("console", lambda message: new.troubles.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: new.troubles.append(str(error)))
        page.on("requestfailed", new.note_failure)
        made.append(new)
        return new

    yield reader
    for one in made:
        await one.context.close()
    assert [trouble for one in made for trouble in one.troubles] == []


@pytest.fixture
async def readers(chromium: Browser, url: str) -> AsyncIterator[Readers]:
    """Makes readers of the site."""
    async with watched(chromium, url) as reader:
        yield reader


@pytest.fixture
async def reader(readers: Readers) -> Reader:
    new: Reader = await readers(**DESK)
    return new


@pytest.fixture(scope="session")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """The whole system as it runs, of the browser's tests alone."""
    async with running(tmp_path_factory.mktemp("system")) as started:
        yield started


@pytest.fixture(scope="session")
def axe(npm_packages: Path) -> str:
    """The script that finds what keeps people from using a page."""
    return (npm_packages / "node_modules" / "axe-core" / "axe.min.js").read_text()


async def signed_in(reader: Reader, key: str) -> Reader:
    """The reader at the console, as whoever has the key."""
    page = await reader.open("/sign-in")
    await page.fill("#key", key)
    await page.click("main form button")
    await page.wait_for_url(lambda url: "/sign-in" not in url)
    return reader


@pytest.fixture
async def operators(chromium: Browser, system: System) -> AsyncIterator[Readers]:
    """Signs people in at the console, with a key, or that of the system, and options of their browser."""
    async with watched(chromium, f"{system.stack.api_url}/console") as reader:

        async def operator(key: str = system.stack.api_key, **options: Any) -> Reader:
            return await signed_in(await reader(**{**DESK, **options}), key)

        yield operator


@pytest.fixture
async def operator(operators: Readers) -> Reader:
    new: Reader = await operators()
    return new
