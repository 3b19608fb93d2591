"""Who looks at the console: by a key or at the issuer, while either holds, and for 12 hours at most."""

import hmac
from datetime import datetime, timedelta
from secrets import token_hex
from typing import Any
from urllib.parse import unquote, urlsplit

import jwt
from fastapi import Request, Response

from apps.access.authentication import Authentication, caller_with
from apps.access.mongo import ApiKey
from apps.console.paths import is_secure, root_of
from apps.kit.access import Caller
from apps.kit.clock import utc_now
from apps.kit.problems import ProblemError
from apps.kit.secret_keys import derived_key
from apps.kit.settings import get_settings

COOKIE = "orderflow_console"
LIFETIME = timedelta(hours=12)
_ALGORITHM = "HS256"
_CHANGES_NOTHING = frozenset({"GET", "HEAD"})
_OURS = frozenset({"same-origin", "none"})
"""`Sec-Fetch-Site` of what our own pages send, and of what the viewer typed."""


class Sessions:
    """Finds the caller by the session's cookie; the key itself is asked for at each request."""

    def __init__(self, authentication: Authentication) -> None:
        self.authentication = authentication

    async def authenticate(self, request: Request) -> Caller:
        """The caller.

        Raises:
            ProblemError: 401, there is no session, or it has ended.
            PyMongoError: the store of keys is out of reach.
        """
        session = session_of(request)
        if session is None:
            raise ProblemError(401, "Nobody is signed in")
        if "issuer" in session:
            if session["issuer"] != get_settings().oidc_issuer:
                raise ProblemError(401, "The issuer of this session is no longer trusted")
            return Caller(session["sub"], frozenset(session["scopes"]))
        key = await self.authentication.key_of(session["sub"])
        if key is None or not hmac.compare_digest(session["key"], _mark_of(key)):
            raise ProblemError(401, "The key of this session has expired or was revoked")
        return caller_with(key)


def session_of(request: Request) -> dict[str, Any] | None:
    """What the session's cookie says; None if it is not one of ours, or too old."""
    return opened(request.cookies.get(COOKIE, ""), "console sessions")


def begin_session_of_key(request: Request, answer: Response, key: ApiKey) -> None:
    """Have the browser keep which key was given; what it may do is asked of the store each time."""
    _begin(request, answer, {"sub": key.id, "key": _mark_of(key)}, utc_now() + LIFETIME)


def begin_session_at_issuer(request: Request, answer: Response, caller: Caller, ends: datetime) -> None:
    """Have the browser keep what the issuer's token said, until the token ends.

    The token itself is not kept: whoever got hold of a cookie could use it at the API and elsewhere.
    """
    claims = {"sub": caller.id, "scopes": sorted(caller.scopes), "issuer": get_settings().oidc_issuer}
    _begin(request, answer, claims, min(ends, utc_now() + LIFETIME))


def _begin(request: Request, answer: Response, claims: dict[str, Any], ends: datetime) -> None:
    keep(
        request,
        answer,
        COOKIE,
        # The id is new with each sign-in: no form from before it is valid after.
        sealed({**claims, "sid": token_hex(16)}, ends, "console sessions"),
        ends - utc_now(),
    )


def keep(request: Request, answer: Response, name: str, content: str, lifetime: timedelta) -> None:
    """Have the browser keep a cookie for the console alone, where no script can read it."""
    answer.set_cookie(
        name,
        content,
        max_age=int(lifetime.total_seconds()),
        path=root_of(request),
        httponly=True,
        # With `strict`, whoever follows a link from a mail or comes back from the issuer would not be signed
        # in. What changes something is no GET, and carries a token besides.
        samesite="lax",
        secure=is_secure(),
    )


def forget(request: Request, answer: Response, name: str) -> None:
    """Have the browser drop a cookie."""
    answer.delete_cookie(name, root_of(request), secure=is_secure(), httponly=True, samesite="lax")


def sealed(claims: dict[str, Any], ends: datetime, purpose: str) -> str:
    """Claims that only we can make, and that are worthless from some time on."""
    return jwt.encode({**claims, "exp": ends}, derived_key(purpose), _ALGORITHM)


def opened(token: str, purpose: str) -> dict[str, Any] | None:
    """What was sealed for the purpose; None if it was not, or is over."""
    try:
        found: dict[str, Any] = jwt.decode(
            token, derived_key(purpose), [_ALGORITHM], options={"require": ["exp", "sub", "sid"]}
        )
    except jwt.InvalidTokenError:
        return None
    return found


def csrf_token(request: Request) -> str:
    """What every form of this session carries; empty while nobody is signed in."""
    session = session_of(request)
    if session is None:
        return ""
    return hmac.digest(derived_key("console forms"), session["sid"].encode(), "sha256").hex()


async def check_csrf(request: Request) -> None:
    """A dependency that lets a request change something only if one of our own pages has sent it.

    Raises:
        ProblemError: 403, another site's page has.
    """
    if request.method in _CHANGES_NOTHING:
        return
    expected = csrf_token(request)
    if not expected or request.url.path == f"{root_of(request)}/sign-in":
        # Before a session there is nothing that a token could hang on; but every browser of the last years
        # says where a form comes from, and what says nothing is none, and holds nobody's cookies. A sign-in
        # page that was opened before another tab signed in has no token either.
        if not _is_from_us(request):
            raise ProblemError(403, "This form was sent by another site")
        return
    # The form is read once, and kept with the request for whoever asks next: FastAPI or the route.
    given = request.headers.get("X-CSRF-Token") or str((await request.form()).get("csrf", ""))
    if not hmac.compare_digest(given.encode(), expected.encode()):
        raise ProblemError(403, "This form is not of your session: load its page again and repeat it")


def _is_from_us(request: Request) -> bool:
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None:
        return site in _OURS
    hosts = {request.headers.get("Host"), urlsplit(get_settings().public_url).netloc}
    return origin is None or origin.partition("://")[2] in hosts


def safe_next(way: str) -> str:
    """Where to go on within the console, whatever a link says, and never anywhere else."""
    path = unquote(way.partition("?")[0]).replace("\\", "/")
    is_ours = path.startswith("/") and not path.startswith("//") and not {".", ".."} & {*path.split("/")}
    return way if is_ours and way.isprintable() else "/"


def _mark_of(key: ApiKey) -> str:
    """Tells a key from another that was made later under the same prefix."""
    return hmac.digest(derived_key("console keys"), key.digest.encode(), "sha256").hex()
