"""The console as a client of the issuer: authorization code with PKCE, and what its answers must hold."""

import hmac
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Self
from urllib.parse import quote, urlencode, urlsplit

import httpx
from structlog.stdlib import get_logger

from apps.access.authentication import FAILURES_PER_MINUTE
from apps.access.oidc import Endpoints, Issuer
from apps.access.rate_limit import RateLimit
from apps.kit.access import Caller, Scope
from apps.kit.problems import ProblemError
from apps.kit.secret_keys import derived_key
from apps.kit.settings import Settings

_TIMEOUT_SECONDS = 5.0
_CHARACTERS_LOGGED = 200

log = get_logger()


@dataclass(frozen=True)
class Attempt:
    """One sign-in under way; its secrets follow from its id and our key, so that no cookie shows them."""

    id: str
    next: str

    @property
    def state(self) -> str:
        """Comes back with the code: a code that another browser got has another."""
        return self._derived("state")

    @property
    def nonce(self) -> str:
        """Comes back in the ID token: a token of another sign-in has another."""
        return self._derived("nonce")

    @property
    def verifier(self) -> str:
        """Who does not know it can do nothing with the code."""
        return self._derived("verifier")

    @property
    def challenge(self) -> str:
        return _url_safe(sha256(self.verifier.encode()).digest())

    def _derived(self, purpose: str) -> str:
        return _url_safe(hmac.digest(derived_key(f"console sign-in {purpose}"), self.id.encode(), "sha256"))


class SignInAtIssuer:
    """What the console says to the issuer, as a client that is registered there."""

    def __init__(self, issuer: Issuer, client_id: str, client_secret: str | None) -> None:
        """Prepare; the issuer is not asked anything yet.

        Args:
            issuer: of the tokens that the API takes.
            client_id: what the console is to the issuer.
            client_secret: None for a public client.
        """
        self._issuer = issuer
        self._client_id = client_id
        self._client_secret = client_secret
        self.attempts = RateLimit(FAILURES_PER_MINUTE)
        """By address, so that nobody has us ask the issuer for ever."""

    @classmethod
    def registered(cls, issuer: Issuer, settings: Settings) -> Self | None:
        """As the settings say; None if the console is no client of the issuer."""
        if settings.oidc_client_id is None:
            return None
        secret = settings.oidc_client_secret
        return cls(issuer, settings.oidc_client_id, secret.get_secret_value() if secret else None)

    @property
    def name(self) -> str:
        """The issuer's host, which its users know."""
        return urlsplit(self._issuer.url).netloc

    def is_named(self, issuer: str) -> bool:
        """Whether an answer is the issuer's, if it says whose it is (RFC 9207)."""
        return issuer in ("", self._issuer.url)

    async def address(self, attempt: Attempt, back: str) -> str:
        """Where the viewer signs in, for the rights that the API has."""
        place = (await self._issuer.endpoints()).authorization
        asked = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": back,
            "scope": " ".join(("openid", *Scope)),
            "audience": self._issuer.audience,  # some issuers give tokens for an API only to who names it
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": attempt.challenge,
            "code_challenge_method": "S256",
        }
        return f"{place}{'&' if urlsplit(place).query else '?'}{urlencode(asked)}"

    async def redeem(self, attempt: Attempt, code: str, back: str) -> tuple[Caller, datetime] | None:
        """Who has signed in, and until when; None if the issuer's answer does not hold.

        The access token says what the caller may do, as it does at the API; the ID token, that it is the
        answer to this attempt of this client.

        Raises:
            ProblemError: 503, the issuer is out of reach.
        """
        given = await self._tokens(await self._issuer.endpoints(), attempt, code, back)
        if given is None:
            return None
        identity = await self._issuer.claims(str(given.get("id_token")), self._client_id)
        rights = await self._issuer.claims(str(given.get("access_token")))
        if identity is None or rights is None:
            log.warning("the issuer gave a token that is not valid", identity=identity is None)
            return None
        is_ours = identity.get("azp", self._client_id) == self._client_id
        nonce = str(identity.get("nonce"))
        if not is_ours or not hmac.compare_digest(nonce.encode(), attempt.nonce.encode()):
            log.warning("the issuer gave the token of another sign-in")
            return None
        return self._issuer.caller_with(rights), datetime.fromtimestamp(rights["exp"], UTC)

    async def _tokens(
        self, places: Endpoints, attempt: Attempt, code: str, back: str
    ) -> dict[str, Any] | None:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": back,
            "client_id": self._client_id,
            "code_verifier": attempt.verifier,
        }
        auth = None
        if self._client_secret and places.takes_basic:
            # RFC 6749, 2.3.1: each is encoded before they are put together.
            auth = httpx.BasicAuth(quote(self._client_id, safe=""), quote(self._client_secret, safe=""))
        elif self._client_secret:
            form["client_secret"] = self._client_secret
        try:
            async with httpx.AsyncClient(timeout=_TIMEOUT_SECONDS, auth=auth) as http:
                answer = await http.post(places.token, data=form)
            found = answer.json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            log.warning("the issuer gave no token", error=str(error) or type(error).__name__)
            raise ProblemError(503, "The issuer is out of reach; try again") from error
        if answer.is_success and isinstance(found, dict):
            return found
        told = found.get("error") if isinstance(found, dict) else None
        log.warning(
            "the issuer gave no token", status=answer.status_code, error=str(told)[:_CHARACTERS_LOGGED]
        )
        return None


def _url_safe(content: bytes) -> str:
    return urlsafe_b64encode(content).decode().rstrip("=")
