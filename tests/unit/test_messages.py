"""What messages say, in both languages, and that they stay within what mail clients and phones take."""

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.kit.settings import Settings
from apps.notifications import gsm
from apps.notifications.domain import News
from apps.notifications.messages import MOST_ROWS, Messages
from contracts import InvoiceIssued, InvoiceVoided, OrderCancelled, OrderRejected

ADDRESS = "ana.souza@example.com"
ORDER = "7d2c2f3e-6e0a-5c1b-9a43-0f6a2b6a1c55"
GMAIL_CUTS_OFF_BYTES = 102_000

messages = Messages("Corner Shop")


def about(event: type[Any], locale: str = "en-GB", **changes: object) -> Any:
    """The event's example, for a customer of that language."""
    customer = {"id": "1", "name": "Ana Souza", "email": ADDRESS, "locale": locale}
    return event.model_validate(event.example | {"customer": customer} | changes)


def long_invoice(lines: int) -> InvoiceIssued:
    """An invoice of so many lines with long descriptions."""
    line = InvoiceIssued.example["lines"][0] | {"description": "D" * 200}
    sums = {name: lines * Decimal(one) for name, one in {"subtotal": "15.30", "tax": "3.06"}.items()}
    total = sum(sums.values())
    told: InvoiceIssued = about(InvoiceIssued, lines=[line] * lines, total=total, **sums)
    return told


@pytest.mark.parametrize(
    ("locale", "subject", "nothing", "credited"),
    [
        (
            "en-GB",
            "Credit note CN-2026-000007 for your order 536365",
            "There is nothing to pay",
            "Total credited",
        ),
        (
            "pt-BR",
            "Nota de crédito CN-2026-000007 do seu pedido 536365",
            "Não há nada a pagar",
            "Total creditado",
        ),
    ],
)
def test_credit_note_asks_for_no_money(locale: str, subject: str, nothing: str, credited: str) -> None:
    """Who gets a credit note reads which invoice it cancels and that nothing is to be paid."""
    mail = messages.mail(about(InvoiceVoided, locale), ADDRESS)
    assert mail.subject == subject
    for part in (mail.text, mail.html):
        assert nothing in part
        assert credited in part
        assert "2026-000123" in part


@pytest.mark.parametrize(
    ("locale", "nothing"), [("en-GB", "There is nothing to pay"), ("pt-BR", "Não há nada a pagar")]
)
def test_cancellation_gives_its_reason(locale: str, nothing: str) -> None:
    """The reason is told where there is one, and what the customer owes either way."""
    withdrawn = messages.mail(about(OrderCancelled, locale), ADDRESS)
    refused = messages.mail(about(OrderRejected, locale, reasons=[{"code": "cancelled"}]), ADDRESS)
    assert withdrawn.subject == refused.subject
    for part in (withdrawn.text, withdrawn.html):
        assert "Ordered by mistake." in part
    for part in (withdrawn.text, withdrawn.html, refused.text, refused.html):
        assert nothing in part
        assert "motivo" not in refused.text.lower() + refused.html
        assert "reason" not in refused.text.lower() + refused.html


@pytest.mark.parametrize(("event", "document"), [(InvoiceIssued, "invoice"), (InvoiceVoided, "credit-note")])
def test_mail_links_its_document(event: type[Any], document: str) -> None:
    """Both parts lead to the PDF by a signed link."""
    mail = messages.mail(about(event), ADDRESS)
    link = re.compile(rf"http://127\.0\.0\.1:8000/v1/orders/{ORDER}/{document}\.pdf\?signature=[\w-]{{43}}")
    assert link.search(mail.text)
    assert link.search(mail.html)


def test_long_invoice_is_cut_short_and_says_so() -> None:
    """Of 600 lines the mail shows some, says of how many, and stays below what Gmail cuts off."""
    mail = messages.mail(long_invoice(600), ADDRESS)
    for part in (mail.text, mail.html):
        assert part.count("D" * 200) == MOST_ROWS
        assert "These are the first 40 of 600 lines. The PDF has all of them." in part
        assert "£11,016.00" in part
    assert len(mail.html.encode()) < GMAIL_CUTS_OFF_BYTES
    assert "The PDF has all" not in messages.mail(long_invoice(MOST_ROWS), ADDRESS).text


def test_many_reasons_are_cut_short() -> None:
    """An order that lacks a thousand articles makes no endless mail."""
    reasons = [{"code": "unknown_sku", "sku": f"S{number}"} for number in range(1000)]
    mail = messages.mail(about(OrderRejected, reasons=reasons), ADDRESS)
    for part in (mail.text, mail.html):
        assert "And 960 more." in part


@pytest.mark.parametrize("event", [InvoiceIssued, InvoiceVoided, OrderRejected, OrderCancelled])
def test_html_survives_mail_clients(event: type[Any]) -> None:
    """Styles are on the elements, dark mode in a media query, and nothing is fetched from outside."""
    html = messages.mail(about(event), ADDRESS).html
    assert re.search(r'<h1 style="[^"]*font-size', html)
    assert re.search(r'<table class="page"[^>]* style="[^"]*background-color', html)
    assert "@media (prefers-color-scheme: dark)" in html
    assert '<meta name="color-scheme" content="light dark">' in html
    assert not re.search(r"<(img|link|script)|url\(|@import|src=", html)


@given(
    shop=st.text(alphabet="abc é", min_size=1, max_size=200),
    reference=st.text(alphabet="ABC-", min_size=1, max_size=128),
    news=st.sampled_from(
        [
            about(InvoiceIssued),
            about(InvoiceVoided, "pt-BR"),
            about(OrderRejected),
            about(OrderCancelled, "pt-BR"),
        ]
    ),
)
@settings(max_examples=40, deadline=None)
def test_sms_is_one_whatever_the_shop_is_called(shop: str, reference: str, news: News) -> None:
    """The shop's name gives way, so that reference and amount stay in the 160 septets."""
    told = news.model_copy(update={"reference": reference})
    text = Messages(shop).sms(told)
    assert gsm.parts(text) == 1
    assert reference[:33] in text
    if isinstance(told, InvoiceIssued | InvoiceVoided):
        assert "42" in text


@pytest.mark.parametrize("event", [InvoiceIssued, InvoiceVoided, OrderRejected, OrderCancelled])
@pytest.mark.parametrize("locale", ["en-GB", "pt-BR"])
def test_sms_in_another_alphabet_is_bounded(event: type[Any], locale: str) -> None:
    """Names that need 16 bits a letter make three SMS at most."""
    text = Messages("商店" * 50).sms(about(event, locale, reference="号" * 128))
    assert gsm.septets(text) is None
    assert 1 < gsm.parts(text) <= 3


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("a" * 307, 3),
        ("€" * 80, 1),
        ("商" * 70, 1),
        ("商" * 71, 2),
        ("😀" * 36, 2),
    ],
)
def test_parts_of_an_sms(text: str, parts: int) -> None:
    """160 septets or 70 UTF-16 units go into one, less into each of several."""
    assert gsm.parts(text) == parts


def test_own_template_replaces_one_of_ours(tmp_path: Path) -> None:
    """The shop's wording is used where there is one, ours for the rest."""
    (tmp_path / "invoice-issued.en.subject").write_text("Your bill {{ news.number }}\n")
    own = Messages("Corner Shop", tmp_path)
    assert own.mail(about(InvoiceIssued), ADDRESS).subject == "Your bill 2026-000123"
    assert own.mail(about(InvoiceIssued, "pt-BR"), ADDRESS).subject.startswith("Fatura")
    assert "Thank you" in own.mail(about(InvoiceIssued), ADDRESS).text


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("invoice-issued.en.txt", "Hello\n{% if %}", 2),
        ("order-rejected.pt_BR.txt", "Olá\n\n{{ news.nunber }}", 3),
        ("layout.html", "<p>\n{{ money(1) + 'x' }}\n</p>", 2),
        ("partial.html", "{% endfor %}", 1),
        ("reason.en.txt", '{% if reason.code == "unknown_sku" %}\n{{ reason.skv }}\n{% endif %}', 2),
        ("reason.pt_BR.txt", "{{ number(reason.requested) }}", 1),
        ("order-rejected.en.txt", "{% if more %}\n{{ number(mor) }}\n{% endif %}", 2),
        ("invoice-issued.pt_BR.txt", "{% if more %}\n{{ number(mor) }}\n{% endif %}", 2),
        ("order-cancelled.en.html", "{{ reference }}\n{% if not cause %}{{ caus }}{% endif %}", 2),
        ("invoice-voided.en.subject", "{{ 'For ' + name }}", 1),
        ("invoice-voided.en.txt", "{{ 'Order ' + news.reference }}", 1),
    ],
    ids=[
        "syntax",
        "variable",
        "expression",
        "not used",
        "another reason",
        "no figures",
        "many reasons",
        "many lines",
        "no cause",
        "no name",
        "no reference",
    ],
)
def test_broken_own_template_fails_at_start(tmp_path: Path, name: str, content: str, line: int) -> None:
    """A mistake in a template shows at start, with file and line, and not at a customer's mail."""
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match="ORDERFLOW_TEMPLATES_DIRECTORY") as refused:
        Messages("Corner Shop", tmp_path)
    assert f"{tmp_path / name}, line {line}: " in str(refused.value)


def test_missing_folder_fails_at_start(tmp_path: Path) -> None:
    """A folder that is not there is no folder without templates."""
    with pytest.raises(ValueError, match="is no folder"):
        Messages("Corner Shop", tmp_path / "none")


def test_routes_are_validated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting takes known messages and ways, and nothing else."""
    monkeypatch.setenv("ORDERFLOW_NOTIFICATIONS", '{"invoice-issued": "sms-then-email"}')
    assert Settings().notifications == {"invoice-issued": "sms-then-email"}
    for wrong in ('{"invoice": "sms"}', '{"invoice-issued": "fax"}'):
        monkeypatch.setenv("ORDERFLOW_NOTIFICATIONS", wrong)
        with pytest.raises(ValueError, match="notifications"):
            Settings()


@pytest.mark.parametrize("missing", ["TOKEN", "FROM"])
def test_account_at_the_sms_provider_is_complete(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """An account without its token or a sender is refused at start, by the names of the settings."""
    given = {"ACCOUNT_SID": "AC0", "AUTH_TOKEN": "secret", "FROM": "+15005550006"}
    for name, value in given.items():
        if not name.endswith(missing):
            monkeypatch.setenv(f"ORDERFLOW_TWILIO_{name}", value)
    with pytest.raises(ValueError, match="ORDERFLOW_TWILIO_AUTH_TOKEN and ORDERFLOW_TWILIO_FROM"):
        Settings()
