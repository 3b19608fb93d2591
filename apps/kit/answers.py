"""Every answer names its request and gives a browser no rights; pages may run the scripts that they bring."""

import re
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from secrets import token_hex
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,128}")
_INLINE_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
_POLICY = b"content-security-policy"
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


def _missing_in(own: Mapping[bytes, bytes], state: Mapping[str, Any]) -> list[tuple[bytes, bytes]]:
    """Those of the headers that an answer has not set for itself, as ASGI has them."""
    given = (
        (name.lower().encode(), value.encode("latin-1")) for name, value in answer_headers(state).items()
    )
    return [header for header in given if header[0] not in own]


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
        state["request_id"] = given if _REQUEST_ID.fullmatch(given) else token_hex(16)
        page: Message | None = None

        async def completed(message: Message) -> None:
            nonlocal page
            if message["type"] == "http.response.start":
                own = dict(message["headers"])
                message["headers"] = [*message["headers"], *_missing_in(own, state)]
                if _POLICY not in own and own.get(b"content-type", b"").startswith(b"text/html"):
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
