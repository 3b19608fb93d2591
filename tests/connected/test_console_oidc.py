"""Signing in to the console at a real issuer over HTTP, and every known way to slip in without it."""

import asyncio
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from conftest import System
from test_console_dead_letters import shown, submit
from test_keys import another_ingress
from test_oidc import AUDIENCE, Provider, serving

from apps.kit.scopes import Scope

pytestmark = pytest.mark.connected

CLIENT = "console"
SECRET = "a secret: with/signs"
BASIC = "Basic " + b64encode(b"console:a%20secret%3A%20with%2Fsigns").decode()


@dataclass
class SignInProvider(Provider):
    """A provider where people sign in, in the browser that a client sends there."""

    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    """What was asked for with each code that was given and not yet redeemed."""
    redeemed: list[dict[str, str]] = field(default_factory=list)
    identity: dict[str, Any] = field(default_factory=dict)
    """What the next ID token says otherwise."""
    rights: dict[str, Any] = field(default_factory=dict)
    """What the next access token says otherwise."""

    def about(self) -> dict[str, Any]:
        places = {
            "authorization_endpoint": f"{self.url}/authorize?tenant=1",
            "token_endpoint": f"{self.url}/token",
        }
        return super().about() | places

    def sign_in(self, address: str) -> dict[str, str]:
        """Somebody signs in where the browser was sent; returns what it brings back."""
        assert address.startswith(f"{self.url}/authorize?tenant=1&")
        asked = dict(parse_qsl(urlsplit(address).query))
        code = token_hex(8)
        self.codes[code] = asked
        return {"code": code, "state": asked["state"], "iss": self.url}

    def tokens_for(self, form: dict[str, str], authorization: str | None) -> tuple[int, Any]:
        self.redeemed.append(form)
        asked = self.codes.pop(form["code"], None)
        challenge = urlsafe_b64encode(sha256(form["code_verifier"].encode()).digest()).decode().rstrip("=")
        if authorization != BASIC:
            return 401, {"error": "invalid_client"}
        if (
            asked is None
            or challenge != asked["code_challenge"]
            or form["redirect_uri"] != asked["redirect_uri"]
        ):
            return 400, {"error": "invalid_grant"}
        identity = {"aud": CLIENT, "nonce": asked["nonce"], "scope": None} | self.identity
        return 200, {"id_token": self.token(**identity), "access_token": self.token(**self.rights)}


@pytest.fixture
def provider() -> Iterator[SignInProvider]:
    provider = SignInProvider()
    with serving(provider):
        yield provider


@asynccontextmanager
async def console(system: System, provider: Provider, logs: Path) -> AsyncIterator[httpx.AsyncClient]:
    """An ingress that the provider knows, and a browser at its console."""
    async with (
        another_ingress(
            system,
            logs,
            ORDERFLOW_OIDC_ISSUER=provider.url,
            ORDERFLOW_OIDC_AUDIENCE=AUDIENCE,
            ORDERFLOW_OIDC_CLIENT_ID=CLIENT,
            ORDERFLOW_OIDC_CLIENT_SECRET=SECRET,
        ) as api,
        httpx.AsyncClient(base_url=f"{api.base_url}/console", timeout=15) as browser,
    ):
        yield browser


async def sent(browser: httpx.AsyncClient, way: str = "/orders") -> str:
    """Where the sign-in page sends a browser."""
    answer = await browser.get("/oidc", params={"next": way})
    assert answer.status_code == 303
    return answer.headers["Location"]


async def come_back(browser: httpx.AsyncClient, brought: dict[str, str]) -> httpx.Response:
    return await browser.get("/oidc/return", params=brought)


async def is_signed_in(browser: httpx.AsyncClient) -> bool:
    answer = await browser.get("/orders")
    assert answer.status_code in (200, 303)
    return answer.status_code == 200


async def test_sign_in_and_out(system: System, provider: SignInProvider, tmp_path: Path) -> None:
    """The rights are those of the access token, and the audit log names who it was."""
    async with console(system, provider, tmp_path) as browser:
        page = await browser.get("/sign-in?next=/orders%3Fstatus%3Dinvoiced")
        assert 'href="/console/oidc?next=/orders%3Fstatus%3Dinvoiced"' in page.text
        assert urlsplit(provider.url).netloc in shown(page)
        address = await sent(browser, "/orders?status=invoiced")
        asked = dict(parse_qsl(urlsplit(address).query))
        answer = await come_back(browser, provider.sign_in(address))
        assert (answer.status_code, answer.headers["Location"]) == (303, "/console/orders?status=invoiced")
        assert await is_signed_in(browser)
        hidden = await browser.get("/dead-letters")
        assert (hidden.status_code, "dead-letters:manage" in shown(hidden)) == (403, True)
        assert (await submit(browser, "/orders")).status_code in (404, 405)
        left = await submit_sign_out(browser)
        assert left.status_code == 303
        assert not await is_signed_in(browser)

    assert (asked["response_type"], asked["client_id"], asked["audience"]) == ("code", CLIENT, AUDIENCE)
    assert asked["scope"].split() == ["openid", *Scope]
    assert asked["code_challenge_method"] == "S256"
    assert asked["redirect_uri"].endswith("/console/oidc/return")
    (form,) = provider.redeemed
    assert form["code_verifier"] not in address
    assert form["code_verifier"] not in str(browser.cookies)
    entries = await system.database("access")["audit"].find({"caller": f"{provider.url} checkout"}).to_list()
    assert {(one["action"], one["status"]) for one in entries} == {
        ("GET /console/oidc/return", 303),
        ("POST /console/sign-out", 303),
    }


async def submit_sign_out(browser: httpx.AsyncClient) -> httpx.Response:
    found = (await browser.get("/orders")).text.partition('name="csrf" value="')[2].partition('"')[0]
    return await browser.post("/sign-out", data={"csrf": found})


async def test_answers_that_do_not_hold(system: System, provider: SignInProvider, tmp_path: Path) -> None:
    """None of these begins a session, and each says why on the page for another try."""
    async with console(system, provider, tmp_path) as browser:

        async def refused(brought: dict[str, str], words: str) -> None:
            answer = await come_back(browser, brought)
            assert (answer.status_code, words in shown(answer)) == (403, True), shown(answer)
            assert not await is_signed_in(browser)

        address = await sent(browser)
        good = provider.sign_in(address)
        await refused(good | {"state": "x" * 43}, "not begun in this browser")
        await refused(
            {"state": "x", "error": "e", "error_description": "call 555"}, "not begun in this browser"
        )
        assert "555" not in shown(await come_back(browser, {"state": "x", "error_description": "call 555"}))
        assert not provider.redeemed

        await refused(good | {"iss": "https://another.example"}, "Another issuer")
        await refused(good, "not begun in this browser")  # an attempt is for one answer
        address = await sent(browser)
        told = {
            "state": provider.sign_in(address)["state"],
            "error": "denied",
            "error_description": "<b>no</b>",
        }
        await refused(told, "<b>no</b>")
        assert not provider.redeemed

        code = provider.sign_in(await sent(browser))["code"]
        stolen = provider.sign_in(await sent(browser)) | {"code": code}
        await refused(stolen, "not valid")  # of another attempt: the verifier is not the code's

        for identity in (
            {"nonce": "of another sign-in"},
            {"nonce": None},
            {"aud": "another client"},
            {"aud": [CLIENT, "another"], "azp": "another"},
            {"iss": "https://another.example"},
            {"exp": time.time() - 60},
        ):
            provider.identity = identity
            await refused(provider.sign_in(await sent(browser)), "not valid")
        provider.identity = {}
        for rights in ({"aud": CLIENT}, {"exp": time.time() - 60}, {"iss": "https://another.example"}):
            provider.rights = rights
            await refused(provider.sign_in(await sent(browser)), "not valid")
        provider.rights = {"scope": "openid email"}
        await refused(provider.sign_in(await sent(browser)), "no rights here")


async def test_code_of_another_browser(system: System, provider: SignInProvider, tmp_path: Path) -> None:
    """Nobody can be signed in as somebody else by a link that carries the other's code."""
    async with console(system, provider, tmp_path) as browser:
        brought = provider.sign_in(await sent(browser))
        browser.cookies.clear()
        assert (await come_back(browser, brought)).status_code == 403
        await sent(browser)
        assert (await come_back(browser, brought)).status_code == 403
        assert not await is_signed_in(browser)
    assert not provider.redeemed


async def test_session_ends_with_its_token(system: System, provider: SignInProvider, tmp_path: Path) -> None:
    """However long a session may last, the issuer has said how long its rights do."""
    async with console(system, provider, tmp_path) as browser:
        provider.rights = {"exp": time.time() + 2}
        answer = await come_back(browser, provider.sign_in(await sent(browser)))
        (kept,) = [
            one for one in answer.headers.get_list("Set-Cookie") if one.startswith("orderflow_console=")
        ]
        assert "Max-Age=1;" in kept or "Max-Age=2;" in kept
        cookie = kept.partition(";")[0]
        browser.cookies.clear()
        held = {"Cookie": cookie}
        assert (await browser.get("/orders", headers=held)).status_code == 200
        await asyncio.sleep(2.5)
        late = await browser.get("/orders", headers=held)
        assert (late.status_code, late.headers["Location"]) == (303, "/console/sign-in?next=%2Forders")


async def test_issuer_that_does_not_answer(system: System, provider: SignInProvider, tmp_path: Path) -> None:
    """Keys still open the console."""
    provider.is_down = True
    async with console(system, provider, tmp_path) as browser:
        answer = await browser.get("/oidc")
        assert (answer.status_code, "out of reach" in shown(answer)) == (503, True)
        await submit(browser, "/sign-in", key=system.stack.api_key)
        assert await is_signed_in(browser)


async def test_no_issuer(system: System) -> None:
    """Where none is configured, none is offered."""
    async with httpx.AsyncClient(base_url=f"{system.stack.api_url}/console") as browser:
        assert "/oidc" not in (await browser.get("/sign-in")).text
        assert (await browser.get("/oidc")).status_code == 404
        answer = await browser.get("/oidc/return?state=x&code=y")
        assert answer.status_code == 403
