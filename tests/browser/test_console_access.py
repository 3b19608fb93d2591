"""The console for everybody: by keyboard and screen reader, on a phone, light and dark, in both languages."""

from collections.abc import Sequence
from functools import cache
from typing import Any
from uuid import uuid4

import pytest
from playwright.async_api import Page, expect

from apps.console.catalogue import translations
from apps.kit.wording import Language
from tests.browser.reader import Reader, Readers
from tests.connected.conftest import System, new_order
from tests.unit.test_console_catalogue import of_catalogues

pytestmark = pytest.mark.connected

_GRAVE = """async (options) => (await axe.run(document, options)).violations
  .filter(({ impact }) => impact === "serious" || impact === "critical")
  .map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.target} ${node.failureSummary}`)}`)"""
_TEXTS = """() => {
  const tree = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const texts = [document.title.split(" · ")[0]];
  while (tree.nextNode()) texts.push(tree.currentNode.textContent);
  for (const name of ["aria-label", "title", "placeholder"])
    for (const element of document.querySelectorAll(`[${name}]`)) texts.push(element.getAttribute(name));
  return texts.map((text) => text.replace(/\\s+/g, " ").trim()).filter((text) => text);
}"""
_BEYOND = """() => [...document.querySelectorAll("h1, h2, main :is(button, input, select, textarea)")]
  .filter((element) => !element.closest(".wide, .visually-hidden") && element.checkVisibility())
  .filter((element) => element.getBoundingClientRect().right > innerWidth + 1)
  .map((element) => element.outerHTML.slice(0, 120))"""


@pytest.fixture(scope="module")
async def paths(system: System) -> Sequence[str]:
    """Every page, with something on it."""
    (sku,) = await system.stock_up(9)
    order = new_order((sku, 2), email="ana@example.com").model_copy(update={"reference": "REF-1"})
    new = {"url": "http://127.0.0.1:9/hook", "description": "The shop's ledger"}
    endpoint = (await system.api.post("/v1/webhook-endpoints", json=new)).json()["endpoint_id"]
    await system.publish(order)
    await system.settled(order.order_id)
    await system.publish_raw(f"nobody.wants.{uuid4().hex}", b'{"one": 1}', message_id=(lost := str(uuid4())))
    letter = await system.dead_letter(lost)
    ways = {
        f"/orders/{order.order_id}": ("", "/cancel", "/resend"),
        f"/dead-letters/{letter['_id']}": ("", "/replay", "/discard"),
        f"/dead-letters/groups/{letter['fingerprint']}": ("", "/replay", "/discard"),
        f"/webhooks/{endpoint}": ("", "/change", "/rotate", "/delete"),
        "/orders": ("", "?status=notified", "?q=nobody-has-that"),
        "/dead-letters": ("", "?state=closed", "?state=all"),
        "/webhooks": ("", "/new"),
        "/stock": ("", f"/article?sku={sku}", "/article?sku=never-counted", "?q=nobody-has-that"),
    }
    return ["/", "/audit", "/sign-in", *(way + rest for way, rests in ways.items() for rest in rests)]


async def test_axe_finds_nothing_grave(operator: Reader, axe: str, paths: Sequence[str]) -> None:
    """No page keeps anybody out, as far as a program can tell; in the dark only the colours are others."""
    found: dict[str, Any] = {}
    for path in paths:
        page = await operator.open(path)
        await page.evaluate(axe)
        # Without motion, else the colours of one theme are still on their way to the other's.
        await page.emulate_media(color_scheme="light", reduced_motion="reduce")
        grave = await page.evaluate(_GRAVE, {})
        await page.emulate_media(color_scheme="dark", reduced_motion="reduce")
        grave += await page.evaluate(_GRAVE, {"runOnly": ["color-contrast"]})
        if grave:
            found[path] = grave

    assert found == {}


async def test_no_page_scrolls_sideways_on_a_phone(operators: Readers, paths: Sequence[str]) -> None:
    """At 360 pixels headings and controls are in sight, and only wide tables scroll in their own frame."""
    phone = await operators(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    found: dict[str, Any] = {}
    for path in paths:
        page = await phone.open(path)
        width, beyond = (
            await page.evaluate("document.documentElement.scrollWidth"),
            await page.evaluate(_BEYOND),
        )
        if width > 360 or beyond:
            found[path] = (width, beyond)

    assert found == {}


@cache
def english_only() -> frozenset[str]:
    """Texts that are others in Portuguese."""
    say = translations(Language.BRAZILIAN_PORTUGUESE).gettext
    ours = {english for _file, english, texts in of_catalogues() if "%(" not in english and len(texts) == 2}
    portuguese = {say(english) for english in ours}
    # Apps are called as they are, and one of them as what it keeps.
    return frozenset(english for english in ours - portuguese - {"stock"} if say(english) != english)


async def test_no_english_is_left_in_portuguese(operators: Readers, paths: Sequence[str]) -> None:
    """Whose browser asks for Portuguese reads nothing that our catalogue has in it in English."""
    operator = await operators(locale="pt-BR")
    left: dict[str, set[str]] = {}
    for path in paths:
        page = await operator.open(path)
        assert await page.evaluate("document.documentElement.lang") == "pt-BR"
        if english := english_only() & set(await page.evaluate(_TEXTS)):
            left[path] = english

    assert left == {}
    assert len(english_only()) > 200


async def focus(page: Page) -> str:
    """What has the focus, in words."""
    words = "(document.activeElement.labels?.[0] ?? document.activeElement).textContent"
    return " ".join((await page.evaluate(words)).split())


async def test_keyboard_alone_is_enough(operator: Reader, paths: Sequence[str]) -> None:
    """Tab leads over the skip link, the sections and the search to the first order, and Enter opens it."""
    page = await operator.open("/orders")
    assert "/orders" in paths
    seen: list[str] = []
    first = page.locator("#orders-rows tr").first.get_by_role("link")
    reference = (await first.text_content() or "").strip()
    for _ in range(40):
        await page.keyboard.press("Tab")
        seen.append(await focus(page))
        if seen[-1] == reference:
            break
    wanted = [
        "Skip to content",
        "Flow",
        "Orders",
        "Reference, order id, customer, invoice or credit note",
        reference,
    ]
    assert [text for text in seen if text in wanted] == wanted
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert await page.evaluate(outline) != "none"
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_contain_text(reference)
