"""Invoices as PDF in the running system: made once, found by key or link, and after an outage too."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from conftest import System, body_of, eventually, new_order
from pypdf import PdfReader
from test_keys import made, with_key

from apps.kit.links import signed_url
from contracts import InvoiceIssued, InvoiceVoided

pytestmark = pytest.mark.connected


async def invoiced(system: System) -> InvoiceIssued:
    """The invoice of a new order."""
    (sku,) = await system.stock_up(None)
    answer = await system.api.post("/v1/orders", json=body_of(new_order((sku, 3), name="Ana Souza")))
    order_id = UUID(answer.json()["order_id"])
    await system.settled(order_id)
    document = await system.database("billing")["invoices"].find_one({"_id": order_id})
    return InvoiceIssued.model_validate(document["event"])


async def pdf(system: System, order_id: UUID | str, kind: str = "invoice") -> httpx.Response:
    """The document once it is there."""

    async def check() -> httpx.Response | None:
        answer = await system.api.get(f"/v1/orders/{order_id}/{kind}.pdf")
        return answer if answer.status_code == 200 else None

    return await eventually(check, f"{kind} of {order_id}")


def text_of(answer: httpx.Response) -> str:
    return "".join(page.extract_text() for page in PdfReader(BytesIO(answer.content)).pages)


async def entry(system: System, order_id: UUID, kind: str = "invoice") -> dict[str, Any]:
    return await system.database("documents")["documents"].find_one({"_id": f"{order_id}/{kind}"})


async def test_an_order_has_its_invoice_as_pdf(system: System) -> None:
    """A PDF of the invoice, to be shown by a browser, kept by it for a while, and asked for again cheaply."""
    invoice = await invoiced(system)
    answer = await pdf(system, invoice.order_id)

    assert answer.headers["Content-Type"] == "application/pdf"
    assert answer.headers["Content-Disposition"] == f'inline; filename="{invoice.number}.pdf"'
    assert answer.headers["Cache-Control"].startswith("private")
    assert "default-src" not in answer.headers["Content-Security-Policy"]  # or Chrome shows nothing
    text = text_of(answer)
    assert invoice.number in text
    assert "Ana Souza" in text
    assert str(invoice.total) in text
    again = await system.api.get(
        f"/v1/orders/{invoice.order_id}/invoice.pdf", headers={"If-None-Match": answer.headers["ETag"]}
    )
    assert (again.status_code, again.content) == (304, b"")


async def test_what_is_not_there_is_a_404(system: System) -> None:
    """An unknown order has no invoice, and an order that was not cancelled no credit note."""
    invoice = await invoiced(system)
    await pdf(system, invoice.order_id)

    for path in (f"{uuid4()}/invoice.pdf", f"{invoice.order_id}/credit-note.pdf"):
        answer = await system.api.get(f"/v1/orders/{path}")
        assert answer.status_code == 404
        assert answer.headers["Content-Type"] == "application/problem+json"


async def test_whoever_has_the_link_may_open_the_document(system: System) -> None:
    """A signed link needs no key, opens that document only, and nobody gets in without either."""
    invoice = await invoiced(system)
    await pdf(system, invoice.order_id)
    path = f"/v1/orders/{invoice.order_id}/invoice.pdf"
    link = path + "?" + signed_url(path).partition("?")[2]

    async with httpx.AsyncClient(base_url=system.stack.api_url) as customer:
        assert (await customer.get(link)).status_code == 200
        assert (await customer.get(link.replace("invoice.pdf", "credit-note.pdf"))).status_code == 403
        assert (await customer.get(f"{path}?signature=made-up")).status_code == 403
        assert (await customer.get(path)).status_code == 401


async def test_a_client_sees_its_own_documents_only(system: System) -> None:
    """A key that is bound to one client opens its own order's invoice, and finds no other."""
    scopes = ("--scope", "orders:read", "--scope", "orders:write")
    (sku,) = await system.stock_up(None)
    others = await invoiced(system)
    await pdf(system, others.order_id)
    key = await made(system, *scopes, "--client", f"client-{uuid4()}")

    async with with_key(system, key) as client:
        order_id = (await client.post("/v1/orders", json=body_of(new_order((sku, 1))))).json()["order_id"]
        await pdf(system, order_id)
        assert (await client.get(f"/v1/orders/{order_id}/invoice.pdf")).status_code == 200
        assert (await client.get(f"/v1/orders/{others.order_id}/invoice.pdf")).status_code == 404


async def test_a_repeat_renders_nothing_new(system: System) -> None:
    """The document stays as it was stored first, when its event comes again."""
    invoice = await invoiced(system)
    first = await pdf(system, invoice.order_id)
    stored = await entry(system, invoice.order_id)

    await system.publish(invoice)
    await system.handled("documents", invoice.order_id, invoice.topic, times=2)

    assert await entry(system, invoice.order_id) == stored
    assert (await pdf(system, invoice.order_id)).content == first.content


async def test_a_voided_invoice_gets_a_credit_note_and_stays(system: System) -> None:
    """Both documents are there, each under its own number."""
    invoice = await invoiced(system)
    number = f"CN-2026-{uuid4().int % 10**9:09}"
    await system.publish(
        InvoiceVoided(
            **invoice.model_dump(), credit_note_number=number, reason="Too late.", voided_at=invoice.issued_at
        )
    )

    text = text_of(await pdf(system, invoice.order_id, "credit-note"))
    assert number in text
    assert invoice.number in text
    assert invoice.number in text_of(await pdf(system, invoice.order_id))


async def test_no_invoice_takes_the_place_of_another(system: System) -> None:
    """An event that states a number which another order has is a dead letter, and nothing is stored over."""
    invoice = await invoiced(system)
    first = await pdf(system, invoice.order_id)
    other = invoice.model_copy(update={"order_id": uuid4(), "invoice_id": uuid4()})
    await system.publish(other)

    async def died() -> Any:
        letters = system.database("recovery")["dead_letters"]
        return await letters.find_one({"order_id": other.order_id, "queue": "documents.invoice-issued"})

    letter = await eventually(died, "the dead letter")
    assert letter["error_type"] == "NumberTakenError"
    assert await entry(system, other.order_id) is None
    assert (await pdf(system, invoice.order_id)).content == first.content


@contextmanager
def blocked(folder: Path) -> Iterator[None]:
    """A file where a folder has to be: nobody, not even root, can store anything in it."""
    kept = folder.with_name("kept")
    folder.rename(kept)
    folder.touch()
    try:
        yield
    finally:
        folder.unlink()
        kept.rename(folder)


async def test_a_store_out_of_reach_pauses_documents_and_nothing_else(system: System) -> None:
    """The order is invoiced and settled, the document waits unpunished, and comes once the store is back."""
    await pdf(system, (await invoiced(system)).order_id)
    with blocked(system.stack.home / "data" / "documents" / "invoices"):
        invoice = await invoiced(system)

        async def waits() -> bool:
            log = (system.stack.logs / "documents.log").read_text()
            about = [line for line in log.splitlines() if str(invoice.order_id) in line]
            return any("waiting for a dependency" in line for line in about)

        await eventually(waits, "the document waits")
        answer = await system.api.get(f"/v1/orders/{invoice.order_id}/invoice.pdf")
        assert answer.status_code == 404
        assert (
            await system.database("recovery")["dead_letters"].find_one({"order_id": invoice.order_id}) is None
        )

    assert invoice.number in text_of(await pdf(system, invoice.order_id))
    await asyncio.wait_for(system.stack.supervisor.wait_ready(30), 30)
