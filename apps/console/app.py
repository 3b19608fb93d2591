"""The console at `/console`: every order on its way, and the repair of what failed, in the browser."""

from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from pymongo.errors import PyMongoError
from starlette.datastructures import URL
from starlette.exceptions import HTTPException
from structlog.stdlib import get_logger

from apps.access.audit import audited
from apps.console import (
    assets,
    audit,
    bulk_repairs,
    dead_letters,
    flow,
    live,
    oidc,
    orders,
    repairs,
    sign_in,
    stock,
    webhooks,
)
from apps.console.pages import LANGUAGE_COOKIE, gettext, page, root_of
from apps.console.session import check_csrf, keep, safe_next
from apps.kit.errors import DependencyUnavailable
from apps.kit.validation import field_problems
from apps.kit.wording import Language

_UNAUTHORIZED = 401
_SHOWN_BY = frozenset({"GET", "HEAD"})
_OPEN = frozenset({f"/console{path}" for path in ("/sign-in", "/sign-out")})
"""What is written down by the session itself: nobody is signed in before or after."""

log = get_logger()

console = FastAPI(
    openapi_url=None,
    dependencies=[Depends(check_csrf), Depends(audited(but_for=_OPEN))],
    telemetry={"tracing": False, "metrics": False, "logs": False},
)
for part in (
    assets,
    sign_in,
    oidc,
    flow,
    orders,
    dead_letters,
    repairs,
    bulk_repairs,
    audit,
    webhooks,
    stock,
    live,
):
    console.include_router(part.router)


@console.get("/language")
async def choose_language(request: Request, to: Language, back: str = "/") -> Response:
    """Show every page in this language from now on."""
    answer = RedirectResponse(root_of(request) + safe_next(back), 303)
    keep(request, answer, LANGUAGE_COOKIE, to, timedelta(days=365))
    return answer


def _message(request: Request, status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    """What is wrong, as a page, or as the part of one that htmx asked for."""
    template = "notice.html" if request.headers.get("HX-Request") else "message.html"
    # Of the API's own words most have no translation, and stay as they are.
    answer = page(request, template, status, code=status, detail=gettext(request)(detail))
    answer.headers.update(headers or {})
    return answer


Handler = Callable[[Request, Any], Coroutine[Any, Any, Response]]


def _handled(error: type[Exception] | int) -> Callable[[Handler], Handler]:
    return console.exception_handler(error)


@_handled(HTTPException)
async def refused(request: Request, error: HTTPException) -> Response:
    """Who is not signed in goes on once they are; everybody else is told what is wrong."""
    if error.status_code == _UNAUTHORIZED:
        target = f"{root_of(request)}/sign-in?" + urlencode({"next": _shown(request)})
        if request.headers.get("HX-Request"):
            return Response(status_code=_UNAUTHORIZED, headers={"HX-Redirect": target})
        return RedirectResponse(target, 303)
    return _message(request, error.status_code, error.detail, dict(error.headers or {}))


def _shown(request: Request) -> str:
    """The page that the viewer sees, which is not what a form or htmx asks for."""
    if shown := request.headers.get("HX-Current-URL"):
        address = URL(shown)
    elif request.method in _SHOWN_BY:
        address = request.url
    else:
        return "/"
    query = f"?{address.query}" if address.query else ""
    return safe_next(address.path.removeprefix(root_of(request)) + query)


@_handled(RequestValidationError)
async def not_valid(request: Request, error: RequestValidationError) -> Response:
    problems = [f"{path.partition('.')[2] or path}: {text}" for path, text in field_problems(error.errors())]
    return _message(request, 422, "; ".join(problems))


@_handled(PyMongoError)
async def store_unavailable(request: Request, error: PyMongoError) -> Response:
    log.warning("MongoDB did not serve a page", error=type(error).__name__)
    return _message(request, 503, gettext(request)("MongoDB is out of reach; try again."))


@_handled(DependencyUnavailable)
async def unavailable(request: Request, error: DependencyUnavailable) -> Response:
    return _message(request, 503, str(error))


@_handled(Exception)
async def unexpected(request: Request, error: Exception) -> Response:
    log.error("page failed", method=request.method, path=request.url.path, exc_info=error)
    return _message(request, 500, gettext(request)("The server failed; whether it took effect is not known."))
