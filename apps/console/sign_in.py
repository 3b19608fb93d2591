"""Signing in by a key, and out again."""

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from apps.access.audit import begin
from apps.access.authentication import Authentication
from apps.access.domain import prefix_of
from apps.console.pages import first_page, gettext, page
from apps.console.paths import root_of
from apps.console.session import COOKIE, begin_session_of_key, forget, safe_next
from apps.kit.access import Caller, caller_of
from apps.kit.problems import ProblemError

_UNAUTHORIZED = 401

router = APIRouter()


@router.get("/sign-in")
async def show_sign_in(request: Request, next: str = "/") -> Response:  # noqa: A002  # the name that all use
    return _page(request, 200, None, next)


@router.post("/sign-in")
async def sign_in(
    request: Request,
    key: Annotated[str, Form()] = "",
    next: Annotated[str, Form()] = "/",  # noqa: A002  # as above
) -> Response:
    """Begin a session with the rights of a key."""
    authentication: Authentication = request.app.state.sessions.authentication
    key = key.strip()
    if prefix_of(key) is None:
        text = gettext(request)("This is no API key: those begin with of_ and have 55 characters.")
        return refusal(request, 401, text, next)
    try:
        caller = await authentication.of_credentials(key, request, "key")
        found = await authentication.key_of(caller.id)
    except ProblemError as error:
        if error.status_code == _UNAUTHORIZED:
            return _unknown(request, next)
        text = gettext(request)("Too many attempts. Try again in a minute.")
        answer = refusal(request, error.status_code, text, next)
        answer.headers.update(error.headers or {})
        return answer
    if found is None:
        return _unknown(request, next)
    await write_down(request, caller)
    answer = RedirectResponse(root_of(request) + way_on(caller, next), 303)
    begin_session_of_key(request, answer, found)
    return answer


@router.post("/sign-out")
async def sign_out(request: Request) -> Response:
    """End the session in this browser, also one whose key is no longer valid."""
    try:
        await write_down(request, await caller_of(request))
    except ProblemError as error:
        if error.status_code != _UNAUTHORIZED:
            raise
    answer = RedirectResponse(root_of(request) + "/sign-in", 303)
    forget(request, answer, COOKIE)
    return answer


def refusal(request: Request, status: int, text: str, way: str) -> Response:
    """The page for another try, which says why this one failed."""
    return _page(request, status, gettext(request)(text), way)


def way_on(caller: Caller, way: str) -> str:
    """Where whoever has signed in goes on."""
    way = safe_next(way)
    return first_page(caller) if way.partition("?")[0] in ("/", "/sign-in", "/sign-out") else way


async def write_down(request: Request, caller: Caller) -> None:
    """Put a sign-in or sign-out into the audit log, without the query: an issuer puts a code there."""
    await begin(request, caller, f"{request.method} {request.url.path}")


def _unknown(request: Request, way: str) -> Response:
    text = gettext(request)("This key is not known, has expired or was revoked.")
    return refusal(request, _UNAUTHORIZED, text, way)


def _page(request: Request, status: int, error: str | None, way: str) -> Response:
    gate = request.app.state.sign_in
    issuer = None if gate is None else gate.name
    return page(request, "session/sign_in.html", status, next=safe_next(way), error=error, issuer=issuer)
