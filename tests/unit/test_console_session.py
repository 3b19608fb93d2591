"""Sessions of the console: what signs somebody in, what does not, and what a form needs."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import httpx
import jwt
import pytest
from fastapi import Depends, FastAPI, Form, Request

from apps.access.audit import AuditAnswers
from apps.access.authentication import FAILURES_PER_MINUTE, REMEMBERED_SECONDS, Authentication
from apps.access.domain import digest_of, new_key, prefix_of
from apps.access.mongo import ApiKey, AuditEntry
from apps.console import oidc, sign_in
from apps.console.app import console
from apps.console.session import COOKIE, LIFETIME, Sessions, check_csrf, safe_next
from apps.kit.access import Caller, caller_of, may
from apps.kit.answers import AnswerHeaders
from apps.kit.clock import utc_now
from apps.kit.scopes import Scope
from apps.kit.secret_keys import derived_key

_TOKEN = re.compile(r'name="csrf" value="([^"]*)"')


@dataclass
class Shop:
    """A console with two pages, its keys and its audit log in memory."""

    keys: dict[str, ApiKey] = field(default_factory=dict)
    trail: dict[Any, AuditEntry] = field(default_factory=dict)
    now: float = 1000.0

    def add(self, *scopes: Scope, **changes: Any) -> str:
        key = new_key()
        prefix = prefix_of(key) or ""
        known: dict[str, Any] = {
            "id": prefix,
            "name": "test",
            "digest": digest_of(key),
            "created_at": utc_now(),
        }
        self.keys[prefix] = ApiKey(**(known | {"scopes": list(scopes)} | changes))
        return key

    async def find(self, prefix: str) -> ApiKey | None:
        return self.keys.get(prefix)

    async def mark_used(self, prefix: str, at: datetime) -> None:
        pass

    async def begin(self, entry: AuditEntry) -> None:
        self.trail[entry.id] = entry

    async def end(self, entry: AuditEntry, status: int) -> None:
        self.trail[entry.id].status = status

    @property
    def record(self) -> list[tuple[str, str, int | None]]:
        return [(entry.caller, entry.action, entry.status) for entry in self.trail.values()]

    def change(self, key: str, **changes: Any) -> None:
        prefix = prefix_of(key) or ""
        self.keys[prefix] = self.keys[prefix].model_copy(update=changes)
        self.now += REMEMBERED_SECONDS


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
async def browser(shop: Shop) -> AsyncIterator[httpx.AsyncClient]:
    """A browser, which keeps cookies, at the console's real sign-in and two pages of the test's own."""
    pages = FastAPI(
        dependencies=console.router.dependencies, exception_handlers=dict(console.exception_handlers)
    )
    pages.include_router(sign_in.router)
    pages.include_router(oidc.router)

    @pages.get("/me")
    async def me(caller: Annotated[Caller, Depends(may(Scope.ORDERS_READ))]) -> dict[str, Any]:
        return {"id": caller.id, "client": caller.client}

    @pages.post("/say")
    async def say(request: Request, word: Annotated[str, Form()]) -> str:
        assert word == (await request.form())["word"]
        return f"{(await caller_of(request)).id} {word}"

    @pages.post("/raw")
    async def raw(request: Request) -> str:
        return str((await request.form())["word"])

    pages.state.sessions = Sessions(Authentication(shop, clock=lambda: shop.now))
    pages.state.authenticate = pages.state.sessions.authenticate
    pages.state.audit = shop
    pages.state.sign_in = None
    site = FastAPI()
    site.add_middleware(AuditAnswers)
    site.add_middleware(AnswerHeaders)
    site.mount("/console", pages)
    transport = httpx.ASGITransport(site, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.example/console") as browser:
        yield browser


async def enter(browser: httpx.AsyncClient, key: str, **more: str) -> httpx.Response:
    return await browser.post("/sign-in", data={"key": key, **more})


async def token(browser: httpx.AsyncClient) -> str:
    found = _TOKEN.search((await browser.get("/sign-in")).text)
    assert found
    return found[1]


async def status(browser: httpx.AsyncClient, **headers: str) -> int:
    return (await browser.get("/me", headers=headers)).status_code


async def test_session_holds_no_key(shop: Shop, browser: httpx.AsyncClient) -> None:
    """The cookie names the key, and neither scripts nor other sites nor other parts of the host get it."""
    key = shop.add(Scope.ORDERS_READ)
    answer = await enter(browser, f" {key}\n")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/console/")
    kept = answer.headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=lax", "Path=/console"} <= {*kept.split("; ")}
    content = jwt.decode(browser.cookies[COOKIE], options={"verify_signature": False})
    assert key.split("_")[2] not in str(content)
    assert digest_of(key) not in str(content)
    assert (await browser.get("/me")).json() == {"id": prefix_of(key), "client": None}
    assert (prefix_of(key), "POST /console/sign-in", 303) in shop.record


async def test_who_is_not_signed_in_is_led_to_it_and_back(shop: Shop, browser: httpx.AsyncClient) -> None:
    """What was asked for is shown after it."""
    answer = await browser.get("/me?of=%22x")
    assert (answer.status_code, answer.headers["Location"]) == (
        303,
        "/console/sign-in?next=%2Fme%3Fof%3D%2522x",
    )
    page = await browser.get(answer.headers["Location"].removeprefix("/console"))
    assert 'name="next" value="/me?of=%22x"' in page.text
    answer = await enter(browser, shop.add(Scope.ORDERS_READ), next="/me?of=%22x")
    assert answer.headers["Location"] == "/console/me?of=%22x"
    assert await status(browser) == 200


async def test_after_a_form_or_a_part_the_page_is_shown(shop: Shop, browser: httpx.AsyncClient) -> None:
    """Nobody is led to what only a form or a script may ask for."""
    await enter(browser, shop.add(Scope.ORDERS_READ))
    form = {"csrf": await token(browser), "word": "hello"}
    browser.cookies.clear()
    posted = await browser.post("/say", data=form)
    assert posted.headers["Location"] == "/console/sign-in?next=%2F"
    by_script = {"HX-Request": "true", "HX-Current-URL": "http://shop.example/console/orders?q=x"}
    part = await browser.get("/me", headers=by_script)
    assert (part.status_code, part.headers["HX-Redirect"]) == (
        401,
        "/console/sign-in?next=%2Forders%3Fq%3Dx",
    )


async def test_what_is_no_key(shop: Shop, browser: httpx.AsyncClient) -> None:
    """The page says what is wrong, keeps where to go on, and repeats nothing of what was entered."""
    stored = shop.add(Scope.ORDERS_READ)
    for key, words in (
        ("", "no API key"),
        ("<script>of_x</script>", "no API key"),
        (new_key(), "not known"),
        (stored[:-1] + ("a" if stored[-1] != "a" else "b"), "not known"),
        (shop.add(Scope.ORDERS_READ, revoked_at=utc_now()), "not known"),
        (shop.add(Scope.ORDERS_READ, expires_at=utc_now()), "not known"),
    ):
        answer = await enter(browser, key, next="/me")
        assert (answer.status_code, words in answer.text) == (401, True)
        assert 'name="next" value="/me"' in answer.text
        assert not key or key not in answer.text
        assert COOKIE not in browser.cookies
    assert await status(browser) == 303
    assert not shop.record


async def test_guesses_are_limited(shop: Shop, browser: httpx.AsyncClient) -> None:
    """As at the API; who has a valid key is let in all the same."""
    for _ in range(FAILURES_PER_MINUTE):
        assert (await enter(browser, new_key())).status_code == 401
    refused = await enter(browser, new_key())
    assert (refused.status_code, "Retry-After" in refused.headers) == (429, True)
    assert (await enter(browser, shop.add(Scope.ORDERS_READ))).status_code == 303


async def test_key_that_changes_changes_its_sessions(shop: Shop, browser: httpx.AsyncClient) -> None:
    """Fewer scopes, an end, a revocation or another key under the prefix: within what is remembered."""
    for change, then in (
        ({"scopes": [Scope.ORDERS_WRITE]}, 403),
        ({"expires_at": utc_now()}, 303),
        ({"revoked_at": utc_now()}, 303),
        ({"digest": digest_of(new_key())}, 303),
    ):
        key = shop.add(Scope.ORDERS_READ)
        browser.cookies.clear()
        await enter(browser, key)
        assert await status(browser) == 200
        shop.change(key, **change)
        assert await status(browser) == then


async def test_cookies_that_are_not_ours(shop: Shop, browser: httpx.AsyncClient) -> None:
    """Forged, changed, expired, of another purpose, unsigned: nobody is signed in."""
    await enter(browser, shop.add(Scope.ORDERS_READ))
    good = browser.cookies[COOKIE]
    browser.cookies.clear()
    claims = jwt.decode(good, options={"verify_signature": False})
    ours = derived_key("console sessions")
    header, body, signature = good.split(".")
    past = utc_now() - timedelta(seconds=1)
    endless = {name: value for name, value in claims.items() if name != "exp"}
    of_another_issuer = claims | {"scopes": [*Scope], "issuer": "https://gone.example"}
    forged = [
        jwt.encode(claims, b"x" * 32, "HS256"),
        jwt.encode(claims, derived_key("console sign-in"), "HS256"),
        jwt.encode(claims, derived_key("console sessions") * 2, "HS512"),
        jwt.encode(claims, "", "none"),
        jwt.encode(claims | {"exp": past}, ours, "HS256"),
        jwt.encode(endless, ours, "HS256"),
        jwt.encode(of_another_issuer, ours, "HS256"),
        f"{header}.{body}.{signature[::-1]}",
        f"{header}.{body}.",
        "x",
        "",
    ]
    assert await status(browser, Cookie=f"{COOKIE}={good}") == 200
    for cookie in forged:
        assert await status(browser, Cookie=f"{COOKIE}={cookie}") == 303, cookie
    ends = datetime.fromtimestamp(claims["exp"], UTC)
    assert timedelta(0) <= LIFETIME - (ends - utc_now()) < timedelta(minutes=1)


async def test_forms_carry_the_token_of_their_session(shop: Shop, browser: httpx.AsyncClient) -> None:
    """In a field or in a header; none, another's and that of an earlier session are refused."""
    await enter(browser, shop.add(Scope.ORDERS_READ))
    earlier = await token(browser)
    browser.cookies.clear()
    await enter(browser, shop.add(Scope.ORDERS_READ))
    ours = await token(browser)

    for way in ("/say", "/raw"):
        for form in ({}, {"csrf": ""}, {"csrf": earlier}, {"csrf": "\N{SNOWMAN}"}, {"csrf": ours[:-1]}):
            refused = await browser.post(way, data={"word": "hello", **form})
            assert (refused.status_code, "not of your session" in refused.text) == (403, True)
            assert (
                "não é da sua sessão"
                in (await browser.post(way, data={"word": "x"}, headers={"Accept-Language": "pt-BR"})).text
            )
        for headers, form in (({}, {"csrf": ours}), ({"X-CSRF-Token": ours}, {})):
            answer = await browser.post(way, data={"word": "hello", **form}, headers=headers)
            assert answer.text.strip('"').endswith("hello")
    assert ("POST /console/say", 200) in {entry[1:] for entry in shop.record}
    assert 403 not in {entry[2] for entry in shop.record}


@pytest.mark.parametrize(
    ("headers", "is_let_in"),
    [
        ({}, True),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://anything.example"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://shop.example"}, False),
        ({"Origin": "http://shop.example"}, True),
        ({"Origin": "http://127.0.0.1:8000"}, True),
        ({"Origin": "https://other.example"}, False),
        ({"Origin": "null"}, False),
    ],
)
async def test_no_other_site_signs_anybody_in(
    shop: Shop, browser: httpx.AsyncClient, headers: dict[str, str], *, is_let_in: bool
) -> None:
    """Nor with the attacker's own key, under which the viewer would then work; signed in already or not."""
    form = {"key": shop.add(Scope.ORDERS_READ)}
    for _ in range(2):
        answer = await browser.post("/sign-in", data=form, headers=headers)
        assert answer.status_code == (303 if is_let_in else 403)
        await enter(browser, shop.add(Scope.ORDERS_READ))


async def test_sign_out(shop: Shop, browser: httpx.AsyncClient) -> None:
    """The cookie is gone; also of a session whose key was revoked meanwhile; never by another site."""
    key = shop.add(Scope.ORDERS_READ)
    await enter(browser, key)
    assert (await browser.post("/sign-out")).status_code == 403
    answer = await browser.post("/sign-out", data={"csrf": await token(browser)})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/console/sign-in")
    assert COOKIE not in browser.cookies
    assert await status(browser) == 303
    assert shop.record[-1] == (prefix_of(key), "POST /console/sign-out", 303)

    await enter(browser, key)
    form = {"csrf": await token(browser)}
    shop.change(key, revoked_at=utc_now())
    answer = await browser.post("/sign-out", data=form)
    assert (answer.status_code, COOKIE in browser.cookies) == (303, False)
    assert (await browser.post("/sign-out")).status_code == 303


async def test_first_page_is_one_that_the_key_may_see(shop: Shop, browser: httpx.AsyncClient) -> None:
    """Who may not see orders is not greeted by a refusal."""
    for scopes, client, place in (
        ((Scope.ORDERS_READ,), "acme", "/console/"),
        ((Scope.WEBHOOKS_MANAGE, Scope.STOCK_WRITE), None, "/console/webhooks"),
        ((Scope.DEAD_LETTERS_MANAGE,), None, "/console/dead-letters"),
        ((Scope.STOCK_WRITE,), None, "/console/stock"),
        ((Scope.ORDERS_WRITE,), None, "/console/"),
    ):
        answer = await enter(browser, shop.add(*scopes, client=client), next="/sign-in")
        assert answer.headers["Location"] == place


@pytest.mark.parametrize(
    "way",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/%2Fevil.example",
        "/%5cevil.example",
        "/\t/evil.example",
        "/x\r\nSet-Cookie: a=b",
        "javascript:alert(1)",
        "/../v1/orders",
        "/orders/%2e%2e/%2E%2E/docs",
        "/x\\..\\..\\docs",
        "//[",
        "orders",
        "",
        " /orders",
        "/\N{RIGHT-TO-LEFT OVERRIDE}x",
    ],
)
async def test_next_leads_nowhere_else(way: str) -> None:
    """Whatever a link says, the viewer stays within the console."""
    assert safe_next(way) == "/"


async def test_next_within_the_console() -> None:
    """With its query, whatever that says."""
    for way in ("/", "/orders", "/orders?q=https://x/../y&status=invoiced", "/dead-letters/groups/a%20b"):
        assert safe_next(way) == way


def test_every_form_is_checked() -> None:
    """The check hangs on the console itself, so that no page can forget it."""
    assert check_csrf in [one.dependency for one in console.router.dependencies]
