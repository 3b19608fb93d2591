"""Dead letters in the console, as a browser without scripts meets them: look, ask, repair."""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from html import unescape
from typing import Any
from uuid import uuid4

import aio_pika
import httpx
import pytest
from aio_pika.abc import AbstractQueue
from conftest import System, eventually
from test_dead_letters import own_queue, put_into_dead, received, state_of
from test_keys import made

from apps.access.domain import prefix_of

pytestmark = pytest.mark.connected

_CSRF = re.compile(r'name="csrf" value="([^"]*)"')
_HIDDEN = re.compile(r'<input type="hidden" name="([^"]*)" value="([^"]*)"')
_HIDDEN = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)">')


@asynccontextmanager
async def signed_in(system: System, key: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """A browser at the console, signed in with a key; the run's own may do everything."""
    base = f"{system.stack.api_url}/console"
    async with httpx.AsyncClient(base_url=base, timeout=15) as browser:
        answer = await browser.post("/sign-in", data={"key": key or system.stack.api_key})
        assert answer.status_code == 303, answer.text
        yield browser


async def submit(browser: httpx.AsyncClient, way: str, **fields: Any) -> httpx.Response:
    """Send a form that a page shows."""
    return await browser.post(way, data={**await hidden(browser, way), **fields})


async def hidden(browser: httpx.AsyncClient, way: str) -> dict[str, str]:
    """What a form sends besides what somebody types."""
    return hidden_in(await browser.get(way))


def hidden_in(page: httpx.Response) -> dict[str, str]:
    found = {name: unescape(value) for name, value in _HIDDEN.findall(page.text)}
    assert "csrf" in found, f"{page.url} has no form"
    return found


def shown(answer: httpx.Response) -> str:
    """The words of a page, each space once."""
    assert answer.headers["content-type"].startswith("text/html"), answer.text
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", answer.text)).split())


async def letters_of(
    system: System, handler: str, queues: Sequence[str | None], reason: str = "it is broken"
) -> list[dict[str, Any]]:
    """Letters of one group, as if one handler had given them up, each from its queue; the oldest first."""
    dead = await system.channel.get_exchange("dead", ensure=False)
    headers = {
        "orderflow-handler": handler,
        "orderflow-error-type": "BrokenError",
        "orderflow-reason": reason,
    }
    for queue in queues:
        own = headers | ({"orderflow-queue": queue} if queue else {})
        await dead.publish(aio_pika.Message(b"{}", message_id=str(uuid4()), headers=own), "")
    archived = system.database("recovery")["dead_letters"]

    async def all_archived() -> list[dict[str, Any]] | None:
        found = await archived.find({"handler": handler}).sort(["opened_at", "_id"]).to_list()
        return found if len(found) == len(queues) else None

    found: list[dict[str, Any]] = await eventually(all_archived, "all are archived")
    return found


@asynccontextmanager
async def consumed(queue: AbstractQueue) -> AsyncIterator[list[str]]:
    """A consumer of a queue, and the ids of what it got."""
    got: list[str] = []

    async def take(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        got.append(str(message.message_id))

    tag = await queue.consume(take, no_ack=True)
    yield got
    await queue.cancel(tag)


async def test_group_is_shown_with_its_number_and_its_trend(system: System) -> None:
    """Alike failures are one entry, which tells how many there are and whether they become more."""
    name = f"on_{uuid4().hex}"
    letters = await letters_of(system, name, [None] * 3, "order 7 has 12 lines")
    archived = system.database("recovery")["dead_letters"]
    long_ago = {"$dateSubtract": {"startDate": "$opened_at", "unit": "hour", "amount": 30}}
    await archived.update_one({"_id": letters[0]["_id"]}, [{"$set": {"opened_at": long_ago}}])
    group = letters[0]["fingerprint"]

    async with signed_in(system) as browser:
        listed = await browser.get("/dead-letters")
        one = await browser.get(f"/dead-letters/groups/{group}")
        closed = await browser.get(f"/dead-letters/groups/{group}?state=closed")

    (entry,) = re.findall(rf'<li class="card group">(?:(?!</li>).)*{group}.*?</li>', listed.text, re.DOTALL)
    words = " ".join(unescape(re.sub(r"<[^>]+>", " ", entry)).split())
    assert "BrokenError order 7 has 12 lines" in words
    assert "3 messages" in words
    assert "2 in 24 h" in words
    assert 'aria-label="By hour: 2 in the last 24 hours, at most 2 in one"' in entry
    assert len(re.findall("<rect ", entry)) == 24
    assert "3 open of 3" in shown(one)
    assert [str(letter["_id"]) for letter in reversed(letters)] == re.findall(
        r'<th scope="row"><a href="/console/dead-letters/([^"]+)"', one.text
    )
    assert "None are archived." in shown(closed)


async def test_group_goes_on_behind_a_page_of_letters(system: System) -> None:
    """A cursor leads from page to page: each letter once, the newest first."""
    letters = await letters_of(system, f"on_{uuid4().hex}", [None] * 52)
    met: list[str] = []
    way: str | None = f"/dead-letters/groups/{letters[0]['fingerprint']}"

    async with signed_in(system) as browser:
        while way:
            found = await browser.get(way)
            met += re.findall(r'<th scope="row"><a href="/console/dead-letters/([^"]+)"', found.text)
            further = re.search(r'href="/console([^"]+)" rel="next"', found.text)
            way = unescape(further[1]) if further else None

    assert (len(met), set(met)) == (52, {str(letter["_id"]) for letter in letters})
    assert met[0] == str(letters[-1]["_id"])


async def test_preview_names_queue_and_consumers_and_replay_does_what_it_said(system: System) -> None:
    """Nothing is sent before it is confirmed; then the message is where the preview said it would be."""
    name = f"test.{uuid4().hex}"
    async with own_queue(system, name) as queue, signed_in(system) as browser:
        (letter,) = await letters_of(system, f"on_{name}", [name])
        way = f"/dead-letters/{letter['_id']}"
        forsaken = await browser.get(f"{way}/replay")
        refused = await submit(browser, f"{way}/replay")
        async with consumed(queue) as got:
            preview = await browser.get(f"{way}/replay")
            assert await state_of(system, letter) == "open"
            sent = await submit(browser, f"{way}/replay")

            async def arrived() -> bool:
                return got == [letter["message_id"]]

            await eventually(arrived, "the replay")
        after = await browser.get(way)
        again = await browser.get(f"{way}/replay")

    assert f"nobody consumes {name} now; forced, it would wait there" in shown(forsaken)
    assert 'name="force" value="true" required' in forsaken.text
    assert (refused.status_code, f"Not done: nobody consumes {name}" in shown(refused)) == (409, True)
    assert f"To the queue {name} Consumers there now 1" in shown(preview)
    assert 'name="force"' not in preview.text
    assert (sent.status_code, sent.headers["location"]) == (303, f"/console{way}")
    assert f"Sent to {name}." in shown(after)
    assert f"{prefix_of(system.stack.api_key)} to {name}" in shown(after)
    assert "it is replayed since" in shown(again)


async def test_many_are_replayed_page_by_page_and_what_is_refused_stays(system: System) -> None:
    """Each step replays a few and hands the next one on; one whose queue is gone is left, and told of."""
    name, handler = f"test.{uuid4().hex}", f"on_{uuid4().hex}"
    gone = f"test.{uuid4().hex}"
    async with own_queue(system, name) as queue, consumed(queue) as got, signed_in(system) as browser:
        letters = await letters_of(system, handler, [*[name] * 15, gone, *[name] * 15])
        way = f"/dead-letters/groups/{letters[0]['fingerprint']}/replay"
        preview = await browser.get(way)
        first = await submit(browser, way)
        fields = [(key, unescape(value)) for key, value in _HIDDEN.findall(first.text) if key != "csrf"]
        token = unescape(_CSRF.findall(first.text)[-1])
        by_script = {"HX-Request": "true"}
        last = await browser.post(way, data={**dict(fields), "csrf": token}, headers=by_script)

        async def arrived() -> bool:
            return len(got) == 30

        await eventually(arrived, "all that have a queue")
        states = {
            queue: [await state_of(system, letter) for letter in letters if letter["queue"] == queue]
            for queue in (name, gone)
        }

    words = shown(preview)
    assert f"{name} 30 sent 1" in words
    assert f"{gone} 1 left there is no queue {gone} \N{EN DASH}" in words
    assert '<progress id="bar" value="25" max="31">' in first.text
    assert (last.status_code, "<html" in last.text) == (200, False)
    assert "30 of 31 replayed" in shown(last)
    assert f"1 \N{MULTIPLICATION SIGN} there is no queue {gone}" in shown(last)
    assert "<form" not in last.text
    assert states == {name: ["replayed"] * 30, gone: ["open"]}


async def test_discard_wants_a_reason_and_keeps_it(system: System) -> None:
    """Without a reason nothing is closed; with one, it stands in the history, under who gave it."""
    letters = await letters_of(system, f"on_{uuid4().hex}", [None] * 3)
    one, *others = letters
    way, group = f"/dead-letters/{one['_id']}", f"/dead-letters/groups/{one['fingerprint']}"

    async with signed_in(system) as browser:
        unsaid = [
            await submit(browser, f"{way}/discard", reason="  "),
            await submit(browser, f"{group}/discard", reason=""),
        ]
        assert {await state_of(system, letter) for letter in letters} == {"open"}
        done = await submit(browser, f"{way}/discard", reason="test data <of> November")
        after = await browser.get(way)
        twice = await browser.get(f"{way}/discard")
        rest = await submit(browser, f"{group}/discard", reason="all of it")

    assert [answer.status_code for answer in unsaid] == [422, 422]
    assert all("Say why: the reason is kept." in shown(answer) for answer in unsaid)
    assert done.status_code == 303
    assert f"{prefix_of(system.stack.api_key)} test data <of> November" in shown(after)
    assert "It cannot be discarded: it is discarded since" in shown(twice)
    assert "2 of 2 discarded" in shown(rest)
    assert {await state_of(system, letter) for letter in others} == {"discarded"}


async def test_unrouted_message_goes_where_its_key_leads(system: System) -> None:
    """Of what no queue wanted, the preview says so, and which routing key it goes out under again."""
    key, message_id = f"test.{uuid4().hex}.v1", str(uuid4())
    await system.publish_raw(key, b"{}", message_id=message_id)
    letter = await system.dead_letter(message_id)
    async with own_queue(system, f"test.{uuid4().hex}") as queue, signed_in(system) as browser:
        preview = await browser.get(f"/dead-letters/{letter['_id']}/replay")
        await queue.bind("events", key)
        await submit(browser, f"/dead-letters/{letter['_id']}/replay")
        back = await received(queue)

    assert f"To whatever queue is bound for {key}" in shown(preview)
    assert (back.routing_key, back.message_id) == (key, message_id)


async def test_whatever_a_message_holds_is_shown_as_text(system: System) -> None:
    """Bodies, headers, reasons and types that try to be markup are words on every page."""
    nasty = '<script>alert("1")</script><img src=x onerror=alert(1)>'
    headers = {
        "orderflow-queue": nasty,
        "orderflow-error-type": nasty,
        "orderflow-reason": nasty,
        "orderflow-handler": nasty,
        "orderflow-traceback": nasty,
        nasty: {nasty: [nasty]},
    }
    message = aio_pika.Message(
        f'{{"name": "{nasty}"}}'.encode(), headers=headers, app_id=nasty, content_type=nasty, type=nasty
    )
    letter = await put_into_dead(system, message)
    way, group = f"/dead-letters/{letter['_id']}", f"/dead-letters/groups/{letter['fingerprint']}"
    ways = ["/dead-letters", group, f"{group}/replay", way, f"{way}/replay", f"{way}/discard"]

    async with signed_in(system) as browser:
        pages = [await browser.get(each) for each in ways]
        body = await browser.get(f"{way}/body")
        await submit(browser, f"{way}/discard", reason=nasty)
        pages.append(await browser.get(way))

    for answer in pages:
        assert answer.status_code == 200, answer.text
        assert "<script>alert" not in answer.text
        assert "<img" not in answer.text
        assert nasty in shown(answer) or "&lt;script&gt;alert" in answer.text
    assert body.content == message.body
    assert body.headers["content-type"] == "application/octet-stream"
    assert body.headers["content-disposition"] == "attachment"


async def test_body_is_indented_without_a_change_or_dumped(system: System) -> None:
    """JSON is spread over lines, its numbers as they were sent; what is no text is shown byte by byte."""
    texts = await put_into_dead(system, aio_pika.Message(b'{"total":12.500,"lines":[{"sku":"a"},{}],"n":[]}'))
    raw = await put_into_dead(system, aio_pika.Message(b"\x00\xffGIF89a" + bytes(20)))

    async with signed_in(system) as browser:
        spread = unescape((await browser.get(f"/dead-letters/{texts['_id']}")).text)
        dumped = unescape((await browser.get(f"/dead-letters/{raw['_id']}")).text)

    wanted = (
        '{\n  "total": 12.500,\n  "lines": [\n    {\n      "sku": "a"\n    },\n    {}\n  ],\n  "n": []\n}'
    )
    assert wanted in spread
    assert "0000  00 ff 47 49 46 38 39 61 00 00 00 00 00 00 00 00  ..GIF89a........\n0010  00" in dumped


async def test_without_the_scope_nothing_is_shown_and_nothing_is_done(system: System) -> None:
    """A key for orders sees no link to dead letters, and neither reads nor repairs one by their addresses."""
    (letter,) = await letters_of(system, f"on_{uuid4().hex}", [None])
    ways = [
        "/dead-letters",
        f"/dead-letters/{letter['_id']}",
        f"/dead-letters/{letter['_id']}/body",
        f"/dead-letters/{letter['_id']}/discard",
        f"/dead-letters/groups/{letter['fingerprint']}/replay",
        "/audit",
    ]
    async with signed_in(system, await made(system, "--scope", "orders:read")) as browser:
        start = await browser.get("/orders")
        seen = [await browser.get(way) for way in ways]
        token = unescape(_CSRF.findall(start.text)[0])
        tried = [
            await browser.post(f"/dead-letters/{letter['_id']}/{action}", data={"csrf": token, "reason": "x"})
            for action in ("discard", "replay")
        ]
    async with signed_in(system) as operator:
        unsigned = await operator.post(f"/dead-letters/{letter['_id']}/discard", data={"reason": "x"})

    assert start.status_code == 200
    assert "/console/dead-letters" not in start.text
    assert "/console/audit" not in start.text
    assert [answer.status_code for answer in (*seen, *tried, unsigned)] == [403] * 9
    assert "it is broken" not in "".join(answer.text for answer in seen)
    assert await state_of(system, letter) == "open"


async def test_who_may_not_see_the_first_page_goes_on_to_what_they_may(system: System) -> None:
    """The way to the first page, which every page and refusal offers, leads into no other refusal."""
    async with signed_in(system, await made(system, "--scope", "dead-letters:manage")) as browser:
        first = await browser.get("/")
    async with signed_in(system, await made(system, "--scope", "orders:write")) as browser:
        nothing = await browser.get("/")
    assert (first.status_code, first.headers["location"]) == (303, "/console/dead-letters")
    assert nothing.status_code == 403


async def test_audit_log_tells_who_did_what(system: System) -> None:
    """An action here is written down under its key's name, with how it was answered; pages follow."""
    (letter,) = await letters_of(system, f"on_{uuid4().hex}", [None])
    key = await made(system, "--scope", "dead-letters:manage")
    way = f"/dead-letters/{letter['_id']}/discard"

    async with signed_in(system, key) as browser:
        await submit(browser, way, reason="a test")
        await submit(browser, way.replace("discard", "replay"))
        log = await browser.get("/audit")
        history = await browser.get(f"/dead-letters/{letter['_id']}")

    assert f"a test's {prefix_of(key)} POST /console{way} 303" in shown(log)
    assert f"POST /console{way.replace('discard', 'replay')} 409" in shown(log)
    assert f"discarded a test's {prefix_of(key)} a test" in shown(history)
