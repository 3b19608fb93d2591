"""The list of orders comes as fast with 100,000 of them as with none."""

import random
from datetime import timedelta
from pathlib import Path
from statistics import median
from uuid import UUID

import pytest
from playwright.async_api import Browser
from test_keys import another_ingress

from apps.cli.local.api_key import make_valid
from apps.orders.domain import Status
from tests.browser.conftest import DESK, signed_in
from tests.browser.reader import Reader
from tests.connected.conftest import System, new_order

pytestmark = pytest.mark.connected

ORDERS = 100_000
MOST_MS = 300
MOST_OF_EMPTY = 1.5
"""Of the empty list's time, where the machine is so slow that this is more than 300 ms."""
TIMES = 5
ROUNDS = 3
"""What else runs on the machine may slow down one; the code slows down all."""
PREFIX = "orderflow_many"
_BATCH = 5_000
_PAINTED = """() => new Promise((resolve) => {
  const paints = () => performance.getEntriesByName("first-contentful-paint");
  const look = () => paints().map(({ startTime }) => resolve(startTime));
  if (!look().length) new PerformanceObserver(look).observe({ type: "paint" });
})"""


async def fill(system: System) -> None:
    """Many orders as the read model has them: copies of one that went its way, over half a year."""
    (sku,) = await system.stock_up(1)
    order = new_order((sku, 1), email="ana@example.com")
    await system.publish(order)
    await system.settled(order.order_id)
    one = await system.database("orders")["orders"].find_one({"_id": order.order_id})
    rng = random.Random(8)  # noqa: S311  # no secret
    orders = system.mongo[f"{PREFIX}_orders"]["orders"]
    for first in range(0, ORDERS, _BATCH):
        copies = []
        for number in range(first, first + _BATCH):
            at = one["recorded_at"] - timedelta(minutes=2.5 * number)
            own = {"_id": UUID(int=rng.getrandbits(128), version=4), "recorded_at": at, "changed_at": at}
            status = rng.choices((Status.NOTIFIED, Status.REJECTED, Status.CANCELLED), (90, 8, 2))[0]
            names = {"reference": f"REF-{number}", "customer_id": f"c-{number % 5_000}"}
            copies.append({**one, **own, **names, "rank": status.rank, "invoice_number": f"2026-{number:06}"})
        await orders.insert_many(copies, ordered=False)


async def first_paint_ms(reader: Reader, path: str) -> float:
    """How long it takes until something of the page is seen; the median of some times."""
    taken = []
    for _ in range(TIMES):
        page = await reader.open(path)
        taken.append(await page.evaluate(_PAINTED))
    return median(taken)


async def best(reader: Reader, path: str) -> float:
    """The time of the best round, of which there is one if that is fast enough."""
    fastest = await first_paint_ms(reader, path)
    for _ in range(ROUNDS - 1):
        if fastest < MOST_MS:
            break
        fastest = min(fastest, await first_paint_ms(reader, path))
    return fastest


async def test_100_000_orders_stay_fast(system: System, chromium: Browser, tmp_path: Path) -> None:
    """The list, a filtered one, a search, and the third page, beside the list without any order."""
    await make_valid(system.stack.api_key, system.stack.mongodb_url, PREFIX)
    async with (
        another_ingress(system, tmp_path, ORDERFLOW_DATABASE_PREFIX=PREFIX) as api,
        await chromium.new_context(**DESK) as context,
    ):
        # Nothing looks at its requests, as elsewhere: each would be held up by that.
        console = f"{str(api.base_url).rstrip('/')}/console"
        reader = await signed_in(Reader(context, await context.new_page(), console), system.stack.api_key)
        found = {"empty": await best(reader, "/orders")}
        await fill(system)
        for path in ("/orders", "/orders?status=rejected", "/orders?q=c-77&kind=customer"):
            found[path] = await best(reader, path)
        page = await reader.open("/orders")
        for _ in range(2):
            before = page.url
            await page.get_by_role("link", name="Next page").click()
            await page.wait_for_url(lambda url, before=before: url != before)
        found["third page"] = await best(reader, page.url.removeprefix(reader.url))
    print({path: round(taken) for path, taken in found.items()})  # noqa: T201  # what was measured
    most = max(MOST_MS, MOST_OF_EMPTY * found["empty"])
    assert {path: round(taken) for path, taken in found.items() if taken >= most} == {}, found
