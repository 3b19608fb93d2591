"""Who may do what: each route names the scope that it wants, and learns who calls."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from fastapi import Request

from apps.kit.problems import ProblemError


class Scope(StrEnum):
    """What a caller may be allowed to do."""

    ORDERS_READ = "orders:read"
    ORDERS_WRITE = "orders:write"
    STOCK_WRITE = "stock:write"
    WEBHOOKS_MANAGE = "webhooks:manage"
    DEAD_LETTERS_MANAGE = "dead-letters:manage"


@dataclass(frozen=True)
class Caller:
    """Who sent a request."""

    id: str
    """Names the caller in the audit log: a key's prefix, or a token's issuer and subject."""
    scopes: frozenset[Scope]
    client: str | None = None
    """The client that the caller is bound to, and whose orders only it sees; None sees all."""


class Authenticate(Protocol):
    """Tells who sent a request."""

    async def __call__(self, request: Request) -> Caller:
        """The caller.

        Raises:
            ProblemError: 401, the request carries no valid key or token.
        """


def may(scope: Scope) -> Callable[[Request], Awaitable[Caller]]:
    """A dependency that lets through only callers with the scope, and returns who it is."""

    async def check(request: Request) -> Caller:
        authenticate: Authenticate = request.app.state.authenticate
        caller = await authenticate(request)
        if scope not in caller.scopes:
            raise ProblemError(403, f"The caller lacks the scope {scope}")
        return caller

    return check
