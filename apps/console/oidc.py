"""Signing in at the issuer, begun and ended in the same browser."""

import hmac
from datetime import datetime, timedelta
from secrets import token_hex
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, Field

from apps.console.issuer import Attempt, SignInAtIssuer
from apps.console.pages import gettext
from apps.console.paths import root_of
from apps.console.session import begin_session_at_issuer, forget, keep, opened, safe_next, sealed
from apps.console.sign_in import refusal, way_on, write_down
from apps.kit.access import Caller
from apps.kit.clock import utc_now
from apps.kit.problems import ProblemError
from apps.kit.settings import get_settings

COOKIE = "orderflow_sign_in"
PATIENCE = timedelta(minutes=10)
_PURPOSE = "console sign-in"
_CHARACTERS_SHOWN = 200
"""Of what an issuer says went wrong."""

router = APIRouter()


class Answer(BaseModel):
    """What the issuer has the browser bring back."""

    state: str = ""
    code: str = ""
    error: str = ""
    error_description: str = ""
    issuer: str = Field(default="", alias="iss")


@router.get("/oidc")
async def begin(request: Request, next: str = "/") -> Response:  # noqa: A002  # the name that all use
    """Send the viewer to the issuer.

    No form does: the policy of the page would not let it lead to another site.
    """
    attempt = Attempt(token_hex(16), safe_next(next))
    address = await _gate_of(request).address(attempt, _back())
    answer = RedirectResponse(address, 303, {"Cache-Control": "no-store"})
    claims = {"sid": attempt.id, "sub": attempt.next}
    keep(request, answer, COOKIE, sealed(claims, utc_now() + PATIENCE, _PURPOSE), PATIENCE)
    return answer


@router.get("/oidc/return")
async def come_back(request: Request, given: Annotated[Answer, Query()]) -> Response:
    """Begin a session with the rights that the issuer's token grants."""
    found = opened(request.cookies.get(COOKIE, ""), _PURPOSE)
    attempt = Attempt(found["sid"], safe_next(found["sub"])) if found else None
    if attempt is None or not hmac.compare_digest(given.state.encode(), attempt.state.encode()):
        # What else the address says may be anybody's, and is not shown; nor does it end an attempt.
        text = gettext(request)("This sign-in was not begun in this browser, or took longer than 10 minutes.")
        return refusal(request, 403, text, "/")
    try:
        caller, ends = await _signed_in(request, attempt, given)
    except ProblemError as problem:
        answer = refusal(request, problem.status_code, problem.detail, attempt.next)
    else:
        await write_down(request, caller)
        answer = RedirectResponse(root_of(request) + way_on(caller, attempt.next), 303)
        begin_session_at_issuer(request, answer, caller, ends)
    forget(request, answer, COOKIE)
    return answer


async def _signed_in(request: Request, attempt: Attempt, given: Answer) -> tuple[Caller, datetime]:
    gate, _ = _gate_of(request), gettext(request)
    if not gate.is_named(given.issuer):
        raise ProblemError(403, _("Another issuer has answered."))
    if given.error or not given.code:
        told = given.error_description or given.error or "no code"
        raise ProblemError(403, f"{gate.name}: {told}"[:_CHARACTERS_SHOWN])
    if gate.attempts.take(request.client.host if request.client else "unknown").retry_after_seconds:
        raise ProblemError(429, _("Too many attempts. Try again in a minute."))
    known = await gate.redeem(attempt, given.code, _back())
    if known is None:
        raise ProblemError(403, _("The issuer's answer is not valid. Try again."))
    if not known[0].scopes:
        raise ProblemError(403, _("The issuer knows you, but its token grants you no rights here."))
    return known


def _gate_of(request: Request) -> SignInAtIssuer:
    gate: SignInAtIssuer | None = request.app.state.sign_in
    if gate is None:
        raise ProblemError(404, "oidc: no issuer knows this console")
    return gate


def _back() -> str:
    """Where the issuer sends viewers back to, as it is registered there."""
    return f"{get_settings().public_url.rstrip('/')}/console/oidc/return"
