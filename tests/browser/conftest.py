"""The documentation site as the ingress serves it, read in a real Chromium that reaches nothing else."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
from playwright.async_api import Browser, async_playwright

from apps.cli.local.ports import LOOPBACK, free_port
from apps.ingress.api import api
from tests.browser.reader import Reader, Readers

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


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


@pytest.fixture
async def readers(chromium: Browser, url: str) -> AsyncIterator[Readers]:
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
async def reader(readers: Readers) -> Reader:
    new: Reader = await readers(viewport={"width": 1280, "height": 900}, color_scheme="light")
    return new
