"""Every message in the customer's language: a template for each kind, language and format says the words."""

from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Literal

from babel import Locale
from css_inline import CSSInliner

from apps.kit import wording
from apps.kit.links import signed_url
from apps.kit.wording import language_of, one_line
from apps.notifications import figures, gsm
from apps.notifications.domain import Mail, News, Template, notification_id, template_of
from apps.notifications.template_files import compile_all, explained, open_templates
from contracts import (
    Invoice,
    InvoiceIssued,
    InvoiceVoided,
    OrderCancelled,
    OrderRejected,
    RejectionCode,
)

MOST_ROWS = 40
"""Rows of a mail: Gmail cuts off what is longer than 102 kB, and one row takes up to 1.3 kB."""
_SHOP_LETTERS_IN_SMS = (40, 20, 11)

_inline = CSSInliner(keep_at_rules=True, load_remote_stylesheets=False).inline
"""Writes the styles onto the elements, for mail clients that drop `<style>`; media queries stay there."""


class Messages:
    """Writes mails and texts in the name of one shop."""

    def __init__(self, shop_name: str, templates_directory: Path | None = None) -> None:
        """Templates of the shop's own replace ours of the same name.

        Raises:
            ValueError: one of the shop's templates cannot be used; says in which line.
        """
        self._shop_name = shop_name
        self._templates = open_templates(templates_directory)
        if templates_directory is not None:
            with explained():
                compile_all(self._templates)
                self._write_examples()

    def mail(self, news: News, address: str) -> Mail:
        """The news as a mail, in text and HTML."""
        view = self._view(news, wording.money)
        template = template_of(news)
        return Mail(
            notification_id=notification_id(news.order_id, template),
            template=template,
            address=address,
            name=view["name"],
            subject=self._write(template, "subject", news, view),
            text=self._write(template, "txt", news, view),
            html=_inline(self._write(template, "html", news, view)),
        )

    def sms(self, news: News) -> str:
        """The news in one SMS, the shop's name cut short if need be.

        Where the shop, the order or an article bears a name in another alphabet it takes three at most.
        """
        view = self._view(news, figures.money_for_sms)
        text = ""
        for letters in _SHOP_LETTERS_IN_SMS:
            view["shop"] = _shortened(self._shop_name, letters)
            text = gsm.spell(self._write(template_of(news), "sms", news, view))
            if gsm.parts(text) == 1:
                break
        return text

    def _write_examples(self) -> None:
        """Fail now at what would fail for some customers, a misspelt variable for one."""
        for locale in ("en", "pt-BR"):
            for news in _examples(locale):
                self.mail(news, "")
                self.sms(news)

    def _view(self, news: News, money: Callable[[Decimal, str, Locale], str]) -> dict[str, Any]:
        """What the templates may speak of."""
        locale = wording.locale_of(news.customer.locale)
        view: dict[str, Any] = {
            "shop": self._shop_name,
            "news": news,
            "name": one_line(news.customer.name or "").strip() or None,
            "reference": news.reference or str(news.order_id),
            "language": language_of(news.customer.locale).replace("_", "-"),
            "number": partial(wording.number, locale=locale),
            "date": partial(wording.date, locale=locale),
        }
        match news:
            case Invoice():
                document = "credit-note" if isinstance(news, InvoiceVoided) else "invoice"
                view |= {
                    "money": lambda amount: money(amount, news.currency, locale),
                    "lines": news.lines[:MOST_ROWS],
                    "more": max(0, len(news.lines) - MOST_ROWS),
                    "document_url": signed_url(f"/v1/orders/{news.order_id}/{document}.pdf"),
                }
            case OrderCancelled():
                view["cause"] = news.reason
            case OrderRejected():
                view["cause"] = None
                view["more"] = max(0, len(news.reasons) - MOST_ROWS)
                # Written as plain text first: one wording then serves both formats, and HTML escapes it.
                view["reasons"] = [
                    self._write("reason", "txt", news, {**view, "reason": reason})
                    for reason in news.reasons[:MOST_ROWS]
                ]
        return view

    def _write(
        self, template: Template | Literal["reason"], file_format: str, news: News, view: dict[str, Any]
    ) -> str:
        language = language_of(news.customer.locale)
        return self._templates.get_template(f"{template}.{language}.{file_format}").render(view).strip()


def _examples(locale: str) -> Iterator[News]:
    """Every message, with all that its templates may have to show, and without what may be missing."""
    told = {"customer": {"id": "1", "name": "Ana", "locale": locale}}
    unnamed = {"customer": {"id": "1", "locale": locale}, "reference": None}
    issued, voided = InvoiceIssued.example | told, InvoiceVoided.example | told
    rejected, cancelled = OrderRejected.example | told, OrderCancelled.example | told
    yield InvoiceIssued.model_validate(issued)
    yield InvoiceIssued.model_validate(issued | unnamed | _long(issued))
    yield InvoiceVoided.model_validate(voided)
    yield InvoiceVoided.model_validate(voided | unnamed | _long(voided))
    yield OrderCancelled.model_validate(cancelled)
    yield OrderCancelled.model_validate(cancelled | unnamed)
    shortage = {"code": RejectionCode.OUT_OF_STOCK, "sku": "71053"}
    for reason in (
        shortage | {"requested": 6, "available": 2},
        shortage | {"requested": 6, "available": 0},
        shortage | {"requested": 6},
        shortage,
        {"code": RejectionCode.UNKNOWN_SKU, "sku": "71053"},
        {"code": RejectionCode.CANCELLED},
    ):
        yield OrderRejected.model_validate(rejected | {"reasons": [reason]})
    yield OrderRejected.model_validate(rejected | unnamed | {"reasons": [shortage] * (MOST_ROWS + 1)})


def _long(invoice: dict[str, Any]) -> dict[str, Any]:
    """What makes an invoice one with more lines than a mail shows, each free of charge."""
    line = invoice["lines"][0] | {"unit_price": "0.00", "tax": "0.00"}
    return {"lines": [line] * (MOST_ROWS + 1), "subtotal": "0.00", "tax": "0.00", "total": "0.00"}


def _shortened(text: str, letters: int) -> str:
    return text if len(text) <= letters else f"{text[: letters - 3].rstrip()}..."
