"""Who may do what: keys, tokens, scopes, rates, and the trace that every management action leaves."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import uuid4

import httpx
import pytest
from fastapi import Request
from pymongo.errors import ServerSelectionTimeoutError

from apps.access.authentication import (
    FAILURES_PER_MINUTE,
    GUESSES_AT_ONCE,
    REMEMBERED_SECONDS,
    Authentication,
)
from apps.access.domain import digest_of, is_digest_of, new_key, prefix_of
from apps.access.mongo import ApiKey, AuditEntry, MongoKeys
from apps.access.rate_limit import RateLimit
from apps.ingress.api import api
from apps.kit.access import Caller, Scope
from apps.kit.clock import utc_now
from apps.kit.mongo import Database
from apps.kit.problems import ProblemError
from apps.orders.api import order_book

OPEN = {("GET", "/health/live"), ("GET", "/health/ready"), ("GET", "/metrics"), ("GET", "/openapi.json")}
"""What anybody may call; the pages at /docs are served in development only."""


@dataclass
class Clock:
    """Moves only when it is told to."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class KeysInMemory:
    """Keys, and how often one was looked up, and how many at once."""

    keys: dict[str, ApiKey] = field(default_factory=dict)
    looked_up: int = 0
    busy: int = 0
    busiest: int = 0
    used: list[str] = field(default_factory=list)

    def add(self, *scopes: Scope, **changes: Any) -> str:
        key = new_key()
        prefix = prefix_of(key) or ""
        known = {"id": prefix, "name": "test", "digest": digest_of(key), "created_at": utc_now()}
        self.keys[prefix] = ApiKey(**(known | {"scopes": list(scopes)} | changes))
        return key

    async def find(self, prefix: str) -> ApiKey | None:
        self.looked_up += 1
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        await asyncio.sleep(0)  # gives way, as a store would
        self.busy -= 1
        return self.keys.get(prefix)

    async def mark_used(self, prefix: str, _at: datetime) -> None:
        self.used.append(prefix)


@pytest.fixture
def keys() -> KeysInMemory:
    return KeysInMemory()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def request_with(key: str | None, address: str = "192.0.2.1") -> Request:
    headers = [] if key is None else [(b"authorization", f"Bearer {key}".encode())]
    return Request({"type": "http", "headers": headers, "client": (address, 1), "state": {}})


async def refusal(authenticate: Authentication, key: str | None, address: str = "192.0.2.1") -> ProblemError:
    with pytest.raises(ProblemError) as caught:
        await authenticate(request_with(key, address))
    return caught.value


def test_keys_are_told_apart_and_not_to_be_guessed() -> None:
    """Each key is new, has 256 secret bits, and its digest is nobody else's."""
    key, other = new_key(), new_key()
    assert key != other
    assert re.fullmatch(r"of_[a-z2-7]{8}_[A-Za-z0-9_-]{43}", key)
    assert is_digest_of(digest_of(key), key)
    assert not is_digest_of(digest_of(key), other)
    assert key not in digest_of(key)


@pytest.mark.parametrize(
    "text", ["", "of_", "of_abcdefgh_", "of_ABCDEFGH_" + "x" * 43, "x" * 60, "of_" + "ä" * 60]
)
def test_what_is_no_key_has_no_prefix(text: str) -> None:
    """Whatever else comes as a key is not looked up."""
    assert prefix_of(text) is None


async def test_caller_is_who_has_the_key(keys: KeysInMemory) -> None:
    """A key carries its scopes and its client."""
    key = keys.add(Scope.ORDERS_READ, client="acme")
    caller = await Authentication(keys)(request_with(key))
    assert caller == Caller(prefix_of(key) or "", frozenset({Scope.ORDERS_READ}), "acme")


async def test_refused_keys(keys: KeysInMemory) -> None:
    """No key, a made-up one, a right prefix with a wrong secret, an expired and a revoked one: all 401."""
    key = keys.add(Scope.ORDERS_READ)
    yesterday = utc_now() - timedelta(days=1)
    forged = key[:-1] + ("A" if key[-1] != "A" else "B")
    refused = (new_key(), forged, "x", keys.add(expires_at=yesterday), keys.add(revoked_at=yesterday))
    authenticate = Authentication(keys)
    for wrong in refused:
        problem = await refusal(authenticate, wrong)
        assert problem.status_code == 401
        assert problem.headers == {"WWW-Authenticate": 'Bearer error="invalid_token"'}
        assert wrong not in problem.detail or wrong == "x"
    assert (await refusal(authenticate, None)).headers == {"WWW-Authenticate": "Bearer"}
    assert (await authenticate(request_with(key))).id == prefix_of(key)


async def test_a_key_is_looked_up_once_in_a_while(keys: KeysInMemory, clock: Clock) -> None:
    """What the store said is believed for five seconds, so a revoked key is refused from then on."""
    key = keys.add(Scope.ORDERS_WRITE)
    authenticate = Authentication(keys, clock=clock)
    for _ in range(10):
        await authenticate(request_with(key))
    assert keys.looked_up == 1
    keys.keys[prefix_of(key) or ""].revoked_at = None
    keys.keys[prefix_of(key) or ""] = keys.keys[prefix_of(key) or ""].model_copy(
        update={"revoked_at": utc_now()}
    )
    clock.now += REMEMBERED_SECONDS - 0.01
    await authenticate(request_with(key))
    clock.now += 0.01
    assert (await refusal(authenticate, key)).status_code == 401


async def test_use_is_written_down_once_a_minute(keys: KeysInMemory, clock: Clock) -> None:
    """Many requests leave one note, the next minute another."""
    key = keys.add(Scope.ORDERS_READ)
    authenticate = Authentication(keys, clock=clock)
    for seconds in (0, 30, 59, 60):
        clock.now = 1000.0 + seconds
        await authenticate(request_with(key))
    await asyncio.gather(*authenticate._notes)
    assert keys.used == [prefix_of(key)] * 2


async def test_guessing_is_slowed_down_by_address(keys: KeysInMemory, clock: Clock) -> None:
    """Past the limit an address is told 429, and another address is not."""
    authenticate = Authentication(keys, clock=clock)
    for _ in range(FAILURES_PER_MINUTE):
        assert (await refusal(authenticate, new_key())).status_code == 401
    problem = await refusal(authenticate, new_key())
    assert problem.status_code == 429
    assert int((problem.headers or {})["Retry-After"]) >= 1
    assert (await refusal(authenticate, new_key(), "192.0.2.2")).status_code == 401


async def test_guessing_locks_nobody_out(keys: KeysInMemory, clock: Clock) -> None:
    """A valid key passes behind an address whose guesses are refused, and those take little of the store."""
    in_use, never_seen = keys.add(Scope.ORDERS_READ), keys.add(Scope.ORDERS_READ)
    authenticate = Authentication(keys, clock=clock)
    await authenticate(request_with(in_use))
    for _ in range(FAILURES_PER_MINUTE):
        await refusal(authenticate, new_key())
    keys.busiest = 0
    guesses = [asyncio.create_task(refusal(authenticate, new_key())) for _ in range(50)]
    caller = await authenticate(request_with(never_seen))
    assert {one.status_code for one in await asyncio.gather(*guesses)} == {429}
    assert caller.id == prefix_of(never_seen)
    assert keys.busiest == GUESSES_AT_ONCE
    clock.now += REMEMBERED_SECONDS
    await authenticate(request_with(in_use))


async def test_what_is_no_key_is_not_stored() -> None:
    """A key that was lost on the way would stand in the store without a name."""

    class NoStore:
        def collection(self, _document: type[ApiKey]) -> None:
            return None

    with pytest.raises(ValueError, match="no key"):
        await MongoKeys(cast("Database", NoStore())).put("", name="orderflow up", scopes=[])


async def test_rate_of_a_key(keys: KeysInMemory, clock: Clock) -> None:
    """A minute's requests may come at once; then one each time that a share of the minute has passed."""
    key, other = keys.add(Scope.ORDERS_READ), keys.add(Scope.ORDERS_READ)
    authenticate = Authentication(keys, requests_per_minute=3, clock=clock)
    left = []
    for _ in range(3):
        request = request_with(key)
        await authenticate(request)
        left.append(request.state.answer_headers["RateLimit"])
    assert left == ['"default";r=2;t=20', '"default";r=1;t=40', '"default";r=0;t=60']
    assert request.state.answer_headers["RateLimit-Policy"] == '"default";q=3;w=60'
    problem = await refusal(authenticate, key)
    assert (problem.status_code, problem.headers) == (429, {"Retry-After": "20"})
    await authenticate(request_with(other))
    clock.now += 20
    await authenticate(request_with(key))
    assert (await refusal(authenticate, key)).status_code == 429


def test_who_is_refused_is_let_through_in_the_end(clock: Clock) -> None:
    """Refused requests are not counted: asking again and again does not make it worse."""
    limit = RateLimit(60, clock)
    for _ in range(60):
        assert not limit.take("one").retry_after_seconds
    for _ in range(500):
        assert limit.take("one").retry_after_seconds == 1
    clock.now += 1
    assert not limit.take("one").retry_after_seconds


def test_whole_limit_may_come_at_once(clock: Clock) -> None:
    """The last request of a minute's passes, also where no float is the interval between two."""
    limit = RateLimit(7, clock)
    assert [limit.take("one").remaining for _ in range(7)] == [6, 5, 4, 3, 2, 1, 0]
    assert limit.take("one").retry_after_seconds == 9


def test_rate_limit_forgets_who_is_gone(clock: Clock) -> None:
    """A flood from ever new addresses does not fill the memory."""
    limit = RateLimit(60, clock)
    for number in range(30_000):
        clock.now += 0.01
        limit.take(str(number))
    assert len(limit._empty_at) <= 10_000


class Nobody:
    """Refuses everyone, as without a key."""

    async def __call__(self, _request: Request) -> Caller:
        raise ProblemError(401, "a key is needed", headers={"WWW-Authenticate": "Bearer"})


@dataclass
class AuditInMemory:
    """Remembers entries; may be out of reach."""

    entries: dict[Any, AuditEntry] = field(default_factory=dict)
    answers: dict[str, int] = field(default_factory=dict)
    failure: Exception | None = None

    async def begin(self, entry: AuditEntry) -> None:
        if self.failure is not None:
            raise self.failure
        self.entries[entry.id] = entry

    async def end(self, entry: AuditEntry, status: int) -> None:
        self.answers[self.entries[entry.id].action] = status


@pytest.fixture
def audit() -> AuditInMemory:
    return AuditInMemory()


@pytest.fixture
async def client(audit: AuditInMemory) -> AsyncIterator[httpx.AsyncClient]:
    api.state.authenticate, api.state.audit = Nobody(), audit
    transport = httpx.ASGITransport(api, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://ingress") as client:
        yield client


def scoped(*scopes: Scope) -> Callable[[Request], Any]:
    async def authenticate(_request: Request) -> Caller:
        return Caller("k3y", frozenset(scopes))

    return authenticate


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method.upper(), path, operation)
        for path, item in api.openapi()["paths"].items()
        for method, operation in item.items()
    ]


@pytest.mark.parametrize(
    ("method", "path", "operation"), operations(), ids=lambda one: one if isinstance(one, str) else ""
)
async def test_every_route_wants_a_key(
    client: httpx.AsyncClient, method: str, path: str, operation: dict[str, Any]
) -> None:
    """Without a key every route of the ingress answers 401, but for those that are open on purpose."""
    if (method, path) in OPEN:
        assert "security" not in operation
        return
    answer = await client.request(method, re.sub(r"\{\w+\}", str(uuid4()), path), json={})
    assert answer.status_code == 401, answer.text
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    (scopes,) = [way["key"] for way in operation["security"] if "key" in way]
    assert scopes
    assert set(scopes) <= set(Scope)


async def test_a_missing_scope_is_named(client: httpx.AsyncClient) -> None:
    """A key that may only place orders cannot look at them."""
    api.state.authenticate = scoped(Scope.ORDERS_WRITE)
    answer = await client.get("/v1/orders")
    assert answer.status_code == 403
    assert "orders:read" in answer.json()["detail"]
    assert 'scope="orders:read"' in answer.headers["WWW-Authenticate"]


async def test_management_leaves_a_trace(client: httpx.AsyncClient, audit: AuditInMemory) -> None:
    """Who asked for what and how it was answered is written down; reading and ordering is not."""
    api.state.authenticate = scoped()
    path = f"/v1/dead-letters/{uuid4()}/discard"
    answer = await client.post(path, json={"reason": "secret"}, headers={"X-Request-Id": "request-7"})
    await client.get("/v1/dead-letters")
    await client.post("/v1/orders", json={})
    assert answer.status_code == 403
    assert audit.answers == {f"POST {path}": 403}
    (entry,) = audit.entries.values()
    assert (entry.caller, entry.request_id) == ("k3y", "request-7")
    assert "secret" not in entry.model_dump_json()


async def test_a_failure_is_on_record_too(client: httpx.AsyncClient, audit: AuditInMemory) -> None:
    """Who reads that an action has no status may trust that nobody was answered."""

    async def fault() -> None:
        raise KeyError("a fault")

    api.state.authenticate = scoped(*Scope)
    api.dependency_overrides = {order_book: fault}
    path = f"/v1/orders/{uuid4()}/cancel"
    answer = await client.post(path, json={"reason": "Ordered by mistake."})
    api.dependency_overrides = {}
    assert answer.status_code == 500
    assert audit.answers == {f"POST {path}": 500}


async def test_a_trace_tells_what_the_address_asked_for(
    client: httpx.AsyncClient, audit: AuditInMemory
) -> None:
    """An adjustment in the console has its article in the query, and nowhere else in the address."""
    api.state.authenticate = scoped()
    await client.post(f"/v1/dead-letters/{(letter := uuid4())}/replay?sku=A-1")
    (entry,) = audit.entries.values()
    assert entry.action == f"POST /v1/dead-letters/{letter}/replay?sku=A-1"


async def test_a_trace_is_short(client: httpx.AsyncClient, audit: AuditInMemory) -> None:
    """However long a path a caller makes up, the audit log does not grow with it."""
    api.state.authenticate = scoped()
    await client.post(f"/v1/dead-letters/{'x' * 60_000}/discard", json={"reason": "none"})
    (entry,) = audit.entries.values()
    assert entry.action == f"POST /v1/dead-letters/{'x' * 60_000}"[:200]


async def test_what_cannot_be_written_down_is_not_done(
    client: httpx.AsyncClient, audit: AuditInMemory
) -> None:
    """With the audit log out of reach a management action is refused."""
    api.state.authenticate = scoped(*Scope)
    audit.failure = ServerSelectionTimeoutError()
    answer = await client.post(f"/v1/dead-letters/{uuid4()}/replay")
    assert answer.status_code == 503


@pytest.mark.parametrize("given", [None, "short", "x" * 129, "white space!", "good.id-123"])
async def test_request_id(client: httpx.AsyncClient, given: str | None) -> None:
    """A well-formed id of the client's comes back; else a new one is made."""
    headers = {"X-Request-Id": given} if given else {}
    answer = await client.get("/health/live", headers=headers)
    returned = answer.headers["X-Request-Id"]
    assert returned == given if given == "good.id-123" else re.fullmatch("[0-9a-f]{32}", returned)


async def test_every_answer_gives_a_browser_no_rights(client: httpx.AsyncClient) -> None:
    """JSON, problems and failures alike; a failure tells nothing of the code."""
    api.state.authenticate = broken
    answers = {path: await client.get(path) for path in ("/health/live", "/nowhere", "/v1/orders")}
    assert [one.status_code for one in answers.values()] == [200, 404, 500]
    for answer in answers.values():
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Request-Id"]
    assert "KeyError" not in answers["/v1/orders"].text
    assert "Traceback" not in answers["/v1/orders"].text


async def broken(_request: Request) -> Caller:
    raise KeyError("a fault")


async def test_documentation_runs_its_own_script_only(client: httpx.AsyncClient) -> None:
    """The policy of /docs names the inline script by its hash, and allows no other."""
    answer = await client.get("/docs")
    policy = answer.headers["Content-Security-Policy"]
    scripts = policy.partition("script-src ")[2].partition(";")[0]
    assert re.fullmatch(r"'self'( 'sha256-[A-Za-z0-9+/=]{44}')+", scripts)
    assert "unsafe" not in scripts
