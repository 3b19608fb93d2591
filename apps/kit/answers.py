"""Every answer names its request and gives a browser no rights; pages may run the scripts that they bring."""

import re
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import Any
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,128}")
_INLINE_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
_NOTHING = "default-src 'none'; frame-ancestors 'none'"
_PAGE = (
    f"{_NOTHING}; base-uri 'none'; form-action 'none'; connect-src 'self'; "
    "img-src 'self' data:; style-src 'self' 'unsafe-inline'; script-src 'self'"
)


def answer_headers(state: Mapping[str, Any]) -> dict[str, str]:
    """What every answer carries; what the request's own handling has added is in `answer_headers`."""
    return {
        "X-Request-Id": state.get("request_id", "unknown"),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Content-Security-Policy": _NOTHING,
        **state.get("answer_headers", {}),
    }


class AnswerHeaders:
    """Adds the headers, and the request's id to all that is logged meanwhile."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("X-Request-Id", "")
        state = scope.setdefault("state", {})
        state["request_id"] = given if _REQUEST_ID.fullmatch(given) else uuid4().hex
        page: Message | None = None

        async def completed(message: Message) -> None:
            nonlocal page
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                has_own_policy = "Content-Security-Policy" in headers
                for name, value in answer_headers(state).items():
                    headers.setdefault(name, value)
                if not has_own_policy and headers.get("Content-Type", "").startswith("text/html"):
                    page = message  # its policy depends on the body
                    return
            elif page is not None:
                MutableHeaders(scope=page)["Content-Security-Policy"] = _policy_of(message.get("body", b""))
                await send(page)
                page = None
            await send(message)

        with bound_contextvars(request_id=state["request_id"]):
            await self.app(scope, receive, completed)


def _policy_of(page: bytes) -> str:
    """Lets the page run its own inline scripts, and none that got into it."""
    digests = (b64encode(sha256(script).digest()).decode() for script in _INLINE_SCRIPT.findall(page))
    return " ".join([_PAGE, *(f"'sha256-{digest}'" for digest in digests)])
