"""Keys at the real ingress: what they open, to whom, for how long, and what is written down of it."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from conftest import PREFIX, System, body_of, eventually, new_order
from test_commands import orderflow

from apps.access.authentication import REMEMBERED_SECONDS
from apps.access.domain import new_key, prefix_of
from apps.access.mongo import MongoKeys
from apps.cli.api_client import bearer
from apps.cli.local.ports import LOOPBACK, free_port
from apps.cli.local.supervisor import Supervisor
from apps.kit.clock import utc_now
from apps.kit.mongo import Database
from apps.kit.scopes import Scope

pytestmark = pytest.mark.connected


async def made(system: System, *options: str) -> str:
    """A key as `keys create` prints it."""
    answer = await orderflow(system, "keys", "create", "--name", "a test's", *options)
    assert answer.code == 0, answer.err
    return answer.out.strip()


def with_key(system: System, key: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=system.stack.api_url, headers=bearer(key), timeout=15)


async def test_key_from_creation_to_revocation(system: System) -> None:
    """It opens what its scope says, shows up as used, and within seconds of its revocation opens nothing."""
    key = await made(system, "--scope", "orders:read", "--expires-in", "30")
    prefix = prefix_of(key)
    stored = system.database("access")["keys"]

    async with with_key(system, key) as api:
        assert (await api.get("/v1/orders")).status_code == 200
        refused = await api.post("/v1/orders", json=body_of(new_order(("any", 1))))
        assert refused.status_code == 403
        assert "orders:write" in refused.json()["detail"]

        async def used() -> bool:
            return "last_used_at" in (
                await stored.find_one({"_id": prefix, "last_used_at": {"$ne": None}}) or {}
            )

        await eventually(used, "the use is written down")
        (listed,) = [
            one
            for one in json.loads((await orderflow(system, "keys", "list", "--json")).out)
            if one["id"] == prefix
        ]
        assert listed["scopes"] == ["orders:read"]
        assert "digest" not in listed
        assert (await orderflow(system, "keys", "revoke", str(prefix))).code == 0

        async def is_refused() -> bool:
            return (await api.get("/v1/orders")).status_code == 401

        await eventually(is_refused, "the key is refused", REMEMBERED_SECONDS + 2)

    document = await stored.find_one({"_id": prefix})
    assert key.split("_", 2)[2] not in str(document)
    again = await orderflow(system, "keys", "revoke", key)
    assert (again.code, key in again.err) == (2, False)


async def test_command_without_a_valid_key(system: System) -> None:
    """A command says in one line which variable holds no valid key."""
    answer = await orderflow(system, "order", "list", ORDERFLOW_API_KEY="made-up")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "ORDERFLOW_API_KEY" in answer.err


async def test_expired_key(system: System) -> None:
    """From its end on a key is refused."""
    key = await made(system, "--scope", "orders:read", "--expires-in", "1")
    await system.database("access")["keys"].update_one(
        {"_id": prefix_of(key)}, {"$set": {"expires_at": utc_now() - timedelta(seconds=1)}}
    )
    async with with_key(system, key) as api:
        answer = await api.get("/v1/orders")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


async def test_client_sees_its_own_orders_only(system: System) -> None:
    """Another client's order is not found, not listed, not sent again, and shares no idempotency key."""
    scopes = ("--scope", "orders:read", "--scope", "orders:write")
    (sku,) = await system.stock_up(10)
    ours = await made(system, *scopes, "--client", f"ours-{uuid4()}")
    theirs = await made(system, *scopes, "--client", f"theirs-{uuid4()}")
    headers = {"Idempotency-Key": f"checkout-{uuid4()}"}

    async with with_key(system, ours) as us, with_key(system, theirs) as them:
        placed = [
            (await api.post("/v1/orders", json=body_of(new_order((sku, quantity))), headers=headers)).json()
            for api, quantity in ((us, 1), (them, 2), (us, 1))
        ]
        mine, other, repeated = (one["order_id"] for one in placed)
        assert mine == repeated != other
        await system.settled(mine)
        for api, seen, hidden in ((us, mine, other), (them, other, mine)):
            assert [one["order_id"] for one in (await api.get("/v1/orders")).json()["orders"]] == [seen]
            assert (await api.get(f"/v1/orders/{seen}")).status_code == 200
            assert (await api.post(f"/v1/orders/{seen}/resend")).status_code == 202
            unknown = await api.get(f"/v1/orders/{uuid4()}")
            for answer in (
                await api.get(f"/v1/orders/{hidden}"),
                await api.post(f"/v1/orders/{hidden}/resend"),
                await api.post(f"/v1/orders/{hidden}/cancel", json={"reason": "not mine"}),
            ):
                assert answer.status_code == unknown.status_code == 404
        assert {mine, other} <= {
            one["order_id"] for one in (await system.api.get("/v1/orders")).json()["orders"]
        }
    assert (await system.order(other) or {})["status"] != "cancelled"


async def test_key_of_a_client_sees_no_dead_letter(system: System) -> None:
    """Whatever its scopes are: they may come from a backup or from another program than ours."""
    key = new_key()
    scopes = [Scope.DEAD_LETTERS_MANAGE, Scope.WEBHOOKS_MANAGE]
    await MongoKeys(Database(system.mongo, f"{PREFIX}_access")).put(
        key, name="odd", scopes=scopes, client="acme"
    )
    ways = (
        "/v1/dead-letters",
        "/v1/dead-letters/groups",
        f"/v1/dead-letters/{uuid4()}",
        "/v1/webhook-endpoints",
    )
    assert [(await system.api.get(way, headers=bearer(key))).status_code for way in ways] == [403] * 4


async def test_client_gets_no_rights_over_others(system: System) -> None:
    """A key of one client cannot be made for what concerns all."""
    scope = ("--scope", "orders:read", "--scope", "dead-letters:manage")
    refused = await orderflow(system, "keys", "create", "--name", "x", "--client", "acme", *scope)
    assert (refused.code, refused.out) == (2, "")
    assert "dead-letters:manage" in refused.err


async def test_management_is_on_record(system: System) -> None:
    """Who did what to keys and orders, with the request's id and its answer; no reason, no key."""
    key = await made(system, "--scope", "orders:write")
    order_id, request_id = uuid4(), f"request-{uuid4()}"
    async with with_key(system, key) as api:
        path = f"/v1/orders/{order_id}/cancel"
        await api.post(path, json={"reason": "a private matter"}, headers={"X-Request-Id": request_id})
    shown = await orderflow(system, "keys", "audit", "--json")
    entries = json.loads(shown.out)
    (entry,) = [one for one in entries if one["request_id"] == request_id]
    assert (entry["caller"], entry["action"], entry["status"]) == (prefix_of(key), f"POST {path}", 404)
    assert any(f"keys create {prefix_of(key)}" in one["action"] for one in entries)
    assert "a private matter" not in shown.out
    assert key not in shown.out


async def test_own_key_is_kept_from_others(system: System) -> None:
    """The key of `orderflow up` and the file that announces it can be read by their owner only."""
    for name in ("api-key", "env"):
        assert (system.stack.home / name).stat().st_mode & 0o777 == 0o600
    assert system.stack.api_key == (system.stack.home / "api-key").read_text()


def ingress(port: int) -> list[str]:
    return [sys.executable, "-m", "uvicorn", "apps.ingress.api:api", "--host", LOOPBACK, "--port", str(port)]


@asynccontextmanager
async def another_ingress(system: System, logs: Path, **settings: str) -> AsyncIterator[httpx.AsyncClient]:
    """A second ingress on the same databases, with settings of its own."""
    environment = {**os.environ, **system.stack.addresses, "ORDERFLOW_DATABASE_PREFIX": PREFIX, **settings}
    port = free_port()
    supervisor = Supervisor(logs)
    supervisor.add("api", ingress(port), environment, f"http://{LOOPBACK}:{port}/health/ready")
    try:
        await supervisor.start()
        await supervisor.wait_ready(60)
        key = bearer(system.stack.api_key)
        async with httpx.AsyncClient(base_url=f"http://{LOOPBACK}:{port}", headers=key, timeout=15) as api:
            yield api
    finally:
        await supervisor.stop()


PRODUCTION = {
    "ORDERFLOW_ENVIRONMENT": "production",
    "ORDERFLOW_SECRET_KEY": "s" * 32,
    "ORDERFLOW_PUBLIC_URL": "https://shop.example",
}


async def test_rate_limit_in_production(system: System, tmp_path: Path) -> None:
    """The headers count down, then 429 tells when to go on; the pages at /docs are not served."""
    limit = {"ORDERFLOW_REQUESTS_PER_MINUTE": "3"}
    async with another_ingress(system, tmp_path, **PRODUCTION, **limit) as api:
        answers = [await api.get("/v1/orders", params={"limit": 1}) for _ in range(4)]
        pages = [await api.get(path) for path in ("/docs", "/redoc")]
    assert [one.status_code for one in answers] == [200, 200, 200, 429]
    assert [one.headers["RateLimit"].split(";")[1] for one in answers] == ["r=2", "r=1", "r=0", "r=0"]
    assert answers[0].headers["RateLimit-Policy"] == '"default";q=3;w=60'
    assert 1 <= int(answers[3].headers["Retry-After"]) <= 20
    assert answers[3].headers["content-type"] == "application/problem+json"
    assert [page.status_code for page in pages] == [404, 404]


async def test_production_wants_a_secret(system: System) -> None:
    """Without a real secret the ingress does not start, and says which setting is missing."""
    environment = {**os.environ, **system.stack.addresses, **PRODUCTION}
    del environment["ORDERFLOW_SECRET_KEY"]
    process = await asyncio.create_subprocess_exec(
        *ingress(free_port()),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(60):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode not in (0, None)
    assert b"ORDERFLOW_SECRET_KEY must be set in production" in out
