"""The documentation site in a browser: found, read, copied from, by mouse, by keyboard and on a phone."""

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from apps.site.pages import build
from tests.browser.reader import Reader, Readers

SITE = build()
PAGES = [path for path in SITE if path.endswith(".html")]
EVENT = "events/order.created.v1.html"
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}


async def focused(page: Page) -> str:
    """The text of what has the focus."""
    text: str = await page.evaluate("document.activeElement.textContent.trim().replace(/\\s+/g, ' ')")
    return text


async def test_every_page_opens_cleanly(reader: Reader) -> None:
    """No page has an error in the console, a failed request, or one that leaves the site."""
    for path in PAGES:
        page = await reader.open(path)
        assert await page.locator("h1").count() == 1, path


async def test_no_page_scrolls_sideways_on_a_phone(readers: Readers) -> None:
    """At 360 pixels only a map or a program scrolls inside its own frame."""
    phone = await readers(**PHONE)
    for path in PAGES:
        page = await phone.open(path)
        assert await page.evaluate("document.documentElement.scrollWidth") <= 360, path


async def test_click_through_the_map(reader: Reader) -> None:
    """The map leads to an event, the event to the app that consumes it, the app to its queue."""
    page = await reader.open()
    await page.locator('.map [data-node="event:order.created.v1"]').click()
    await expect(page.locator("h1")).to_have_text("OrderCreated")
    await (
        page.get_by_role("region", name="Queues that receive OrderCreated")
        .get_by_role("link", name="stock", exact=True)
        .click()
    )
    await expect(page.locator("h1")).to_have_text("stock")
    await page.locator("summary").first.click()
    await expect(page.locator(".path").first).to_contain_text("10 min")
    await page.go_back()
    await expect(page.locator("h1")).to_have_text("OrderCreated")


async def test_map_follows_what_is_pointed_at_or_has_the_focus(reader: Reader) -> None:
    """Pointing at an event, or coming to it by keyboard, lights up its publisher and its consumers only."""
    page = await reader.open()
    lit = "[...document.querySelectorAll('.map [data-node].on')].map((node) => node.dataset.node)"
    expected = {"event:stock.adjusted.v1", "app:outside", "app:ingress", "app:stock", "app:webhooks"}

    await page.locator('.map [data-node="event:stock.adjusted.v1"]').hover()
    assert set(await page.evaluate(lit)) == expected
    await page.mouse.move(0, 0)
    assert await page.evaluate(lit) == []
    await page.locator('.map [data-node="event:stock.adjusted.v1"]').focus()
    assert set(await page.evaluate(lit)) == expected
    assert await page.locator(".map .edge.on").count() == 4


async def test_keyboard_alone_is_enough(reader: Reader) -> None:
    """From the first key: over the navigation to the content, and into an event by the map."""
    page = await reader.open()
    await page.keyboard.press("Tab")
    assert await focused(page) == "Skip to content"
    await page.keyboard.press("Enter")
    assert await page.evaluate("document.activeElement.id") == "content"
    for _ in range(40):
        await page.keyboard.press("Tab")
        if (await focused(page)).startswith("OrderCreated"):
            break
    await page.keyboard.press("Enter")
    await expect(page.locator("h1")).to_have_text("OrderCreated")


async def test_nothing_traps_the_keyboard(reader: Reader) -> None:
    """Tab passes through everything that can have the focus, each with a visible outline, to the end."""
    page = await reader.open(EVENT)
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    for _ in range(400):
        await page.keyboard.press("Tab")
        assert await page.evaluate(outline) != "none", await focused(page)
        if (await focused(page)).endswith("licence"):
            break
    else:
        pytest.fail("the end was not reached")


async def test_search_by_keyboard(reader: Reader) -> None:
    """`/` opens the search from any page; a field's name leads to its row, Escape back to the page."""
    page = await reader.open("apps/billing.html")
    await page.keyboard.press("/")
    box = page.get_by_role("combobox")
    await expect(box).to_be_focused()
    await box.fill("customer.email")
    await expect(page.get_by_role("option").first).to_contain_text("customer.email")
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("ArrowUp")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/events/*.html#field-customer.email")
    await expect(page.locator("tr:target")).to_contain_text("Where invoices and refusals are mailed.")

    await page.keyboard.press("/")
    await expect(box).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(page.locator(".finder")).to_be_hidden()


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("OrderCreated", "OrderCreated"),
        ("invoice.issued", "InvoiceIssued"),
        ("stock", "stock"),
        ("billing.order-validated", "billing.order-validated"),
        ("unit_price", "lines[].unit_price"),
    ],
)
async def test_search_finds_every_kind(reader: Reader, query: str, first: str) -> None:
    """Events by name and topic, apps, queues and nested fields stand first under their own names."""
    page = await reader.open(EVENT)
    await page.locator("button.search").click()
    await page.get_by_role("combobox").fill(query)
    await expect(page.get_by_role("option").first.locator("b")).to_have_text(first)


async def test_search_says_when_there_is_nothing(reader: Reader) -> None:
    """No hit is said in words, so that nobody waits for one."""
    page = await reader.open()
    await page.keyboard.press("/")
    await page.get_by_role("combobox").fill("zebra")
    await expect(page.get_by_role("status")).to_have_text("Nothing is called “zebra”.")


BACKGROUND = "getComputedStyle(document.body).backgroundColor"
LIGHT, DARK = "rgb(255, 255, 255)", "rgb(14, 20, 20)"


async def test_theme_follows_the_system_and_then_the_reader(readers: Readers) -> None:
    """The system decides until the reader does, and that is remembered on every page."""
    dark = await readers(color_scheme="dark")
    page = await dark.open()
    assert await page.evaluate(BACKGROUND) == DARK
    await page.locator(".theme").click()
    assert await page.evaluate(BACKGROUND) == LIGHT
    await dark.open(EVENT)
    assert await page.evaluate(BACKGROUND) == LIGHT


async def test_tabs_by_mouse_and_keyboard(reader: Reader) -> None:
    """One tool is shown at a time, everywhere the same, and it stays chosen on the next page."""
    page = await reader.open(EVENT)
    publish = page.get_by_role("tablist", name="Publish OrderCreated")
    await publish.get_by_role("tab", name="Node amqplib").click()
    await expect(page.locator("#publish-amqplib")).to_be_visible()
    await expect(page.locator("#publish-aio-pika")).to_be_hidden()
    await expect(page.locator("#subscribe-amqplib")).to_be_visible()
    await page.keyboard.press("ArrowRight")
    await expect(page.locator("#publish-rabbitmqadmin")).to_be_visible()
    await page.keyboard.press("ArrowRight")
    await expect(page.locator("#publish-aio-pika")).to_be_visible()
    await page.keyboard.press("End")
    await reader.open("events/invoice.issued.v1.html")
    await expect(page.locator("#subscribe-rabbitmqadmin")).to_be_visible()
    await expect(page.locator("#subscribe-aio-pika")).to_be_hidden()


async def test_copy_gives_the_whole_program(reader: Reader) -> None:
    """What the button copies is what is shown, to the last character."""
    await reader.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = await reader.open(EVENT)
    panel = page.locator("#publish-aio-pika")
    await panel.get_by_role("button").click()
    await expect(panel.get_by_role("button")).to_have_text("Copied")
    copied: str = await page.evaluate("navigator.clipboard.readText()")
    assert copied == await panel.locator("pre code").text_content()
    assert copied.startswith("import asyncio\n")
    assert copied.endswith("asyncio.run(publish())\n")


async def test_menu_of_a_phone(readers: Readers) -> None:
    """The contents open by a button, lead on, and close by Escape."""
    phone = await readers(**PHONE)
    page = await phone.open()
    contents = page.locator("#contents")
    await expect(contents).to_be_hidden()
    await page.locator(".menu").tap()
    await expect(contents).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(contents).to_be_hidden()
    await page.locator(".menu").tap()
    await contents.get_by_role("link", name="InvoiceIssued").tap()
    await expect(page.locator("h1")).to_have_text("InvoiceIssued")


async def test_pages_can_be_read_without_scripts(readers: Readers) -> None:
    """Contents and every program are there; only what needs a script is not."""
    plain = await readers(java_script_enabled=False)
    page = await plain.open(EVENT)
    await expect(page.locator("#contents")).to_be_visible()
    await expect(page.locator("#publish-rabbitmqadmin")).to_be_visible()
    await expect(page.locator("button.search")).to_be_hidden()


async def test_print_has_the_content_only(reader: Reader) -> None:
    """On paper there is no navigation, and every program instead of tabs."""
    page = await reader.open(EVENT)
    await page.emulate_media(media="print")
    await expect(page.locator("#contents")).to_be_hidden()
    await expect(page.locator(".top")).to_be_hidden()
    await expect(page.locator("#publish-rabbitmqadmin")).to_be_visible()


# Text and what it stands on; WCAG 2.2 AA asks for 4.5 to 1.
PAIRS = [
    ("text", "page"),
    ("soft", "page"),
    ("soft", "raised"),
    ("accent", "page"),
    ("accent", "accent-soft"),
    ("soft", "accent-soft"),
    ("on-accent", "accent"),
    ("event", "event-soft"),
    ("soft", "event-soft"),
    ("warn", "warn-soft"),
    ("soft", "warn-soft"),
    ("bad", "page"),
    ("bad", "bad-soft"),
    ("soft", "bad-soft"),
    *((f"code-{kind}", "code") for kind in ("key", "string", "number", "word", "comment")),
]
COLOUR = """(name) => {
  const probe = document.createElement("span");
  document.body.append(probe);
  probe.className = "visually-hidden";
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(`span.visually-hidden:last-child { color: var(--${name}) }`);
  document.adoptedStyleSheets = [sheet];
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour.match(/[0-9.]+/g).slice(0, 3).map(Number);
}"""


def luminance(colour: list[float]) -> float:
    """Relative luminance, as WCAG defines it."""
    linear = [c / 12.92 if (c := part / 255) <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for part in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_contrast_is_enough(readers: Readers, theme: str) -> None:
    """Text can be read by people who see little contrast, in both themes."""
    reader = await readers(color_scheme=theme)
    page = await reader.open()
    for text, ground in PAIRS:
        shades = sorted([luminance(await page.evaluate(COLOUR, name)) for name in (text, ground)])
        assert (shades[1] + 0.05) / (shades[0] + 0.05) >= 4.5, f"{text} on {ground}"


async def test_files_work_without_a_server(chromium: Browser, tmp_path: Path) -> None:
    """The site opens from a folder, with style, search and links: no path is taken for granted."""
    for path, content in SITE.items():
        file = tmp_path / "some where" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    context = await chromium.new_context()
    page = await context.new_page()
    troubles: list[Any] = []
    page.on("console", lambda message: troubles.append(message.text))
    page.on("requestfailed", lambda request: troubles.append(request.url))
    await page.goto((tmp_path / "some where" / "index.html").as_uri())
    await page.keyboard.press("/")
    await page.get_by_role("combobox").fill("StockAdjusted")
    await expect(page.get_by_role("option").first).to_contain_text("StockAdjusted")
    await page.keyboard.press("Enter")
    await expect(page.locator("h1")).to_have_text("StockAdjusted")
    assert await page.evaluate("getComputedStyle(document.querySelector('.top')).position") == "sticky"
    href = await page.get_by_role("link", name="JSON Schema").get_attribute("href")
    assert json.loads(SITE[f"schemas/{(href or '').rpartition('/')[2]}"])["type"] == "object"
    await context.close()
    assert troubles == []
