"""Tokens of one trusted OpenID Connect issuer: signed by its keys, for this API, and not expired."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import jwt
from structlog.stdlib import get_logger

from apps.kit.access import Caller, Scope
from apps.kit.problems import ProblemError

_TIMEOUT_SECONDS = 5.0
_FRESH_SECONDS = 600.0
"""How long keys are used without asking whether the issuer still has them."""
_PAUSE_SECONDS = 10.0
"""The least time between two requests to the issuer, however many tokens name keys that are not known."""
_LEEWAY_SECONDS = 10.0

log = get_logger()


@dataclass(frozen=True)
class Endpoints:
    """Where people sign in at the issuer, and where it gives tokens for the code that they bring back."""

    authorization: str
    token: str
    takes_basic: bool
    """Whether a client says its secret in the header, as is the rule, or else in the form."""


class Issuer:
    """Finds callers by the tokens that the issuer gave them."""

    def __init__(
        self,
        url: str,
        audience: str,
        algorithms: Sequence[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Trust an issuer; it is not asked for its keys before the first token.

        Args:
            url: what its tokens have as `iss`, and where its discovery document is.
            audience: what tokens for this API have as `aud`.
            algorithms: asymmetric ones; what a token says of itself is not trusted.
            clock: monotonic, in seconds.
        """
        self.url = url
        self.audience = audience
        self._algorithms = list(algorithms)
        self._clock = clock
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._endpoints: Endpoints | None = None
        self._asked_at = -_FRESH_SECONDS
        self._is_reached = False
        self._asking = asyncio.Lock()

    async def caller(self, token: str) -> Caller | None:
        """Whom the token was issued to; None if it is not valid.

        Raises:
            ProblemError: 503, the issuer is out of reach and the token's key is not known.
        """
        claims = await self.claims(token)
        return self.caller_with(claims) if claims is not None else None

    async def claims(self, token: str, audience: str | None = None) -> Mapping[str, Any] | None:
        """What a token says; None if it is not valid.

        Args:
            token: of any kind.
            audience: what it must have as `aud`; this API if nothing is said.

        Raises:
            ProblemError: as `caller` does.
        """
        try:
            key = await self._key(jwt.get_unverified_header(token).get("kid"))
            if key is None:
                return None
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=self._algorithms,
                audience=audience or self.audience,
                issuer=self.url,
                leeway=_LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.InvalidTokenError:
            return None
        return claims

    def caller_with(self, claims: Mapping[str, Any]) -> Caller:
        """Whom a valid token for this API was issued to."""
        granted = str(claims.get("scope", "")).split()
        return Caller(f"{self.url} {claims['sub']}", frozenset(one for one in Scope if one in granted))

    async def endpoints(self) -> Endpoints:
        """Where people sign in.

        Raises:
            ProblemError: 503, the issuer is out of reach, or tells of no such place.
        """
        await self._renew(lambda: self._endpoints is not None)
        if self._endpoints is None:
            raise _out_of_reach()
        return self._endpoints

    async def _key(self, key_id: str | None) -> jwt.PyJWK | None:
        await self._renew(lambda: key_id in self._keys)
        key = self._keys.get(key_id)
        if key is None and not self._is_reached:
            raise _out_of_reach()
        return key

    async def _renew(self, is_known: Callable[[], bool]) -> None:
        """Ask the issuer, if what it has told is old or not enough."""
        if is_known() and self._clock() - self._asked_at <= _FRESH_SECONDS:
            return
        async with self._asking:
            # Again: others may have asked while this one waited.
            age = self._clock() - self._asked_at
            if age > _FRESH_SECONDS or (not is_known() and age > _PAUSE_SECONDS):
                await self._ask()

    async def _ask(self) -> None:
        """Fetch the keys; those that are known stay if the issuer does not answer."""
        self._asked_at = self._clock()
        try:
            async with httpx.AsyncClient(timeout=_TIMEOUT_SECONDS) as http:
                about = await _json(http, f"{self.url.rstrip('/')}/.well-known/openid-configuration")
                if about["issuer"] != self.url:
                    raise ValueError("the discovery document is another issuer's")  # noqa: TRY301
                found = await _json(http, about["jwks_uri"])
            self._keys = {key.key_id: key for key in jwt.PyJWKSet.from_dict(found).keys}
            self._endpoints = _endpoints(about)
            self._is_reached = True
        except (
            httpx.HTTPError,
            httpx.InvalidURL,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,  # of JSON that is no object where one belongs
            jwt.PyJWTError,
        ) as error:
            self._is_reached = False
            log.warning("the issuer of tokens told no keys", error=str(error) or type(error).__name__)


def _endpoints(about: Mapping[str, Any]) -> Endpoints | None:
    places = about.get("authorization_endpoint"), about.get("token_endpoint")
    if not all(isinstance(place, str) for place in places):
        return None  # it gives tokens to programs only
    ways = about.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
    return Endpoints(str(places[0]), str(places[1]), "client_secret_basic" in ways)


def _out_of_reach() -> ProblemError:
    return ProblemError(503, "The issuer of tokens is out of reach; try again")


async def _json(http: httpx.AsyncClient, url: str) -> Any:
    return (await http.get(url)).raise_for_status().json()
