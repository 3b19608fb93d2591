"""Every message in the customer's language: a template for each kind, language and format says the words."""

from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

from babel import Locale
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from apps.notifications import figures, gsm
from apps.notifications.domain import Mail, News, language_of, notification_id, one_line, template_of
from contracts import InvoiceIssued, OrderRejected, RejectionCode


class Messages:
    """Writes mails and texts in the name of one shop."""

    def __init__(self, shop_name: str) -> None:
        self._shop_name = shop_name
        self._templates = Environment(
            loader=PackageLoader("apps.notifications"),
            autoescape=select_autoescape(["html"]),
            undefined=StrictUndefined,
            finalize=_on_one_line,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def mail(self, news: News, address: str) -> Mail:
        """The news as a mail, in text and HTML."""
        view = self._view(news, figures.money)
        return Mail(
            notification_id=notification_id(news.order_id, template_of(news)),
            address=address,
            name=view["name"],
            subject=self._write(template_of(news), "subject", news, view),
            text=self._write(template_of(news), "txt", news, view),
            html=self._write(template_of(news), "html", news, view),
        )

    def sms(self, news: News) -> str:
        """The news in one SMS, unless the shop or the order bears a name in another alphabet."""
        return gsm.spell(self._write(template_of(news), "sms", news, self._view(news, figures.money_for_sms)))

    def _view(self, news: News, money: Callable[[Decimal, str, Locale], str]) -> dict[str, Any]:
        """What the templates may speak of."""
        locale = figures.locale_of(news.customer.locale)
        view: dict[str, Any] = {
            "shop": self._shop_name,
            "news": news,
            "name": one_line(news.customer.name or "").strip() or None,
            "reference": news.reference or str(news.order_id),
            "language": language_of(news.customer.locale).replace("_", "-"),
            "number": partial(figures.number, locale=locale),
            "date": partial(figures.date, locale=locale),
        }
        if isinstance(news, InvoiceIssued):
            view["money"] = lambda amount: money(amount, news.currency, locale)
        else:
            view["cancelled"] = was_cancelled(news)
            # Written as plain text first: one wording then serves both formats, and HTML escapes it.
            view["reasons"] = [
                self._write("reason", "txt", news, {**view, "reason": reason}) for reason in news.reasons
            ]
        return view

    def _write(self, template: str, file_format: str, news: News, view: dict[str, Any]) -> str:
        language = language_of(news.customer.locale)
        return self._templates.get_template(f"{template}.{language}.{file_format}").render(view).strip()


def was_cancelled(rejection: OrderRejected) -> bool:
    """Whether the order was withdrawn, which asks for other words than a shortage."""
    return all(reason.code is RejectionCode.CANCELLED for reason in rejection.reasons)


def _on_one_line(value: object) -> object:
    """No value brings a line of its own into a message."""
    return one_line(value) if isinstance(value, str) else value
