"""Tokens of a real issuer on this machine, over HTTP: what is taken, and every known way to cheat."""

import asyncio
import hashlib
import hmac
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from apps.access.oidc import Issuer
from apps.kit.access import Caller, Scope
from apps.kit.problems import ProblemError

pytestmark = pytest.mark.connected

AUDIENCE = "https://orders.shop.example"


@dataclass
class Provider:
    """An OpenID Connect provider, as far as an API sees it."""

    url: str = ""
    keys: dict[str, RSAPrivateKey] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    is_down: bool = False
    claimed_url: str | None = None
    told_instead: Any = None
    """Answered where the keys belong."""

    def add_key(self, key_id: str) -> None:
        self.keys[key_id] = generate_private_key(65537, 2048)

    def answer(self, path: str) -> Any:
        self.asked.append(path)
        if path == "/.well-known/openid-configuration":
            return self.about()
        if self.told_instead is not None:
            return self.told_instead
        return {
            "keys": [
                jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
                | {"kid": key_id, "alg": "RS256", "use": "sig"}
                for key_id, key in self.keys.items()
            ]
        }

    def about(self) -> dict[str, Any]:
        """The discovery document."""
        return {"issuer": self.claimed_url or self.url, "jwks_uri": f"{self.url}/keys"}

    def tokens_for(self, form: dict[str, str], authorization: str | None) -> tuple[int, Any]:
        """What whoever brings a code is answered: here people cannot sign in, only programs."""
        raise NotImplementedError

    def token(self, key_id: str = "first", **changes: Any) -> str:
        claims = self.claims(**changes)
        return jwt.encode(claims, self.keys[key_id], "RS256", headers={"kid": key_id})

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Those of a good token; None takes one out."""
        good = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "checkout",
            "exp": time.time() + 300,
            "scope": "openid orders:read orders:write admin",
        }
        return {name: value for name, value in (good | changes).items() if value is not None}


@contextmanager
def serving(provider: Provider) -> Iterator[None]:
    """The provider, reached over HTTP."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the library's name
            self.reply(500 if provider.is_down else 200, provider.answer(self.path))

        def do_POST(self) -> None:  # the library's name
            form = dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
            self.reply(*provider.tokens_for(form, self.headers["Authorization"]))

        def reply(self, status: int, content: Any) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        provider.url = f"http://127.0.0.1:{server.server_port}"
        provider.add_key("first")
        Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


@pytest.fixture
def provider() -> Iterator[Provider]:
    provider = Provider()
    with serving(provider):
        yield provider


class Clock:
    """Moves only when it is told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def issuer(provider: Provider, clock: Clock) -> Issuer:
    return Issuer(provider.url, AUDIENCE, ["RS256"], clock)


async def test_token_names_its_caller(provider: Provider, issuer: Issuer) -> None:
    """The scopes that we know are granted, others are not ours."""
    caller = await issuer.caller(provider.token())
    granted = frozenset({Scope.ORDERS_READ, Scope.ORDERS_WRITE})
    assert caller == Caller(f"{provider.url} checkout", granted)


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "https://another.example"},
        {"aud": None},
        {"iss": "https://another.example"},
        {"iss": None},
        {"exp": time.time() - 60},
        {"exp": None},
        {"nbf": time.time() + 86_400},
        {"sub": None},
    ],
    ids=["other aud", "no aud", "other iss", "no iss", "expired", "no exp", "not yet valid", "no sub"],
)
async def test_token_of_wrong_claims(provider: Provider, issuer: Issuer, changes: dict[str, Any]) -> None:
    """For another API, of another issuer, expired, not valid yet, or without any of these: refused."""
    assert await issuer.caller(provider.token()) is not None
    assert await issuer.caller(provider.token(**changes)) is None


async def test_token_without_scopes_may_do_nothing(provider: Provider, issuer: Issuer) -> None:
    """Who is known is not yet allowed anything."""
    caller = await issuer.caller(provider.token(scope=None))
    assert caller is not None
    assert caller.scopes == frozenset()


def encoded(part: dict[str, Any]) -> str:
    return urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


async def test_unsigned_token(provider: Provider, issuer: Issuer) -> None:
    """`alg: none`, in any spelling, is refused."""
    for name in ("none", "None", "NONE"):
        token = f"{encoded({'alg': name, 'kid': 'first'})}.{encoded(provider.claims())}."
        assert await issuer.caller(token) is None


async def test_public_key_as_shared_secret(provider: Provider, issuer: Issuer) -> None:
    """A token signed by HMAC with the public key, which everybody has, is refused."""
    public = provider.keys["first"].public_key()
    secret = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signed = f"{encoded({'alg': 'HS256', 'kid': 'first'})}.{encoded(provider.claims())}"
    digest = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
    signature = urlsafe_b64encode(digest).decode().rstrip("=")
    assert await issuer.caller(f"{signed}.{signature}") is None


async def test_forged_tokens(provider: Provider, issuer: Issuer) -> None:
    """Another's signature, another algorithm of the same key, a key of the token's own, changed claims."""
    stranger = generate_private_key(65537, 2048)
    theirs = jwt.algorithms.RSAAlgorithm.to_jwk(stranger.public_key(), as_dict=True)
    good = provider.token()
    header, _, signature = good.split(".")
    forged = (
        jwt.encode(provider.claims(), stranger, "RS256", headers={"kid": "first"}),
        jwt.encode(provider.claims(), stranger, "RS256", headers={"kid": "first", "jwk": theirs}),
        jwt.encode(provider.claims(), provider.keys["first"], "RS512", headers={"kid": "first"}),
        jwt.encode(provider.claims(), provider.keys["first"], "RS256"),
        f"{header}.{encoded(provider.claims(sub='root'))}.{signature}",
        good[:-4],
        "a.b.c",
        "",
    )
    for token in forged:
        assert await issuer.caller(token) is None, token


async def test_keys_are_fetched_once(provider: Provider, issuer: Issuer) -> None:
    """Many tokens at once ask the issuer one time; unknown keys do not make it be asked again at once."""
    await asyncio.gather(*(issuer.caller(provider.token()) for _ in range(20)))
    provider.add_key("unknown")
    await asyncio.gather(*(issuer.caller(provider.token("unknown")) for _ in range(20)))
    assert provider.asked == ["/.well-known/openid-configuration", "/keys"]


async def test_rotation(provider: Provider, issuer: Issuer, clock: Clock) -> None:
    """A new key is taken soon, an old one no longer once the issuer has taken it back for a while."""
    old = provider.token()
    assert await issuer.caller(old)
    provider.add_key("second")
    clock.now += 11
    assert await issuer.caller(provider.token("second"))
    del provider.keys["first"]
    assert await issuer.caller(old)
    clock.now += 601
    assert await issuer.caller(old) is None
    assert await issuer.caller(provider.token("second"))


async def test_issuer_out_of_reach(provider: Provider, issuer: Issuer, clock: Clock) -> None:
    """Before its keys are known nobody can tell: 503; what is known goes on."""
    provider.is_down = True
    with pytest.raises(ProblemError) as caught:
        await issuer.caller(provider.token())
    assert caught.value.status_code == 503
    provider.is_down = False
    clock.now += 11
    assert await issuer.caller(provider.token())
    provider.is_down = True
    clock.now += 601
    assert await issuer.caller(provider.token())


@pytest.mark.parametrize("told", [[{}], {"keys": [1]}, {"keys": {}}, "keys", 1], ids=json.dumps)
async def test_keys_of_no_known_form(provider: Provider, issuer: Issuer, clock: Clock, told: Any) -> None:
    """Whatever the issuer tells in their place is as if it had not answered."""
    provider.told_instead = told
    with pytest.raises(ProblemError) as caught:
        await issuer.caller(provider.token())
    assert caught.value.status_code == 503
    provider.told_instead = None
    clock.now += 11
    assert await issuer.caller(provider.token())


async def test_document_of_another_issuer(provider: Provider, issuer: Issuer) -> None:
    """A discovery document that speaks for another issuer is not believed."""
    provider.claimed_url = "https://another.example"
    with pytest.raises(ProblemError):
        await issuer.caller(provider.token())
