"""Webhooks in the console, as a browser without scripts meets them: add, look, send again, change, delete."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import unescape
from typing import Any

import httpx
import pytest
from conftest import System, eventually
from receiver import Receiver, answer, receiving
from standardwebhooks import Webhook
from test_console_dead_letters import hidden, hidden_in, shown, signed_in, submit
from test_keys import made

pytestmark = pytest.mark.connected

_CSRF = re.compile(r'name="csrf" value="([^"]*)"')
_SECRET = re.compile(r"whsec_[A-Za-z0-9+/=]+")
_DELIVERY = re.compile(r'<details id="delivery-([^"]+)"')
WANTED = "notification.failed.v1"
"""The event that the endpoints here want, so that they get little but their tests."""


@asynccontextmanager
async def added(
    system: System, browser: httpx.AsyncClient, receiver: Receiver, **fields: Any
) -> AsyncIterator[tuple[str, str]]:
    """The way to an endpoint that was added by the form, and its secret; deleted in the end."""
    answered = await submit(
        browser, "/webhooks/new", **{"url": receiver.url, "event_types": [WANTED], **fields}
    )
    assert answered.status_code == 201, answered.text
    (way,) = set(re.findall(r'href="/console(/webhooks/[0-9a-f-]{36})"', answered.text))
    (secret,) = set(_SECRET.findall(unescape(answered.text)))
    try:
        yield way, secret
    finally:
        await system.api.delete(f"/v1/webhook-endpoints/{way.rpartition('/')[2]}")


async def press(browser: httpx.AsyncClient, way: str, button: str) -> httpx.Response:
    """Send a form of a page that goes elsewhere, and go where it leads."""
    token = unescape(_CSRF.findall((await browser.get(way)).text)[-1])
    answered = await browser.post(button, data={"csrf": token})
    assert answered.status_code == 303, answered.text
    return await browser.get(answered.headers["location"].removeprefix("/console"))


async def once(browser: httpx.AsyncClient, way: str, words: str) -> httpx.Response:
    """A page, once it says so."""

    async def says_so() -> httpx.Response | None:
        found = await browser.get(way)
        return found if words in shown(found) else None

    found: httpx.Response = await eventually(says_so, words)
    return found


async def test_secret_is_shown_once(system: System) -> None:
    """It stands in the answer to the form and nowhere else, and verifies what the endpoint then gets."""
    async with receiving() as receiver, signed_in(system) as browser:
        answered = await submit(
            browser, "/webhooks/new", url=receiver.url, event_types=[WANTED], description="The <b>shop</b>"
        )
        (secret,) = set(_SECRET.findall(unescape(answered.text)))
        (way,) = set(re.findall(r'href="/console(/webhooks/[0-9a-f-]{36})"', answered.text))
        tested = await press(browser, way, f"{way}/test")
        (request,) = await receiver.received(1)
        await once(browser, way, "delivered webhook.test.v1")
        listed = await browser.get("/webhooks")
        form = await browser.get(f"{way}/change")
        await press(browser, way, f"{way}/delete")
        gone = await browser.get(way)

    Webhook(secret).verify(request.body, dict(request.headers))
    assert (answered.status_code, answered.headers["cache-control"]) == (201, "no-store")
    assert not _SECRET.search(unescape(str(answered.headers)))
    assert re.search("Sent, and the endpoint has it|It is on its way", shown(tested))
    assert f"{receiver.url} The <b>shop</b> enabled" in shown(listed)
    assert f'value="{WANTED}" checked' in form.text
    assert not any(_SECRET.search(unescape(each.text)) for each in (tested, listed, form))
    assert not [log.name for log in system.stack.logs.iterdir() if secret in log.read_text()]
    assert gone.status_code == 404


async def test_what_is_wrong_stands_beside_its_field(system: System) -> None:
    """Nothing is added, and what was typed is still there."""
    before = (await system.api.get("/v1/webhook-endpoints")).json()
    async with signed_in(system) as browser:
        wrong = await submit(
            browser,
            "/webhooks/new",
            url="ftp://shop.example",
            event_types=["order.lost.v1"],
            description="d" * 201,
        )
        empty = await submit(browser, "/webhooks/new", url=" ")

    assert (wrong.status_code, empty.status_code) == (422, 422)
    errors = dict(re.findall(r'<span id="([a-z]+)-error" class="error">([^<]+)</span>', wrong.text))
    assert errors["url"] == "must be a URL such as https://shop.example/webhooks"
    assert "is no event type" in errors["types"]
    assert "200 characters" in errors["description"]
    assert 'value="ftp://shop.example"' in wrong.text
    assert "Say where to deliver." in shown(empty)
    assert (await system.api.get("/v1/webhook-endpoints")).json() == before


async def test_answers_of_strangers_are_text(system: System) -> None:
    """What an endpoint answers, and how it is called, may try to be markup, and is words."""
    nasty = '<img src=x onerror=alert(1)><script>alert("1")</script></pre>'
    async with receiving(answer(200, nasty)) as receiver, signed_in(system) as browser:
        receiver.url += "?<script>alert(2)</script>"
        async with added(system, browser, receiver, description=nasty) as (way, _):
            await press(browser, way, f"{way}/test")
            one = await once(browser, way, "delivered webhook.test.v1")
            others = [
                await browser.get(each)
                for each in ("/webhooks", *(f"{way}/{page}" for page in ("change", "rotate", "delete")))
            ]

    assert shown(one).count(nasty.replace("</pre>", "")) == 2
    for each in (one, *others):
        assert each.status_code == 200
        assert "<script>alert" not in each.text
        assert "<img" not in each.text
        assert "&lt;script&gt;alert" in each.text


async def test_endpoint_that_is_gone_is_enabled_and_sent_what_failed(system: System) -> None:
    """The page says since when and why nothing is sent; enabled again, it gets what it has missed."""
    async with (
        receiving(answer(410, "moved")) as receiver,
        signed_in(system) as browser,
        added(system, browser, receiver) as (way, _),
    ):
        await press(browser, way, f"{way}/test")
        failed = await once(browser, way, "failed webhook.test.v1")
        listed = await browser.get("/webhooks")
        (delivery,) = _DELIVERY.findall(failed.text)
        receiver.always = answer(200)
        refused = await browser.post(
            f"/webhooks/deliveries/{delivery}/resend", data={"csrf": unescape(_CSRF.findall(failed.text)[-1])}
        )
        enabled = await press(browser, way, f"{way}/enable")
        await press(browser, way, f"/webhooks/deliveries/{delivery}/resend")
        resent = await once(browser, way, "delivered webhook.test.v1")
        disabled = await press(browser, way, f"{way}/disable")
        first, second = receiver.requests

    words = shown(failed)
    assert "It answered 410: it wants nothing more." in words
    assert "Delivered 0 of the newest 1 Failed 1 Pending 0" in words
    assert "/resend" not in failed.text
    assert f"{receiver.url} disabled It answered 410" in shown(listed)
    assert refused.status_code == 409
    assert "Health enabled" in shown(enabled)
    assert "Delivered 1 of the newest 1 Failed 0 Pending 0" in shown(resent)
    assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)
    assert "Health disabled" in shown(disabled)
    assert "It was disabled by hand." in shown(disabled)


async def test_rotated_secret_is_shown_once_and_both_are_valid(system: System) -> None:
    """It is asked before; then each delivery is signed with the new secret and with the old."""
    async with (
        receiving() as receiver,
        signed_in(system) as browser,
        added(system, browser, receiver) as (way, old),
    ):
        asked = await browser.get(f"{way}/rotate")
        rotated = await submit(browser, f"{way}/rotate")
        (new,) = set(_SECRET.findall(unescape(rotated.text)))
        after = await press(browser, way, f"{way}/test")
        (request,) = await receiver.received(1)

    assert "For 24 hours each delivery is signed with both secrets" in shown(asked)
    assert (rotated.status_code, rotated.headers["cache-control"]) == (200, "no-store")
    assert new != old
    for secret in (old, new):
        Webhook(secret).verify(request.body, dict(request.headers))
    assert not _SECRET.search(unescape(after.text))


async def test_an_answer_that_is_loaded_again_does_nothing_again(system: System) -> None:
    """A browser sends the form anew for it: no second endpoint, and no end of the secret that is in use."""
    async with receiving() as receiver, signed_in(system) as browser:
        new: dict[str, Any] = {
            **await hidden(browser, "/webhooks/new"),
            "url": receiver.url,
            "event_types": [WANTED],
        }
        first, again = [await browser.post("/webhooks/new", data=new) for _ in range(2)]
        way = again.headers["location"].removeprefix("/console")
        listed = await browser.get("/webhooks")
        same = await hidden(browser, f"{way}/rotate")
        rotated, reloaded = [await browser.post(f"{way}/rotate", data=same) for _ in range(2)]
        await press(browser, way, f"{way}/test")
        (request,) = await receiver.received(1)
        await submit(browser, f"{way}/delete")

    assert (first.status_code, again.status_code, rotated.status_code, reloaded.status_code) == (
        201,
        303,
        200,
        409,
    )
    assert listed.text.count(f"{receiver.url}<") == 1
    assert "It has been given a new secret since this form was made." in shown(reloaded)
    assert not _SECRET.search(unescape(again.text + reloaded.text))
    for page in (first, rotated):
        (secret,) = set(_SECRET.findall(unescape(page.text)))
        Webhook(secret).verify(request.body, dict(request.headers))


async def test_nobody_overwrites_what_somebody_else_has_changed(system: System) -> None:
    """Who saves what they saw before is told, sees what they typed, and may send it again."""
    async with (
        receiving() as receiver,
        signed_in(system) as browser,
        added(system, browser, receiver) as (way, _),
    ):
        seen = await hidden(browser, f"{way}/change")
        await submit(browser, f"{way}/change", url=receiver.url, event_types=[WANTED], description="Theirs")
        mine = {"url": receiver.url, "event_types": [], "description": "Mine"}
        refused = await browser.post(f"{way}/change", data={**seen, **mine})
        between = await browser.get(way)
        again = hidden_in(refused)
        sent = await browser.post(f"{way}/change", data={**again, **mine})
        after = await browser.get(way)

    assert (refused.status_code, sent.status_code) == (409, 303)
    assert "Somebody has changed it meanwhile." in shown(refused)
    assert 'value="Mine"' in refused.text
    assert f"Description Theirs Events {WANTED}" in shown(between)
    assert "Description Mine Events all events" in shown(after)


async def test_change_of_a_description_forgets_no_failure(system: System) -> None:
    """Only what differs is changed: the same URL sent again leaves the run of failures as it is."""
    async with (
        receiving(answer(500)) as receiver,
        signed_in(system) as browser,
        added(system, browser, receiver) as (way, _),
    ):
        await press(browser, way, f"{way}/test")
        await once(browser, way, "Health failing")
        described = await submit(
            browser, f"{way}/change", url=receiver.url, description="Of the shop", event_types=[]
        )
        after = await browser.get(way)
        refused = await submit(browser, f"{way}/change", url="nowhere", description="Of the shop")
        moved = await submit(browser, f"{way}/change", url=f"{receiver.url}/2", description="Of the shop")
        at_last = await browser.get(way)

    assert (described.status_code, refused.status_code, moved.status_code) == (303, 422, 303)
    assert "Health failing" in shown(after)
    assert "Description Of the shop Events all events" in shown(after)
    assert "Health enabled" in shown(at_last)
    assert f"{receiver.url}/2" in shown(at_last)


async def test_log_goes_on_behind_a_page(system: System) -> None:
    """A cursor leads from page to page, of all or of one state: each delivery once, the newest first."""
    async with (
        receiving() as receiver,
        signed_in(system) as browser,
        added(system, browser, receiver) as (way, _),
    ):
        sent = []
        for _each in range(27):
            answered = await system.api.post(f"/v1/webhook-endpoints/{way.rpartition('/')[2]}/test")
            sent.append(answered.json()["delivery_id"])

        async def all_delivered() -> bool:
            return "Delivered 27 of the newest 27" in shown(await browser.get(way))

        await eventually(all_delivered, "all are delivered")
        met: list[str] = []
        further: str | None = f"{way}?state=delivered"
        while further:
            found = await browser.get(further)
            met += _DELIVERY.findall(found.text)
            link = re.search(r'href="/console([^"]+)" rel="next"', found.text)
            further = unescape(link[1]) if link else None
        failed = await browser.get(f"{way}?state=failed")
        elsewhere = await browser.get(f"{way}?cursor={way.rpartition('/')[2]}")

    assert met == sent[::-1]
    assert "No delivery is like that." in shown(failed)
    assert elsewhere.status_code == 422


async def test_without_the_scope_nothing_is_shown_and_nothing_is_done(system: System) -> None:
    """A key for orders sees no link to webhooks, and neither sees nor changes one by its address."""
    async with (
        receiving() as receiver,
        signed_in(system) as operator,
        added(system, operator, receiver) as (way, _),
        signed_in(system, await made(system, "--scope", "orders:read")) as browser,
    ):
        start = await browser.get("/orders")
        token = unescape(_CSRF.findall(start.text)[0])
        pages = (
            "/webhooks",
            "/webhooks/new",
            way,
            *(f"{way}/{page}" for page in ("change", "rotate", "delete")),
        )
        seen = [await browser.get(each) for each in pages]
        forms = (
            "/webhooks/new",
            *(f"{way}/{form}" for form in ("change", "rotate", "delete", "test", "disable")),
        )
        tried = [await browser.post(each, data={"csrf": token, "url": receiver.url}) for each in forms]
        unsigned = await operator.post(f"{way}/delete")
        after = await operator.get(way)

    assert start.status_code == 200
    assert "/console/webhooks" not in start.text
    assert [each.status_code for each in (*seen, *tried, unsigned)] == [403] * 13
    assert receiver.url not in "".join(each.text for each in seen)
    assert "Health enabled" in shown(after)
    assert receiver.requests == []
