"""Stock in the console, as a browser without scripts meets it: look an article up, count it, adjust it."""

import asyncio
import re
from html import unescape
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

import httpx
import pytest
from conftest import System, body_of, eventually, new_order
from test_console_dead_letters import shown, signed_in, submit
from test_keys import made

pytestmark = pytest.mark.connected

_HIDDEN = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)">')
_LISTED = re.compile(r'<th scope="row"><a class="mono" href="/console([^"]+)"><bdi>([^<]+)</bdi>')


def own_sku(end: str = "") -> str:
    return f"sku-{uuid4().hex[:12]}{end}"


def way_to(sku: str) -> str:
    return f"/stock/article?{urlencode({'sku': sku})}"


async def form_of(browser: httpx.AsyncClient, sku: str) -> dict[str, str]:
    """What the form of an article carries by itself."""
    found = await browser.get(way_to(sku))
    return {name: unescape(value) for name, value in _HIDDEN.findall(found.text)}


async def adjust(
    system: System, browser: httpx.AsyncClient, sku: str, kind: str, quantity: Any = ""
) -> httpx.Response:
    """Fill the form in, and go where it leads once stock has applied it."""
    form = await form_of(browser, sku)
    answered = await browser.post(way_to(sku), data={**form, "kind": kind, "quantity": str(quantity)})
    if answered.status_code != 303:
        return answered
    await applied(system, form)
    return await browser.get(answered.headers["location"].removeprefix("/console"))


async def applied(system: System, form: dict[str, str]) -> None:
    wanted = {"_id": UUID(form["adjustment_id"])}

    async def is_there() -> bool:
        return await system.database("stock")["adjustments"].find_one(wanted) is not None

    await eventually(is_there, "stock has applied it")


async def level_of(system: System, sku: str) -> dict[str, Any] | None:
    level: dict[str, Any] | None = await system.database("stock")["levels"].find_one({"_id": sku})
    return level


async def test_count_and_movements_show(system: System) -> None:
    """A new article is counted, some come in and go out; each answer shows the level that came of it."""
    sku = own_sku()
    async with signed_in(system) as browser:
        sought = await browser.get(f"/stock?q={sku}")
        unknown = await browser.get(way_to(sku))
        counted = await adjust(system, browser, sku, "count", 10)
        more = await adjust(system, browser, sku, "add", 5)
        fewer = await adjust(system, browser, sku, "remove", 3)
        none = await adjust(system, browser, sku, "count", 0)
        listed = await browser.get(f"/stock?q={sku[:-2]}")
        unlimited = await adjust(system, browser, sku, "unlimited")

    assert f"Count {sku}" in shown(sought)
    assert "This article was never counted" in shown(unknown)
    assert re.search("Applied|Sent. Stock has not applied it yet", shown(counted))
    assert [
        f"Available {n} Reserved 0" in shown(each) for n, each in ((10, counted), (15, more), (12, fewer))
    ]
    assert "taken out -3" in shown(fewer)
    assert "added +5" in shown(fewer)
    assert "counted 10" in shown(fewer)
    assert "none left Orders for it are refused" in shown(none)
    assert f"{sku} none left 0 0" in shown(listed)
    assert "Available unlimited" in shown(unlimited)


async def test_form_that_is_sent_twice_counts_once(system: System) -> None:
    """A double click makes one adjustment; the same form with something else in it is refused."""
    sku = own_sku()
    async with signed_in(system) as browser:
        await adjust(system, browser, sku, "count", 10)
        form = await form_of(browser, sku) | {"kind": "add", "quantity": "5"}
        twice = await asyncio.gather(*(browser.post(way_to(sku), data=form) for _ in range(2)))
        await applied(system, form)
        late = await browser.post(way_to(sku), data=form)
        other = await browser.post(way_to(sku), data=form | {"quantity": "6"})
        anew = dict(_HIDDEN.findall(other.text))

    assert [answer.status_code for answer in (*twice, late, other)] == [303, 303, 303, 422]
    assert "This form was sent before, with something else." in shown(other)
    assert anew["adjustment_id"] != form["adjustment_id"]
    level = await level_of(system, sku)
    assert level is not None
    assert level["available"] == 15
    assert await system.database("stock")["adjustments"].count_documents({"sku": sku}) == 2


async def test_what_cannot_be_is_refused_before_it_is_sent(system: System) -> None:
    """More than there is cannot go out, nor nothing come in; what was typed is still there."""
    (sku,) = await system.stock_up(4)
    (postage,) = await system.stock_up(None)
    async with signed_in(system) as browser:
        too_many = await adjust(system, browser, sku, "remove", 5)
        refused = [
            too_many,
            await adjust(system, browser, sku, "add", 0),
            await adjust(system, browser, sku, "count", -1),
            await adjust(system, browser, sku, "count", "many"),
            await adjust(system, browser, sku, "count", 10**10),
            await adjust(system, browser, sku, "count", "9" * 5000),
            await adjust(system, browser, sku, "", 5),
            await adjust(system, browser, postage, "add", 5),
            await adjust(system, browser, own_sku(), "remove", 1),
        ]

    assert [answer.status_code for answer in refused] == [422] * 9
    assert "Only 4 are available. Count them instead." in shown(too_many)
    assert 'value="remove" checked' in too_many.text
    assert (
        'name="quantity" type="number" inputmode="numeric" min="0" max="1000000000" step="1" value="5"'
        in too_many.text
    )
    assert "This article has no limit." in shown(refused[7])
    level = await level_of(system, sku)
    assert level is not None
    assert level["available"] == 4


async def test_article_may_be_called_anything(system: System) -> None:
    """What looks like a way, a query or markup is a name: it is listed, found, counted, and only text."""
    names = [own_sku(end) for end in ("/../../x?sku=y&q=1#z", '<img src=x onerror="alert(1)">', " +%41 ö")]
    async with signed_in(system) as browser:
        await adjust(system, browser, "..", "count", 3)
        for name in names:
            await adjust(system, browser, name, "count", 8)
            found = await browser.get("/stock", params={"q": name})
            ((link, text),) = _LISTED.findall(found.text)
            one = await browser.get(unescape(link))

            assert unescape(text) == name
            assert "Available 8 Reserved 0" in shown(one)
            assert "<img" not in found.text + one.text
        dots = await browser.get(way_to(".."))
        bare = await browser.get("/stock/article")

    assert "Available 3" in shown(dots)
    assert (bare.status_code, bare.headers["location"]) == (303, "/console/stock")


async def test_list_goes_on_behind_a_page(system: System) -> None:
    """By sku, from page to page, within what was sought."""
    beginning = own_sku("-")
    skus = await system.stock_up(1, [f"{beginning}{n:03}" for n in range(103)])
    met: list[str] = []
    way: str | None = f"/stock?q={beginning}"

    async with signed_in(system) as browser:
        while way:
            found = await browser.get(way)
            met += [text for _, text in _LISTED.findall(found.text)]
            further = re.search(r'href="/console([^"]+)" rel="next"', found.text)
            way = unescape(further[1]) if further else None
        nothing = await browser.get(f"/stock?q={beginning}x")

    assert met == skus
    assert "No article begins like that." in shown(nothing)


async def test_orders_that_have_it_are_shown(system: System) -> None:
    """A reservation leads to its order; what a cancelled one had is given back."""
    (sku,) = await system.stock_up(10)
    placed = await system.api.post("/v1/orders", json=body_of(new_order((sku, 3))))
    order_id = placed.json()["order_id"]
    await system.settled(order_id)

    async with signed_in(system) as browser:
        reserved = await browser.get(way_to(sku))
        await submit(browser, f"/orders/{order_id}/cancel", reason="a test")

        async def given_back() -> bool:
            return "Available 10 Reserved 0" in shown(await browser.get(way_to(sku)))

        await eventually(given_back, "the units are given back")
        after = await browser.get(way_to(sku))

    assert "Available 7 Reserved 3" in shown(reserved)
    assert f'<a href="/console/orders/{order_id}">' in reserved.text
    row = re.compile(rf"{order_id} 3 [^\N{{EN DASH}}]+UTC (\S+)")
    held, freed = row.search(shown(reserved)), row.search(shown(after))
    assert held is not None
    assert freed is not None
    assert (held[1] == "\N{EN DASH}", freed[1] == "\N{EN DASH}") == (True, False)


async def test_who_may_see_and_who_may_count(system: System) -> None:
    """Orders' readers see stock and cannot adjust it; who is bound to a client sees none, nor do others."""
    (sku,) = await system.stock_up(6)
    counted = {"kind": "count", "quantity": "1", "adjustment_id": str(uuid4())}
    answers: dict[str, list[int]] = {}
    for name, options in {
        "reader": ["--scope", "orders:read"],
        "counter": ["--scope", "stock:write"],
        "bound": ["--scope", "orders:read", "--client", "shop-1"],
        "other": ["--scope", "webhooks:manage"],
    }.items():
        async with signed_in(system, await made(system, *options)) as browser:
            start = await browser.get("/webhooks" if name == "other" else "/orders")
            token = unescape(dict(_HIDDEN.findall(start.text))["csrf"])
            one = await browser.get(way_to(sku))
            unknown = await browser.get(way_to(own_sku()))
            posted = await browser.post(way_to(sku), data={**counted, "csrf": token})
            answers[name] = [each.status_code for each in (one, unknown, posted)]

            assert ('href="/console/stock"' in start.text) == (name in {"reader", "counter"}), name
            assert ('name="quantity"' in one.text) == (name == "counter"), name

    assert answers == {
        "reader": [200, 404, 403],
        "counter": [200, 200, 303],
        "bound": [403, 403, 403],
        "other": [403, 403, 403],
    }
