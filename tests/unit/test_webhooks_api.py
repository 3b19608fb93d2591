"""Who may manage webhooks, and what is refused before anything is stored."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from apps.kit.access import Caller, Scope
from apps.kit.problems import install_problem_handlers
from apps.webhooks.api import router

ALL_SCOPES = frozenset(Scope)


class NoEndpoints:
    """A store without any endpoint."""

    async def list(self) -> list[Any]:
        return []


async def answer(caller: Caller, method: str, path: str, body: Any = None) -> httpx.Response:
    """What the webhook routes answer to a caller."""
    api = FastAPI()
    install_problem_handlers(api)
    api.include_router(router)
    api.state.webhook_endpoints = NoEndpoints()

    async def authenticate(_request: Request) -> Caller:
        return caller

    api.state.authenticate = authenticate
    transport = httpx.ASGITransport(api)
    async with httpx.AsyncClient(transport=transport, base_url="http://ingress") as client:
        return await client.request(method, path, json=body)


async def test_scope_is_needed_and_enough() -> None:
    """A key without `webhooks:manage` is refused, one with nothing else is not."""
    lacking = Caller("key-1", ALL_SCOPES - {Scope.WEBHOOKS_MANAGE})
    assert (await answer(lacking, "GET", "/v1/webhook-endpoints")).status_code == 403
    having = Caller("key-2", frozenset({Scope.WEBHOOKS_MANAGE}))
    assert (await answer(having, "GET", "/v1/webhook-endpoints")).json() == {"endpoints": []}


async def test_caller_of_one_client_cannot_listen_to_all() -> None:
    """An endpoint receives every customer's events, so whoever sees one client's orders may have none."""
    refused = await answer(Caller("key-3", ALL_SCOPES, client="acme"), "GET", "/v1/webhook-endpoints")
    assert refused.status_code == 403
    assert "bound to one client" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"url": None}, "url"),
        ({"url": ""}, "url"),
        ({"url": "https://10.0.0.1/"}, "url"),
        ({"event_types": ["order.created"]}, "event_types"),
        ({"enabled": "perhaps"}, "enabled"),
        ({"secret": "whsec_mine"}, "secret"),
    ],
)
async def test_bad_change_is_refused_by_field(changes: dict[str, Any], field: str) -> None:
    """A change is held to the same rules as a new endpoint."""
    path = "/v1/webhook-endpoints/3f0c9d52-3f0e-4e9b-9a55-8a2c3d4e5f60"
    refused = await answer(Caller("key-4", ALL_SCOPES), "PATCH", path, changes)
    assert refused.status_code == 422
    assert [error["field"] for error in refused.json()["errors"]] == [field]
