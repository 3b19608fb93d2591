"""Documents over HTTP: who gets one, and what is answered when there is none to give."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID

import httpx
from fastapi import FastAPI

from apps.documents.api import router
from apps.documents.domain import Kind
from apps.documents.mongo import Entry
from apps.kit.access import Caller, Scope
from apps.kit.answers import AnswerHeaders
from apps.kit.errors import DependencyUnavailable
from apps.kit.links import signed_url
from apps.kit.problems import ProblemError, install_problem_handlers

MINE = UUID("7d2c2f3e-6e0a-5c1b-9a43-0f6a2b6a1c55")
OTHERS = UUID("00000000-0000-5000-8000-000000000001")
CONTENT = b"%PDF-"
SHOP = Caller("shop", frozenset({Scope.ORDERS_READ}))
CLIENT = Caller("client", frozenset({Scope.ORDERS_READ}), client="acme")
WAREHOUSE = Caller("warehouse", frozenset({Scope.STOCK_WRITE}))


class Catalogue:
    """Both orders have an invoice, and neither a credit note."""

    async def find(self, order_id: UUID, kind: Kind) -> Entry | None:
        if kind is Kind.CREDIT_NOTE:
            return None
        return Entry(
            id=f"{order_id}/{kind}",
            order_id=order_id,
            kind=kind,
            number="2026-000123",
            path="invoices/2026-000123.pdf",
            issued_at=datetime(2026, 11, 22, tzinfo=UTC),
            sha256="0a1b",
        )


class Store:
    """Has every document, while it is within reach."""

    def __init__(self, *, is_out_of_reach: bool) -> None:
        self.is_out_of_reach = is_out_of_reach

    async def get(self, _path: str) -> tuple[int, AsyncIterator[bytes]]:
        if self.is_out_of_reach:
            raise DependencyUnavailable("The document store is out of reach: GenericError")

        async def pieces() -> AsyncIterator[bytes]:
            yield CONTENT[:2]
            yield CONTENT[2:]

        return len(CONTENT), pieces()


async def get(
    path: str, caller: Caller | None = SHOP, *, is_out_of_reach: bool = False, **headers: str
) -> httpx.Response:
    """What the caller is answered; None has no key."""

    async def authenticate(_request: object) -> Caller:
        if caller is None:
            raise ProblemError(401, "no key")
        return caller

    async def may_see_order(caller: Caller, order_id: UUID) -> bool:
        return caller.client is None or order_id == MINE

    api = FastAPI()
    install_problem_handlers(api)
    api.add_middleware(AnswerHeaders)
    api.include_router(router)
    api.state.authenticate = authenticate
    api.state.may_see_order = may_see_order
    api.state.documents = Catalogue()
    api.state.document_store = Store(is_out_of_reach=is_out_of_reach)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://api") as http:
        return await http.get(path, headers=headers)


def invoice(order_id: UUID | str = MINE) -> str:
    return f"/v1/orders/{order_id}/invoice.pdf"


def link(path: str) -> str:
    return path + "?" + signed_url(path).partition("?")[2]


async def test_a_document_is_shown_by_the_browser_under_its_number() -> None:
    """The whole content, with its length; no shared cache keeps it, no policy stops a viewer."""
    answer = await get(invoice())

    assert answer.content == CONTENT
    assert answer.headers["Content-Type"] == "application/pdf"
    assert answer.headers["Content-Length"] == str(len(CONTENT))
    assert answer.headers["Content-Disposition"] == 'inline; filename="2026-000123.pdf"'
    assert answer.headers["Cache-Control"].startswith("private")
    assert answer.headers["Content-Security-Policy"] == "frame-ancestors 'self'"


async def test_a_copy_that_is_current_is_not_sent_again() -> None:
    """304 to its ETag, and the document to any other."""
    etag = (await get(invoice())).headers["ETag"]

    assert (await get(invoice(), **{"If-None-Match": etag})).status_code == 304
    assert (await get(invoice(), **{"If-None-Match": '"another"'})).status_code == 200


async def test_a_key_opens_what_its_scope_and_its_client_allow() -> None:
    """No key is 401, the wrong scope 403, and another client's order is not found."""
    assert (await get(invoice(), None)).status_code == 401
    assert (await get(invoice(), WAREHOUSE)).status_code == 403
    assert (await get(invoice(), CLIENT)).status_code == 200
    assert (await get(invoice(OTHERS), CLIENT)).status_code == 404
    assert (await get(invoice(OTHERS), SHOP)).status_code == 200


async def test_a_link_opens_its_document_only() -> None:
    """It needs no key, however the order id is spelt; for another document it is refused, even with a key."""
    assert (await get(link(invoice()), None)).status_code == 200
    spelt = link(invoice()).replace(str(MINE), str(MINE).upper())
    assert (await get(spelt, None)).status_code == 200
    for other in (
        link(invoice()).replace(str(MINE), str(OTHERS)),
        link(invoice()).replace("invoice.pdf", "credit-note.pdf"),
        invoice() + "?signature=",
    ):
        assert (await get(other, SHOP)).status_code == 403


async def test_a_document_that_is_not_there_is_a_problem() -> None:
    """404 where there is none, 503 where it is out of reach, and nothing of the store in the answer."""
    missing = await get(invoice().replace("invoice", "credit-note"))
    assert (missing.status_code, missing.json()["status"]) == (404, 404)

    unreachable = await get(invoice(), is_out_of_reach=True)
    assert unreachable.status_code == 503
    assert "try again" in unreachable.json()["detail"]
