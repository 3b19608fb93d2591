"""Pages as the console answers them: in the viewer's language, and with what the caller may do."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache, partial
from typing import Any
from urllib.parse import quote, unquote

from babel import Locale
from babel.numbers import format_decimal
from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape

from apps.console import assets, catalogue
from apps.console.paths import is_secure
from apps.console.paths import root_of as root_of  # noqa: PLC0414  # the page modules take it from here
from apps.console.session import csrf_token
from apps.kit import wording
from apps.kit.access import Caller
from apps.kit.scopes import Scope
from apps.kit.settings import get_settings
from apps.kit.wording import Language

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
LANGUAGE_COOKIE = "orderflow_language"
_NOTICE_COOKIE = "orderflow_notice"
_NOTICE_SECONDS = 30
_FOR_THE_WHOLE_SHOP = frozenset({Scope.WEBHOOKS_MANAGE, Scope.DEAD_LETTERS_MANAGE, Scope.STOCK_WRITE})
"""What nobody may who is bound to one client: it concerns the orders of all."""
_FIRST_PAGES = {
    Scope.ORDERS_READ: "/",
    Scope.DEAD_LETTERS_MANAGE: "/dead-letters",
    Scope.WEBHOOKS_MANAGE: "/webhooks",
    Scope.STOCK_WRITE: "/stock",
}
_NOTHING = "\N{EN DASH}"
_SECOND = 1.0
_MINUTE = 60.0
_HOUR = 3600.0
_DAY = 86400.0


def page(request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:
    """A page, or a part of one."""
    notice = request.cookies.get(_NOTICE_COOKIE)
    html = render(
        template,
        language_of(request),
        **_frame(request),
        notice=unquote(notice) if notice else None,
        **context,
    )
    headers = {
        "Content-Security-Policy": POLICY,
        "Cache-Control": "no-store",
        "Vary": "HX-Request",
        # With none at all, browsers do not say either from where a form comes.
        "Referrer-Policy": "same-origin",
    }
    answer = HTMLResponse(html, status, headers)
    if notice:
        answer.delete_cookie(_NOTICE_COOKIE, path=root_of(request))
    return answer


def render(template: str, language: Language, **context: Any) -> str:
    """A template's text in a language; for parts of pages that no request asks for."""
    return _environment(language).get_template(template).render(**context)


def redirect(request: Request, path: str, notice: str | None = None) -> RedirectResponse:
    """Go on at another page of the console, which tells once what was done.

    Args:
        request: that was a form's.
        path: below the console's own.
        notice: one sentence; it travels in a cookie, so that no link can make the console say things.
    """
    answer = RedirectResponse(root_of(request) + path, 303)
    if notice:
        answer.set_cookie(
            _NOTICE_COOKIE,
            quote(notice),
            max_age=_NOTICE_SECONDS,
            path=root_of(request),
            httponly=True,
            samesite="strict",
            secure=is_secure(),
        )
    return answer


def gettext(request: Request) -> Callable[[str], str]:
    """Translates into the viewer's language."""
    return catalogue.translations(language_of(request)).gettext


def language_of(request: Request) -> Language:
    """What the viewer has chosen, else the first that the browser asks for and we have."""
    chosen = request.cookies.get(LANGUAGE_COOKIE)
    if chosen in set(Language):
        return Language(chosen)
    for tag in request.headers.get("Accept-Language", "").split(","):
        primary = tag.split(";")[0].strip().split("-")[0].lower()
        if primary in ("en", "pt"):
            return wording.language_of(primary)
    return Language.ENGLISH


def _frame(request: Request) -> dict[str, Any]:
    caller: Caller | None = getattr(request.state, "caller", None)
    return {
        "caller": caller,
        "may": partial(may_see, caller),
        "csrf": csrf_token(request),
        "root": root_of(request),
        "path": request.url.path,
        "query": request.url.query,
        "is_development": get_settings().environment == "development",
    }


def may_see(caller: Caller | None, scope: str) -> bool:
    """Whether a caller has a scope, and may use it here."""
    wanted = Scope(scope)
    if caller is None or wanted not in caller.scopes:
        return False
    return caller.client is None or wanted not in _FOR_THE_WHOLE_SHOP


def first_page(caller: Caller) -> str:
    """The first page, or who may not see that, one that they may see."""
    return next((place for scope, place in _FIRST_PAGES.items() if may_see(caller, scope)), "/")


@cache
def _environment(language: Language) -> Environment:
    environment = Environment(
        loader=PackageLoader("apps.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    environment.install_gettext_translations(  # type: ignore[attr-defined]  # of the extension
        catalogue.translations(language), newstyle=True
    )
    locale = wording.locale_of(language)
    environment.globals |= {"language": language, "lang": str(language).replace("_", "-"), "asset": _asset}
    environment.filters |= {
        "money": partial(_money, locale),
        "number": partial(_number, locale),
        "time": _time,
        "duration": partial(_duration, locale),
        "pretty": _pretty,
    }
    return environment


@pass_context
def _asset(context: Context, name: str) -> str:
    return assets.address(context["root"], name)


def _money(locale: Locale, amount: Decimal | str | None, currency: str | None) -> str:
    if amount is None or currency is None:
        return _NOTHING
    return wording.money(Decimal(amount), currency, locale)


def _number(locale: Locale, value: float) -> str:
    return format_decimal(value, locale=locale)


def _time(moment: datetime | str | None) -> Markup:
    """A time that the script writes anew in the viewer's zone; in UTC without it."""
    if moment is None:
        return escape(_NOTHING)
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    moment = moment.astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        moment.isoformat(timespec="milliseconds"), f"{moment:%Y-%m-%d %H:%M:%S} UTC"
    )


def _duration(locale: Locale, seconds: float) -> str:
    """`120 ms`, `1.2 s`, `3.5 min`, `2 h` or `4 d`."""
    for limit, unit, name in (
        (_SECOND, 0.001, "ms"),
        (_MINUTE, _SECOND, "s"),
        (_HOUR, _MINUTE, "min"),
        (_DAY, _HOUR, "h"),
    ):
        if abs(seconds) < limit:
            pattern = "#,##0" if name == "ms" else "#,##0.#"
            return f"{format_decimal(seconds / unit, pattern, locale=locale)}\N{NO-BREAK SPACE}{name}"
    return f"{format_decimal(seconds / _DAY, '#,##0.#', locale=locale)}\N{NO-BREAK SPACE}d"


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)
