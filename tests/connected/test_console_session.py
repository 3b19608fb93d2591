"""A session at the real console: its key is revoked while it lasts, and every page keeps to itself."""

import httpx
import pytest
from conftest import System, eventually
from test_commands import orderflow
from test_console_dead_letters import shown, signed_in
from test_keys import made

from apps.access.authentication import REMEMBERED_SECONDS
from apps.access.domain import prefix_of

pytestmark = pytest.mark.connected


async def test_revoked_key_ends_its_sessions(system: System) -> None:
    """Within seconds the console asks for another; until then it shows what the key may see, and no more."""
    key = await made(system, "--scope", "orders:read")
    async with signed_in(system, key) as browser:
        page = await browser.get("/orders")
        assert page.status_code == 200
        assert "/console/dead-letters" not in page.text
        hidden = await browser.get("/dead-letters")
        assert (hidden.status_code, "dead-letters:manage" in shown(hidden)) == (403, True)

        assert (await orderflow(system, "keys", "revoke", str(prefix_of(key)))).code == 0

        async def is_over() -> bool:
            return (await browser.get("/orders")).status_code == 303

        await eventually(is_over, "the session is over", REMEMBERED_SECONDS + 2)
        assert "key" in shown(await browser.get("/orders", follow_redirects=True))

    entries = await system.database("access")["audit"].find({"caller": prefix_of(key)}).to_list()
    assert [(one["action"], one["status"]) for one in entries] == [("POST /console/sign-in", 303)]


async def test_pages_keep_to_themselves(system: System) -> None:
    """Nothing foreign runs in a page, nothing frames it, nobody keeps a copy; nor of a refusal."""
    async with signed_in(system) as browser:
        answers = [await browser.get(way) for way in ("/", "/orders", "/nothing", "/sign-in")]
    assert [answer.status_code for answer in answers] == [200, 200, 404, 200]
    for answer in answers:
        policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "same-origin"


async def test_key_at_the_console_is_not_a_session(system: System) -> None:
    """The console takes cookies only: what it shows cannot be asked for by a header."""
    headers = {"Authorization": f"Bearer {system.stack.api_key}"}
    async with httpx.AsyncClient(base_url=f"{system.stack.api_url}/console", headers=headers) as program:
        assert (await program.get("/orders")).status_code == 303
        assert (await program.post("/orders/sample")).status_code == 303
