"""What people do at the console, against the whole system: watch, search, repair, cancel; and may not."""

from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from bson import Binary
from playwright.async_api import Locator, Page, expect
from test_console_dead_letters import consumed, letters_of
from test_dead_letters import own_queue

from apps.access.domain import digest_of, new_key, prefix_of
from apps.cli.api_client import bearer
from apps.console.streams import DROP
from apps.kit.clock import utc_now
from contracts import OrderCreated
from tests.browser.reader import Reader, Readers
from tests.connected.conftest import System, body_of, eventually, new_order

pytestmark = pytest.mark.connected

SOON_MS = 30_000
NOTE_WHAT_COMES = """() => {
  window.came = [];
  const added = ({ addedNodes }) => [...addedNodes].map(({ id }) => id);
  const observer = new MutationObserver((changes) => came.push(...changes.flatMap(added)));
  observer.observe(document.querySelector("main"), { childList: true, subtree: true });
}"""
"""What comes by the stream, also if it is gone a moment later; a page that asks gets all rows in one."""


async def key_for(system: System, *scopes: str, client: str | None = None) -> str:
    """A key with these scopes only."""
    key = new_key()
    rights = {"name": "a test's", "scopes": list(scopes), "client": client}
    stored = {"_id": prefix_of(key), "digest": digest_of(key), "created_at": utc_now(), **rights}
    await system.database("access")["keys"].insert_one(stored)
    return key


async def an_order(system: System, **fields: Any) -> OrderCreated:
    """An order that can be served, not published yet; its reference is its own."""
    (sku,) = await system.stock_up(9)
    order = new_order((sku, 2), email="ana@example.com")
    return order.model_copy(update={"reference": f"REF-{uuid4().hex[:8]}", **fields})


async def told(system: System, order: OrderCreated) -> None:
    """Publish it and wait until its customer is told."""
    await system.publish(order)
    await system.settled(order.order_id)


async def look_live(reader: Reader, path: str) -> Page:
    """Open a page, once what moves in it does."""
    page = await reader.open(path)
    await expect(page.locator("#live")).to_have_attribute("data-state", "live")
    return page


async def expect_status(place: Locator, status: str) -> None:
    await expect(place.locator(".badge").first).to_have_text(status, timeout=SOON_MS)


async def once_loaded(page: Page, place: Locator, words: str) -> None:
    """Wait for what a busy machine shows only when the page is loaded again, where no script does it."""

    async def is_shown() -> bool:
        if words in await place.inner_text():
            return True
        await page.reload()
        return False

    await eventually(is_shown, words)


async def test_order_from_rabbitmq_walks_through_the_list(system: System, operator: Reader) -> None:
    """It appears without reloading, ends notified, and its page has all that any app knows of it."""
    first, order = await an_order(system), await an_order(system)
    page = await look_live(operator, "/orders")
    await page.evaluate(NOTE_WHAT_COMES)
    await system.publish(first)
    await expect(page.locator(f"#order-{first.order_id}")).to_be_visible(timeout=SOON_MS)

    await system.publish(order)
    row = page.locator(f"#order-{order.order_id}")
    await expect(row).to_contain_text(order.reference or "", timeout=SOON_MS)
    await expect_status(row, "notified")
    assert f"order-{order.order_id}" in await page.evaluate("came")
    await row.get_by_role("link").click()

    await expect(page.get_by_role("heading", level=1)).to_contain_text(order.reference or "")
    timeline = page.locator("#order-timeline")
    await expect(timeline.get_by_role("heading", level=3)).to_have_text(
        ["OrderCreated", "OrderValidated", "InvoiceIssued", "NotificationSent"]
    )
    await timeline.get_by_text("Payload", exact=True).first.click()
    await expect(timeline.locator("pre").first).to_contain_text(f'"order_id": "{order.order_id}"')
    await expect(page.locator("#order-stock")).to_contain_text("reserved")
    await expect(page.locator("#order-messages")).to_contain_text("Sent")
    assert any(b"ana@example.com" in mail.read_bytes() for mail in system.stack.mails.glob("*.eml"))
    await expect_pdf(operator, page.locator("#invoice-pdf"))


async def expect_pdf(operator: Reader, link: Locator) -> None:
    """The link leads to a PDF, once documents has drawn it."""
    root = operator.url.removesuffix("/console")
    way = f"{root}{await link.get_attribute('href')}"

    async def is_there() -> bool:
        answer = await operator.context.request.get(way)
        return answer.ok and (await answer.body()).startswith(b"%PDF-")

    await eventually(is_there, f"{way} is a PDF")


async def test_poison_is_mended_and_replayed(system: System, operator: Reader) -> None:
    """What billing cannot store dies; once it can, a replay from the page lets the order end invoiced."""
    order = await an_order(system)
    billing = system.database("billing")
    await billing.command("collMod", "invoices", validator={"_id": {"$ne": Binary.from_uuid(order.order_id)}})
    try:
        page = await look_live(operator, "/dead-letters")
        await system.publish(order)
        letter = await system.dead_letter(str(order.order_id))
        group = page.locator(".group", has_text="billing.order-validated")
        await expect(group).to_be_visible(timeout=SOON_MS)
    finally:
        await billing.command("collMod", "invoices", validator={})
    await operator.open(f"/orders/{order.order_id}")
    await page.locator("#order-letters").get_by_role("link").click()
    await expect(page.locator("pre.body")).to_contain_text(str(order.order_id))

    await page.get_by_role("link", name="Replay…").click()
    preview = page.get_by_role("main")
    await expect(preview).to_contain_text("billing.order-validated")
    archived = system.database("recovery")["dead_letters"]
    assert await archived.count_documents({"_id": letter["_id"], "state": "open"}) == 1
    await page.get_by_role("button", name="Replay").click()
    await expect(page.locator("#history")).to_contain_text("sent again")

    await look_live(operator, f"/orders/{order.order_id}")
    await expect_status(page.get_by_role("heading", level=1), "notified")
    await expect(page.locator("#order-invoice h3")).to_have_count(1)
    await expect(page.locator("#order-letters")).to_be_hidden()


async def test_group_is_replayed_to_its_end(system: System, operator: Reader) -> None:
    """One click, and the bar goes on by itself, page by page, until none is open."""
    name = f"test.{uuid4().hex}"
    async with own_queue(system, name) as queue, consumed(queue) as got:
        letters = await letters_of(system, f"on_{name}", [name] * 60)
        page = await operator.open(f"/dead-letters/groups/{letters[0]['fingerprint']}")
        await page.get_by_role("link", name="Replay group…").click()
        await expect(page.get_by_role("row", name=name)).to_contain_text("60")
        await page.get_by_role("button", name="Replay").click()
        await expect(page.locator("#work")).to_contain_text("60 of 60 replayed", timeout=SOON_MS)
        await expect(page.locator("#work .notice")).to_have_text("Done.")
        await page.get_by_role("link", name="Back to the dead letters").click()
        await expect(page.locator("#letters")).to_contain_text("None of this group is open.")

        async def arrived() -> bool:
            return sorted(got) == sorted(letter["message_id"] for letter in letters)

        await eventually(arrived, "each is there, once")


async def test_order_is_cancelled(system: System, operator: Reader) -> None:
    """With a reason; then the page shows, as they come, the stock given back and the credit note."""
    order = await an_order(system)
    await told(system, order)
    page = await operator.open(f"/orders/{order.order_id}")
    await page.get_by_role("link", name="Cancel…").click()
    await page.get_by_label("Reason").fill("Ordered by mistake.")
    await page.get_by_role("button", name="Cancel the order").click()

    await expect(page.locator("#toast")).to_contain_text("is cancelled")
    await expect_status(page.get_by_role("heading", level=1), "cancelled")
    await expect(page.locator("#order-head")).to_contain_text("Ordered by mistake.")
    await expect(page.locator("#order-stock")).to_contain_text("released", timeout=SOON_MS)
    await expect(page.locator("#credit-note-pdf")).to_be_visible(timeout=SOON_MS)
    await expect(page.get_by_role("link", name="Cancel…")).to_have_count(0)
    await expect_pdf(operator, page.locator("#credit-note-pdf"))
    level = await system.database("stock")["levels"].find_one({"_id": order.lines[0].sku})
    assert level["available"] == 9


async def test_nobody_does_what_their_key_does_not_allow(system: System, operators: Readers) -> None:
    """It is not shown, and refused if it is asked for nevertheless, with the form's token or without."""
    order = await an_order(system)
    await told(system, order)
    clerk = await operators(await key_for(system, "orders:read"))
    page = await clerk.open(f"/orders/{order.order_id}")
    sections = await page.get_by_role("navigation", name="Sections").get_by_role("link").all_text_contents()
    assert {"Dead letters", "Webhooks", "Audit log"}.isdisjoint(text.strip() for text in sections)
    article = f"/stock/article?sku={order.lines[0].sku}"
    for way in ("/orders", f"/orders/{order.order_id}", article, "/"):
        await clerk.open(way)
        await expect(page.locator("main form[method=post]")).to_have_count(0)
    await expect(page.get_by_role("link", name="Cancel…")).to_have_count(0)
    for way in ("/dead-letters", "/webhooks", "/audit", f"/orders/{order.order_id}/cancel"):
        await clerk.open_refused(way)
    token = await page.locator("input[name=csrf]").first.get_attribute("value") or ""
    actions = (
        f"/orders/{order.order_id}/cancel",
        "/orders/sample",
        f"/dead-letters/{uuid4()}/replay",
        "/dead-letters/groups/all/discard",
        "/webhooks/new",
        article,
    )
    for action in actions:
        assert (
            await status_of(clerk, action, csrf=token, reason="Mine now.", url="https://shop.example") == 403
        )

    owner = await operators()
    for action in actions:
        assert await status_of(owner, action, reason="From another site.") == 403
        assert await status_of(owner, action, reason="Of another session.", csrf=token) == 403
    assert (await system.settled(order.order_id))["status"] == "notified"


async def status_of(reader: Reader, action: str, **form: str | float | bool) -> int:
    """What the server answers to a form that is sent with the reader's session, but by no page of ours."""
    return (await reader.context.request.post(reader.url + action, form=form, max_redirects=0)).status


async def test_client_sees_its_own_orders_only(system: System, operators: Readers) -> None:
    """In the list, live, and by their addresses."""
    client = f"shop-{uuid4().hex[:8]}"
    key = await key_for(system, "orders:read", "orders:write", "dead-letters:manage", client=client)
    page = await look_live(bound := await operators(key), "/orders")
    await page.evaluate(NOTE_WHAT_COMES)
    foreign, own = await an_order(system), body_of(await an_order(system))
    async with httpx.AsyncClient(base_url=system.stack.api_url, headers=bearer(key), timeout=15) as api:
        await api.post("/v1/orders", json=own)
        await expect(page.locator("#orders-rows tr")).to_have_count(1, timeout=SOON_MS)
        await system.publish(foreign)
        await system.settled(foreign.order_id)
        placed = UUID((await api.post("/v1/orders", json=own)).json()["order_id"])
    await expect_status(page.locator(f"#order-{placed}"), "notified")
    came = await page.evaluate("came")
    assert (f"order-{placed}" in came, f"order-{foreign.order_id}" in came) == (True, False)

    await bound.open("/orders")
    await expect(page.locator("#orders-rows tr")).to_have_count(2)
    await bound.open(f"/orders?q={foreign.reference}")
    await expect(page.locator("#orders-rows tr")).to_have_count(0)
    await bound.open(f"/orders/{placed}")
    await expect(page.get_by_role("link", name="Dead letters")).to_have_count(0)
    token = await page.locator("input[name=csrf]").first.get_attribute("value") or ""
    other = f"/orders/{foreign.order_id}"
    for way in (other, f"{other}/invoice.pdf", f"/live{other}", "/dead-letters", "/stock"):
        await bound.open_refused(way)
    assert await status_of(bound, f"{other}/cancel", csrf=token, reason="Not mine.") == 404
    assert (await system.settled(foreign.order_id))["status"] == "notified"


async def test_viewer_who_was_let_go_asks_by_itself(system: System, operator: Reader) -> None:
    """Every 15 s, until there is room for one more again."""
    order, stream = await an_order(system), f"{operator.url}/live/orders"
    headers = {"Content-Type": "text/event-stream"}
    await operator.context.route(stream, lambda route: route.fulfill(headers=headers, body=DROP))
    await operator.page.clock.install()
    page = await operator.open("/orders")
    await expect(page.locator("#live")).to_have_text("Every 15 s")
    await told(system, order)
    row = page.locator(f"#order-{order.order_id}")
    await expect(row).to_have_count(0)

    await page.clock.fast_forward("15")
    await expect_status(row, "notified")
    await operator.context.unroute(stream)
    for _ in range(4):
        await page.clock.fast_forward("15")
    await expect(page.locator("#live")).to_have_attribute("data-state", "live")


async def test_page_that_cannot_ask_says_so(operator: Reader) -> None:
    """Old figures under a sign that they are fresh would mislead; what comes back is told, too."""
    headers = {"Content-Type": "text/event-stream"}
    await operator.context.route(
        f"{operator.url}/live/orders", lambda route: route.fulfill(headers=headers, body=DROP)
    )
    await operator.page.clock.install()
    page = await operator.open("/orders")
    await expect(page.locator("#live")).to_have_text("Every 15 s")
    await operator.context.route(f"{operator.url}/orders", lambda route: route.abort())
    await page.clock.fast_forward("15")
    await expect(page.locator("#live")).to_have_text("Not up to date")

    await operator.context.unroute(f"{operator.url}/orders")
    await page.clock.fast_forward("15")
    await expect(page.locator("#live")).to_have_text("Every 15 s")
    operator.troubles.clear()  # the request that was made to fail


async def test_open_page_of_a_session_that_has_ended_leads_to_the_sign_in(operator: Reader) -> None:
    """Nobody looks at what is hours old, believing that it is live."""
    await operator.page.clock.install()
    page = await operator.open("/webhooks")
    await operator.context.clear_cookies()
    await page.clock.fast_forward("15")
    await page.wait_for_url("**/sign-in?next=%2Fwebhooks")


async def test_what_has_not_changed_is_not_replaced(system: System, operator: Reader) -> None:
    """A page that asks every 15 s takes neither focus nor selection nor scrolling from anybody."""
    await system.stock_up(1)
    await operator.page.clock.install()
    page = await operator.open("/stock")
    link = page.locator("[data-poll] a").first
    await link.focus()
    async with page.expect_response(f"{operator.url}/stock"):
        await page.clock.fast_forward("15")
    await page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    await expect(link).to_be_focused()


async def test_first_page_counts_while_somebody_looks(system: System, operator: Reader) -> None:
    """An order that comes in is counted where it is, and drawn; no page is loaded again."""
    page = await look_live(operator, "/")
    await expect(page.locator("#flow-plot canvas").first).to_be_visible()
    amount = page.locator("#flow-at-notified .amount")
    before = int(await amount.inner_text())
    await told(system, await an_order(system))
    await expect(amount).to_have_text(str(before + 1), timeout=SOON_MS)


async def test_everything_works_without_scripts(system: System, operators: Readers) -> None:
    """Sign in, search, open, cancel, replay, adjust, sign out: all by plain links and forms."""
    order = await an_order(system)
    await told(system, order)
    (sku,) = await system.stock_up(3)
    await system.publish_raw(f"nobody.wants.{uuid4().hex}", b"{}", message_id=(lost := str(uuid4())))
    letter = await system.dead_letter(lost)
    plain = await operators(java_script_enabled=False)

    page = await plain.open("/orders")
    await page.get_by_role("searchbox").fill(order.reference or "")
    await page.get_by_role("button", name="Search").click()
    await page.locator("#orders-rows").get_by_role("link").click()
    await page.get_by_role("link", name="Cancel…").click()
    await page.get_by_label("Reason").fill("Ordered by mistake.")
    await page.get_by_role("button", name="Cancel the order").click()
    await once_loaded(page, page.get_by_role("heading", level=1).locator(".badge").first, "cancelled")

    await plain.open(f"/dead-letters/{letter['_id']}")
    await page.get_by_role("link", name="Replay…").click()
    await page.get_by_role("button", name="Replay").click()
    await expect(page.locator("#history")).to_contain_text("sent again")

    await plain.open(f"/stock/article?sku={sku}")
    await page.get_by_label("Came in").check()
    await page.get_by_label("Units").fill("4")
    await page.get_by_role("button", name="Adjust").click()
    await once_loaded(page, page.locator("#level .much").first, "7")

    await page.get_by_role("button", name="Sign out").click()
    await expect(page.locator("#key")).to_be_visible()
    await plain.open("/orders")
    assert "/sign-in?next=" in page.url
