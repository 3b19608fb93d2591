"""What customers and strangers write is text on every page of the console, and never markup."""

from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import aio_pika
import pytest
from playwright.async_api import Page, expect
from receiver import answer, receiving

from apps.access.domain import prefix_of
from contracts import OrderCancelled, OrderCreated
from tests.browser.reader import Reader
from tests.connected.conftest import System, eventually

pytestmark = pytest.mark.connected

_SHORT = "<img/src=x/onerror=pwned=1>"
_LONG = "\"'></pre></script></textarea></title><script>pwned=1</script><svg onload=pwned=1>"
_MARKUP = """() => ({
  ran: "pwned" in window,
  elements: [...document.querySelectorAll("img, iframe, object, embed, base, style, script:not([src])")]
    .map((element) => element.outerHTML),
  attributes: [...document.querySelectorAll("*")].flatMap((element) => [...element.attributes])
    .filter(({ name, value }) => name.startsWith("on") || /^\\s*(javascript|vbscript):/i.test(value))
    .map(({ name, value }) => `${name}=${value}`),
})"""
"""What there would be if a text had become markup; that our policy does not let it run is no excuse."""


def hostile(field: str, most: int = 200) -> str:
    """Markup as the value of a field, to be told from that of others, and as long as the field allows."""
    return f"{field}-{uuid4().hex[:6]}{_SHORT}{_LONG}"[:most]


async def is_text(page: Page, *texts: str) -> None:
    """Each of the texts is on the page, in words, and none of them as markup."""
    for text in texts:
        # Its first half holds no quote, which JSON would show with a backslash.
        await expect(page.locator("main")).to_contain_text(text.partition('"')[0])
    assert await page.evaluate(_MARKUP) == {"ran": False, "elements": [], "attributes": []}, page.url


def order_of(*skus: str, **fields: Any) -> OrderCreated:
    """An order in which every text is hostile."""
    line = {"quantity": 1, "unit_price": "2.50", "description": hostile("description", 500)}
    return OrderCreated.model_validate(
        {
            "order_id": uuid4(),
            "reference": hostile("reference", 128),
            "customer": {"id": hostile("customer", 128), "name": hostile("name"), "email": "a@example.com"},
            "currency": "GBP",
            "lines": [{**line, "sku": sku} for sku in skus],
            "total": f"{2.5 * len(skus):.2f}",
            "placed_at": "2026-11-22T10:15:00Z",
            **fields,
        }
    )


async def test_order_is_text(system: System, operator: Reader) -> None:
    """The fields of an order, in the list, on its page and in what comes live to both."""
    sku = hostile("sku", 64)
    await system.stock_up(9, [sku])
    order = order_of(sku)
    page = await operator.open("/orders")
    await expect(page.locator("#live")).to_have_attribute("data-state", "live")

    await system.publish(order)
    row = page.locator(f"#order-{order.order_id}")
    await expect(row).to_contain_text(order.reference or "")
    await is_text(page, order.reference or "", order.customer.id)

    await row.get_by_role("link").click()
    await expect(page.locator("#order-head .badge")).to_have_text("notified")
    texts = [order.reference or "", order.customer.id, sku, order.lines[0].description]
    await is_text(page, *texts, order.customer.name or "")

    reason = hostile("reason", 500)
    told = {"customer": order.customer, "reason": reason, "cancelled_at": "2026-11-22T11:00:00Z"}
    await system.publish(OrderCancelled.model_validate({"order_id": order.order_id, **told}))
    await is_text(page, *texts, reason)
    await operator.open(f"/orders/{order.order_id}")
    await is_text(page, *texts, reason)
    for way in ("cancel", "resend"):
        await operator.open(f"/orders/{order.order_id}/{way}")
        await is_text(page, order.reference or "")


async def test_refusal_is_text(system: System, operator: Reader) -> None:
    """The article that nobody knows, where stock says why it refuses the order."""
    sku = hostile("unknown", 64)
    order = order_of(sku)
    await system.publish(order)
    await system.settled(order.order_id)
    page = await operator.open(f"/orders/{order.order_id}")

    await expect(page.locator("#order-stock")).to_contain_text(sku)
    await is_text(page, sku)


async def test_search_is_text(operator: Reader) -> None:
    """What was typed into a search, or stands in an address that somebody was lured to."""
    text = hostile("search", 128)
    page = await operator.open(f"/orders?q={quote(text)}")
    await is_text(page, text)
    await expect(page.get_by_role("searchbox")).to_have_value(text)
    for way in (f"/sign-in?next={quote('/' + text)}", f"/language?to=en&back={quote('/?' + text)}"):
        await operator.open(way)
        await is_text(page)
    for way in (
        f"/orders?status={quote(text)}",
        f"/dead-letters/groups/{quote(text, safe='')}",
        f"/{quote(text)}",
    ):
        await operator.open_refused(way)
        await is_text(page)


async def test_dead_letter_is_text(system: System, operator: Reader) -> None:
    """Everything in a message that died: the list, to which it comes live, its group, itself, its repair."""
    order = order_of("never-counted")
    await system.publish(order)
    await system.settled(order.order_id)
    page = await operator.open("/dead-letters")
    await expect(page.locator("#live")).to_have_attribute("data-state", "live")
    names = ("queue", "error-type", "reason", "handler", "traceback", "routing-key")
    headers = {f"orderflow-{name}": hostile(name) for name in names} | {
        hostile("header", 100): hostile("value")
    }
    body = f'{{"order_id": "{order.order_id}", "sku": "{_SHORT}"}}'
    message = aio_pika.Message(
        body.encode(),
        message_id=hostile("message"),
        correlation_id=hostile("correlation"),
        app_id=hostile("app"),
        type=hostile("type"),
        content_type=hostile("content"),
        headers=headers,
    )

    dead = await system.channel.get_exchange("dead", ensure=False)
    await dead.publish(message, "")
    await is_text(page, *(headers[f"orderflow-{name}"] for name in ("queue", "error-type", "reason")))

    await page.get_by_role("link", name=headers["orderflow-error-type"], exact=True).click()
    await page.wait_for_url("**/dead-letters/groups/*")
    await is_text(page, headers["orderflow-error-type"], headers["orderflow-reason"])
    group = page.url
    await page.locator("tbody th a").first.click()
    await page.wait_for_url(lambda url: "/groups/" not in url)
    letter = page.url
    for way in (f"/orders/{order.order_id}", None):
        page = await operator.open(way) if way else page
        await is_text(page, headers["orderflow-queue"], headers["orderflow-reason"])
        await page.goto(letter)
    properties = message.info()
    shown = [
        str(properties[name]) for name in ("message_id", "correlation_id", "app_id", "type", "content_type")
    ]
    await is_text(page, *headers, *headers.values(), *shown, _SHORT)
    for way in (letter, group):
        for repair in ("replay", "discard"):
            await page.goto(f"{way}/{repair}")
            await is_text(page)
    reason = hostile("why", 500)
    await page.goto(f"{letter}/discard")
    await page.get_by_label("Reason").fill(reason)
    await page.get_by_role("button", name="Discard").click()
    await is_text(page, reason)


async def test_webhook_is_text(system: System, operator: Reader) -> None:
    """What an endpoint is called, where it is, and what a stranger's server answers."""
    reply, description = hostile("answer"), hostile("description")
    async with receiving(answer(500, reply)) as receiver:
        url = f"{receiver.url}/{_SHORT}"
        new = {"url": url, "description": description, "event_types": ["order.rejected.v1"]}
        endpoint = (await system.api.post("/v1/webhook-endpoints", json=new)).json()["endpoint_id"]
        (await system.api.post(f"/v1/webhook-endpoints/{endpoint}/test")).raise_for_status()
        await receiver.received(1)
        deliveries = system.database("webhooks")["deliveries"]

        async def written_down() -> bool:
            wanted = {"endpoint_id": UUID(endpoint), "attempts.0": {"$exists": True}}
            return await deliveries.find_one(wanted) is not None

        await eventually(written_down, "the answer is kept")
        page = await operator.open("/webhooks")
        await is_text(page, url, description)
        await operator.open(f"/webhooks/{endpoint}")
        await is_text(page, url, description, reply)
        await operator.open(f"/webhooks/{endpoint}/change")
        await is_text(page)
        await expect(page.get_by_label("Description")).to_have_value(description)
        (await system.api.delete(f"/v1/webhook-endpoints/{endpoint}")).raise_for_status()


async def test_stock_is_text(system: System, operator: Reader) -> None:
    """The article's own name, in the list, in its search, on its page and beside its orders."""
    sku = hostile("sku", 64)
    await system.stock_up(5, [sku])
    order = order_of(sku)
    await system.publish(order)
    await system.settled(order.order_id)

    page = await operator.open(f"/stock?q={quote(sku[:10])}")
    await is_text(page, sku)
    await page.get_by_role("link", name=sku, exact=True).click()
    await expect(page.locator("h1")).to_contain_text(sku)
    await is_text(page, sku)


async def test_name_of_key_is_text(system: System, operator: Reader) -> None:
    """Who did something, in the audit log, and what they did it to."""
    name, group = hostile("name"), hostile("group", 60).replace("/", "|")
    keys = system.database("access")["keys"]
    await keys.update_one({"_id": prefix_of(system.stack.api_key)}, {"$set": {"name": name}})
    page = await operator.open(f"/dead-letters/groups/{quote(group, safe='')}/discard")
    await is_text(page)
    await operator.open("/audit")
    await is_text(page, name)
