"""Who may do what: each route names the scope that it wants, and learns who calls."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Protocol

from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from apps.kit.problems import ProblemError
from apps.kit.scopes import Scope

__all__ = ["Authenticate", "Caller", "Scope", "caller_of", "may"]


@dataclass(frozen=True)
class Caller:
    """Who sent a request."""

    id: str
    """Names the caller in the audit log: a key's prefix, or a token's issuer and subject."""
    scopes: frozenset[Scope]
    client: str | None = None
    """The client that the caller is bound to, and whose orders only it sees; None sees all."""

    def sees(self, client: str | None) -> bool:
        """Whether it may see an order of this client."""
        return self.client in (None, client)


class Authenticate(Protocol):
    """Tells who sent a request."""

    async def __call__(self, request: Request) -> Caller:
        """The caller.

        Raises:
            ProblemError: 401, the request carries no valid key or token; 429, there are too many requests.
        """


_BEARER = HTTPBearer(
    auto_error=False,  # `caller_of` answers with a problem
    scheme_name="key",
    description="A key made by `orderflow keys create`, or a token of the trusted issuer.",
)


async def caller_of(request: Request) -> Caller:
    """Who sent the request; asked once, however many ask.

    Raises:
        ProblemError: as `Authenticate` does.
    """
    caller: Caller | None = getattr(request.state, "caller", None)
    if caller is None:
        authenticate: Authenticate = request.app.state.authenticate
        caller = request.state.caller = await authenticate(request)
    return caller


def may(scope: Scope) -> Callable[[Request], Awaitable[Caller]]:
    """A dependency that lets through only callers with the scope, and returns who it is."""

    async def check(
        request: Request,
        _in_openapi: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER, scopes=[scope])] = None,
    ) -> Caller:
        caller = await caller_of(request)
        if scope not in caller.scopes:
            raise ProblemError(
                403,
                f"The caller lacks the scope {scope}",
                headers={"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'},
            )
        return caller

    return check
