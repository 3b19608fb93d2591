"""`just screenshots`: the pictures of the console in the README, from a real run of the demo."""

import asyncio
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aio_pika
from dotenv import dotenv_values
from playwright.async_api import Page, async_playwright

from contracts import OrderCreated
from tests.browser.conftest import FLAGS

PICTURES = Path(__file__).parents[2] / "docs" / "screenshots"
SIZE = {"width": 1280, "height": 860}
_POISON = b'{"order_id": "1a7a6b1c-4c9e-4a3f-9d7e-2f5a7c1b0e11", "currency": "GBX"}'


@asynccontextmanager
async def demo(home: Path) -> AsyncIterator[dict[str, str]]:
    """The demo's system while it stays up; gives the settings by which it is reached."""
    command = (sys.executable, "-m", "apps.cli.main", "demo", "--keep", "--home", str(home))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(300):
            async for line in process.stdout:
                if b"Still up" in line:
                    break
        yield {name: value or "" for name, value in dotenv_values(home / "env").items()}
    finally:
        process.terminate()
        await process.communicate()


async def main() -> None:
    """Write both pictures."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="orderflow-pictures-") as directory:
        async with demo(Path(directory)) as settings, async_playwright() as playwright:
            await _publish_poison(settings["ORDERFLOW_RABBITMQ_URL"])
            browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
            page = await browser.new_page(viewport=SIZE, color_scheme="light", locale="en-GB")
            await _picture(page, settings)
            await browser.close()


async def _publish_poison(url: str) -> None:
    async with await aio_pika.connect(url) as connection:
        events = await (await connection.channel()).get_exchange("events")
        await events.publish(aio_pika.Message(_POISON), OrderCreated.topic)


async def _picture(page: Page, settings: dict[str, str]) -> None:
    console = f"{settings['ORDERFLOW_API_URL']}/console"
    await page.goto(f"{console}/sign-in")
    await page.fill("#key", settings["ORDERFLOW_API_KEY"])
    await page.click("main button.primary")
    await page.locator("#nav-dead-letters:visible").wait_for()
    await page.screenshot(path=PICTURES / "flow.png")
    await page.goto(f"{console}/orders?status=notified")
    await page.locator("#orders-rows tr th a, #orders-rows tr td a").first.click()
    await page.locator("time[title]").first.wait_for()
    await page.screenshot(path=PICTURES / "order.png")


if __name__ == "__main__":
    asyncio.run(main())
