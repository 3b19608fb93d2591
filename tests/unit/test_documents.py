"""Invoices and credit notes as PDF: complete, readable, the same bytes every time, and made once."""

import asyncio
import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from decimal import ROUND_HALF_UP, Decimal
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pydantic import ValidationError
from pypdf import PdfReader

from apps.documents.application import Catalogue, Press, Store
from apps.documents.domain import Paper, Statement, paper_of
from apps.documents.pdf import render
from apps.documents.store import DocumentStore
from apps.kit.errors import DependencyUnavailable
from apps.kit.settings import Settings
from contracts import InvoiceIssued, InvoiceVoided

SHOP = Settings(
    shop_name="Lantern & Heart Ltd", shop_address="14 Market Row\nYork YO1 8SL", shop_tax_id="GB 123 4567 89"
)
ANA = {"id": "17850", "name": "Ana Souza", "email": "ana@example.com", "locale": "en-GB", "country": "GB"}
DESCRIPTION = "WHITE METAL LANTERN"
KINDS: tuple[type[Statement], ...] = (InvoiceIssued, InvoiceVoided)


def statement(
    lines: int = 2,
    *,
    kind: type[Statement] = InvoiceIssued,
    description: str = DESCRIPTION,
    **changes: object,
) -> Statement:
    """An invoice of so many lines of different prices, every fifth at 5 % tax and the others at 20 %."""
    stated, subtotal, tax = [], Decimal(0), Decimal(0)
    for index in range(lines):
        price, rate = Decimal("2.55") + index, Decimal("0.05") if index % 5 == 0 else Decimal("0.20")
        line_tax = (price * 3 * rate).quantize(Decimal("0.01"), ROUND_HALF_UP)
        stated.append(
            {
                "sku": f"SKU{index:04}",
                "description": description,
                "quantity": 3,
                "unit_price": str(price),
                "tax_rate": str(rate),
                "tax": str(line_tax),
            }
        )
        subtotal, tax = subtotal + price * 3, tax + line_tax
    totals = {"subtotal": str(subtotal), "tax": str(tax), "total": str(subtotal + tax)}
    return kind.model_validate(kind.example | {"customer": ANA, "lines": stated} | totals | changes)


def pages_of(document: Statement, settings: Settings = SHOP) -> list[str]:
    """The text of each page, as a reader would copy it."""
    pages = PdfReader(BytesIO(render(document, settings))).pages
    return [page.extract_text().replace("\N{NO-BREAK SPACE}", " ") for page in pages]


def test_an_invoice_says_who_owes_what_to_whom() -> None:
    """Shop, customer, number, date, reference, every line, each tax rate and the totals are on it."""
    (page,) = pages_of(statement(6))

    for text in (
        "Lantern & Heart Ltd",
        "14 Market Row",
        "York YO1 8SL",
        "GB 123 4567 89",
        "Ana Souza",
        "ana@example.com",
        "United Kingdom",
        "17850",
        "Invoice",
        "2026-000123",
        "22 November 2026",
        "536365",
        "SKU0005",
        DESCRIPTION,
        "£104.53",
        "Page 1 of 1",
    ):
        assert text in page, text
    # Net amount and tax by rate: lines 1 and 6, and the four between them.
    assert re.search(r"5%\s+30\.30\s+1\.51", page)
    assert re.search(r"20%\s+60\.60\s+12\.12", page)
    assert "arried forward" not in page
    assert "rought forward" not in page


def test_a_credit_note_says_what_it_cancels() -> None:
    """It has a title and number of its own, and names the invoice and the reason."""
    (page,) = pages_of(statement(kind=InvoiceVoided))

    assert "Credit note" in page
    assert "CN-2026-000007" in page
    assert "cancels invoice 2026-000123 of 22 November 2026" in page
    assert "Ordered by mistake." in page
    assert "Total credited" in page


def test_a_document_speaks_the_customers_language() -> None:
    """Words, dates and amounts are Brazilian Portuguese for a Brazilian, in the invoice's own currency."""
    (page,) = pages_of(statement(1, customer=ANA | {"locale": "pt-BR", "country": "BR"}))

    for text in ("Fatura", "Número da fatura", "22 de novembro de 2026", "Alíquota", "7,65", "Brasil"):
        assert text in page, text
    assert "Página 1 de 1" in page


def test_a_long_invoice_goes_on_over_pages() -> None:
    """Each page repeats the table's head and what the pages before add up to; the last one has the totals."""
    document = statement(600)
    pages = pages_of(document)

    assert len(pages) > 10
    carried = Decimal(0)
    for number, page in enumerate(pages, start=1):
        assert f"Page {number} of {len(pages)}" in page
        assert "Unit price" in page
        brought = re.search(r"Brought forward\s+([\d,.]+)", page)
        assert (brought is None) == (number == 1)
        if brought:
            assert Decimal(brought[1].replace(",", "")) == carried
        skus = {int(sku) for sku in re.findall(r"SKU(\d{4})", page)}
        carried += sum((line.amount for line in document.lines if int(line.sku[3:]) in skus), Decimal(0))
        on = re.search(r"Carried forward\s+([\d,.]+)", page)
        assert (on is None) == (number == len(pages))
        if on:
            assert Decimal(on[1].replace(",", "")) == carried
    assert carried == document.subtotal
    assert f"{document.total:,}" in pages[-1]


def test_the_same_event_gives_the_same_bytes_in_another_process() -> None:
    """Another process, hash seed and time zone change no byte."""
    here = [
        hashlib.sha256(render(kind.model_validate(kind.example), Settings())).hexdigest() for kind in KINDS
    ]
    program = (
        "import hashlib\n"
        "from apps.documents.pdf import render\n"
        "from apps.kit.settings import Settings\n"
        "from contracts import InvoiceIssued, InvoiceVoided\n"
        "for kind in (InvoiceIssued, InvoiceVoided):\n"
        "    content = render(kind.model_validate(kind.example), Settings())\n"
        "    print(hashlib.sha256(content).hexdigest())\n"
    )
    there = subprocess.run(  # noqa: S603  # a program of this test's own
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )

    assert there.stdout.split() == here


def test_what_a_customer_writes_is_never_markup() -> None:
    """Typst's own syntax in a value is shown as it was written."""
    hostile = '#panic("x") *b* $x$ `r` @l <l> \\u{41} // c'
    (page,) = pages_of(statement(1, description=hostile, customer=ANA | {"name": '#read("/etc/passwd")'}))

    assert " ".join(hostile.split()) in " ".join(page.split())
    assert '#read("/etc/passwd")' in page


def test_every_alphabet_can_be_set() -> None:
    """Latin, Greek and Cyrillic are in the document; no script makes it fail."""
    name = "Łukasz Żółć, Ção Ωμέγα Привет €£¥ 李小龍 한국어 العربية 😀"
    (page,) = pages_of(statement(1, customer=ANA | {"name": name}))

    for text in ("Łukasz Żółć", "Ção", "Ωμέγα", "Привет", "€£¥"):
        assert text in page, text


def test_more_tax_rates_than_a_page_holds_go_on_over_pages() -> None:
    """None is lost below the edge of the page, and the total stands behind the last."""
    rates = [Decimal(index) / 1000 for index in range(120)]
    lines = [
        {"sku": "A", "quantity": 1, "unit_price": "100.00", "tax_rate": str(rate), "tax": f"{100 * rate:.2f}"}
        for rate in rates
    ]
    tax = 100 * sum(rates)
    totals = {"subtotal": "12000.00", "tax": f"{tax:.2f}", "total": f"{12000 + tax:.2f}"}
    pages = pages_of(
        InvoiceIssued.model_validate(InvoiceIssued.example | {"customer": ANA, "lines": lines} | totals)
    )

    assert re.search(r"11\.9%\s+100\.00\s+11\.90\s+Subtotal", pages[-1])
    assert "£12,714.00" in pages[-1]


def test_words_that_are_too_long_break() -> None:
    """500 characters without a space stay in their column, above the next line."""
    pages = pages_of(statement(3, description="X" * 500))

    assert sum(page.count("X") for page in pages) == 1500
    assert max(len(line) for page in pages for line in page.splitlines() if "X" in line) < 100


class CatalogueInMemory:
    """What is claimed and stored, by path."""

    def __init__(self) -> None:
        self.claimed: list[str] = []
        self.digests: dict[str, str] = {}

    async def claim(self, paper: Paper) -> bool:
        self.claimed.append(paper.path)
        return paper.path not in self.digests

    async def stored(self, paper: Paper, content: bytes) -> None:
        self.digests[paper.path] = hashlib.sha256(content).hexdigest()


class StoreInMemory:
    """Documents by path; out of reach as often as it is told to be."""

    def __init__(self) -> None:
        self.contents: dict[str, list[bytes]] = {}
        self.outages = 0

    async def put(self, path: str, content: bytes) -> None:
        if self.outages:
            self.outages -= 1
            raise DependencyUnavailable("the store")
        self.contents.setdefault(path, []).append(content)


async def test_a_document_is_made_once() -> None:
    """A repeat stores nothing; after an outage of the store the next attempt goes through."""
    catalogue, store = CatalogueInMemory(), StoreInMemory()
    assert isinstance(catalogue, Catalogue)
    assert isinstance(store, Store)
    invoice = statement()
    path = paper_of(invoice).path
    with ThreadPoolExecutor(1) as threads:
        press = Press(catalogue, store, threads, SHOP)
        store.outages = 1
        with pytest.raises(DependencyUnavailable):
            await press.make(invoice)
        assert not catalogue.digests

        await press.make(invoice)
        await press.make(invoice)

    assert path == "invoices/2026-000123.pdf"
    (content,) = store.contents[path]
    assert content.startswith(b"%PDF-")
    assert catalogue.digests[path] == hashlib.sha256(content).hexdigest()


class CountedThreads(ThreadPoolExecutor):
    """One thread, and how often it was given work."""

    given = 0

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.given += 1
        return super().submit(work, *args, **kwargs)


async def test_an_outage_of_the_store_costs_one_rendering() -> None:
    """However often a document is tried again, it is rendered once; of a backlog only the newest are kept."""
    store = StoreInMemory()
    waiting = [statement(order_id=str(uuid4()), number=f"2026-{number:06}") for number in range(8)]
    with CountedThreads(1) as threads:
        press = Press(CatalogueInMemory(), store, threads, SHOP)
        store.outages = 3 * len(waiting)
        for _ in range(3):
            for invoice in waiting:
                with pytest.raises(DependencyUnavailable):
                    await press.make(invoice)
        assert threads.given == len(waiting)

        store.outages = 1
        with pytest.raises(DependencyUnavailable):
            await press.make(statement())
        await press.make(waiting[-1])
        assert threads.given == len(waiting) + 1
        await press.make(waiting[0])
        assert threads.given == len(waiting) + 2
    for invoice in (waiting[0], waiting[-1]):
        assert store.contents[paper_of(invoice).path] == [render(invoice, SHOP)]


async def test_rendering_never_holds_up_the_event_loop() -> None:
    """Health and acknowledgements are answered while a document of a second is rendered."""
    gaps: list[float] = []

    async def tick() -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.001)
            now = time.monotonic()
            gaps.append(now - last)
            last = now

    ticking = asyncio.create_task(tick())
    with ThreadPoolExecutor(1) as threads:
        began = time.monotonic()
        await Press(CatalogueInMemory(), StoreInMemory(), threads, SHOP).make(statement(400))
        took = time.monotonic() - began
    ticking.cancel()

    assert max(gaps) < took / 3


async def test_a_folder_keeps_what_it_is_given(tmp_path: Path) -> None:
    """What was put is got back; a folder that is none is an outage, and so is a document that is missing."""
    store = DocumentStore(str(tmp_path / "new" / "documents"))
    await store.put("invoices/a.pdf", b"first")
    await store.put("invoices/a.pdf", b"second")
    size, pieces = await store.get("invoices/a.pdf")
    assert (size, b"".join([piece async for piece in pieces])) == (6, b"second")

    with pytest.raises(DependencyUnavailable, match="FileNotFoundError"):
        await store.get("invoices/b.pdf")
    (tmp_path / "file").touch()
    with pytest.raises(DependencyUnavailable):
        await DocumentStore(str(tmp_path / "file")).put("invoices/a.pdf", b"")


@pytest.mark.parametrize("url", ["ftp://host/path", "", "C:folder"])
def test_a_store_of_no_known_kind_is_refused_at_the_start(url: str) -> None:
    """Else every document would wait for something that never comes."""
    with pytest.raises(ValidationError):
        Settings(documents_url=url)
