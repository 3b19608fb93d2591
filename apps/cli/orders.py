"""`orderflow order`: place, find and follow orders over HTTP."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from apps.cli.api_client import ApiClient, path_of
from apps.cli.errors import UsageError
from apps.cli.output import AsJson, progress, result, show_json, show_table

app = typer.Typer(help="Place, find and follow orders.", no_args_is_help=True)

PATH = "/v1/orders"
EXIT_REFUSED = 2
_POLL_SECONDS = 0.3
_PAGE = 200


@app.command()
def place(
    line: Annotated[
        list[str] | None,
        typer.Option(metavar="SKU=QUANTITY@PRICE", help="A line, such as 85123A=6@2.55; repeat it."),
    ] = None,
    customer: Annotated[str, typer.Option(help="The shop's customer number.")] = "guest",
    email: Annotated[str | None, typer.Option(help="Where the invoice is mailed.")] = None,
    phone: Annotated[str | None, typer.Option(help="E.164 number for SMS, if there is no e-mail.")] = None,
    locale: Annotated[str | None, typer.Option(help="Language of messages, such as pt-BR.")] = None,
    country: Annotated[str | None, typer.Option(help="ISO 3166-1 code; decides the tax.")] = None,
    currency: Annotated[str, typer.Option(help="ISO 4217 code of all prices.")] = "GBP",
    reference: Annotated[str | None, typer.Option(help="The shop's own order number.")] = None,
    file: Annotated[
        Path | None, typer.Option(help="The whole order as JSON instead; - reads standard input.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="Idempotency key: the same key makes one order.")] = None,
    as_json: AsJson = False,
) -> None:
    """Place one order.

    Example: orderflow order place --line 85123A=6@2.55 --line 71053=2@3.39 --email ana@example.com
    """
    if bool(line) == bool(file):
        raise UsageError("give the order either by --line or by --file")
    body = (
        _read(file)
        if file
        else {
            "reference": reference,
            "customer": {
                "id": customer,
                "email": email,
                "phone": phone,
                "locale": locale,
                "country": country,
            },
            "currency": currency,
            "lines": [_line(text) for text in line or []],
        }
    )
    accepted = ApiClient().post(PATH, body, {"Idempotency-Key": key} if key else None)
    if as_json:
        show_json(accepted)
    else:
        result.print(
            f"{accepted['order_id']} {accepted['status']}, {accepted['total']} {accepted['currency']}"
        )


@app.command()
def show(order_id: Annotated[str, typer.Argument(help="The order's id.")], as_json: AsJson = False) -> None:
    """Show where an order is and all that happened to it.

    Example: orderflow order show 7d2c2f3e-6e0a-5c1b-9a43-0f6a2b6a1c55
    """
    order = ApiClient().get(path_of(PATH, order_id))
    if as_json:
        show_json(order)
        return
    total = f"{order['total']} {order['currency']}" if order["total"] else "not known yet"
    voided = f", void by {order['credit_note_number']}" if order["credit_note_number"] else ""
    result.print(f"[bold]{order['status']}[/bold]  {total}  invoice {order['invoice_number'] or '-'}{voided}")
    if order["awaits"]:
        result.print(f"  awaits {_cell(order['awaits'])}")
    if cancellation := order["cancellation"]:
        result.print(f"  cancelled at {cancellation['cancelled_at']}: {cancellation['reason']}", markup=False)
    for reason in order["reasons"]:
        wanted, available = reason["requested"], reason["available"]
        of_article = f": {reason['sku']}, wanted {wanted}, there were {available}" if reason["sku"] else ""
        text = f"  {reason['code']}{of_article}"
        result.print(text, markup=False)
    show_table(
        ("sku", "description", "quantity", "unit price"),
        [(line["sku"], line["description"], line["quantity"], line["unit_price"]) for line in order["lines"]],
    )
    show_table(
        ("at", "event", "event id", "detail"),
        [(*_entry(entry), entry["detail"]) for entry in order["timeline"]],
    )
    if order["dead_letters"]:
        names = ("dead_letter_id", "queue", "event_type", "opened_at", "reason")
        show_table(
            [name.replace("_", " ") for name in names],
            [[letter[name] for name in names] for letter in order["dead_letters"]],
        )


@app.command(name="list")
def list_orders(
    status: Annotated[str | None, typer.Option(help="Only orders that are there now.")] = None,
    customer: Annotated[str | None, typer.Option(help="Only orders of this customer.")] = None,
    reference: Annotated[str | None, typer.Option(help="Only orders with this number of the shop's.")] = None,
    stuck: Annotated[
        bool, typer.Option("--stuck", help="Only orders that await something without news for long.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=200, help="Most orders to list.")] = 20,
    cursor: Annotated[str | None, typer.Option(help="Go on behind the page that gave this.")] = None,
    as_json: AsJson = False,
) -> None:
    """List orders, newest first; stuck ones, the longest without news first.

    Example: orderflow order list --status rejected --json
    """
    page = ApiClient().get(
        PATH,
        status=status,
        customer_id=customer,
        reference=reference,
        stuck=stuck or None,
        limit=limit,
        cursor=cursor,
    )
    if as_json:
        show_json(page)
        return
    names = ("order_id", "status", "reference", "customer_id", "total", "currency", "invoice_number")
    if stuck:
        names = (
            "order_id",
            "status",
            "changed_at",
            "awaits",
            "open_dead_letters",
            "reference",
            "customer_id",
        )
    show_table(
        [name.replace("_", " ") for name in names],
        [[_cell(order[name]) for name in names] for order in page["orders"]],
    )
    if page["next_cursor"]:
        progress.print(f"more: --cursor {page['next_cursor']}", soft_wrap=True)


@app.command()
def resend(
    order_ids: Annotated[list[str] | None, typer.Argument(metavar="ID...", help="The orders' ids.")] = None,
    stuck: Annotated[
        bool, typer.Option("--stuck", help="All orders that `order list --stuck` shows.")
    ] = False,
) -> None:
    """Publish orders again, each with the same event id: whoever missed something hears of it.

    Exit codes: 0 all are published, 2 some were refused, each with its reason.

    Example: orderflow order resend 7d2c2f3e-6e0a-5c1b-9a43-0f6a2b6a1c55
    """
    if bool(order_ids) == stuck:
        raise UsageError("give the ids of orders or --stuck, one of the two")
    api, resent, refused = ApiClient(), 0, 0
    for order_id in _stuck(api) if stuck else order_ids or []:
        try:
            api.post(path_of(PATH, order_id, "resend"), None)
            resent += 1
        except UsageError as error:
            progress.print(f"{order_id}: {error}", markup=False, soft_wrap=True)
            refused += 1
    result.print(f"{resent} {'order' if resent == 1 else 'orders'} published again")
    if refused:
        raise typer.Exit(EXIT_REFUSED)


@app.command()
def cancel(
    order_id: Annotated[str, typer.Argument(help="The order's id.")],
    reason: Annotated[str, typer.Option(help="Why, as the customer may read it.")],
    as_json: AsJson = False,
) -> None:
    """Cancel an order: its stock is released, its invoice voided by a credit note, the customer told.

    The first reason counts; cancelling again gives the same answer. A rejected order cannot be cancelled.

    Example: orderflow order cancel 7d2c2f3e-6e0a-5c1b-9a43-0f6a2b6a1c55 --reason "Ordered by mistake."
    """
    cancelled = ApiClient().post(path_of(PATH, order_id, "cancel"), {"reason": reason})
    if as_json:
        show_json(cancelled)
    else:
        text = f"{cancelled['order_id']} cancelled at {cancelled['cancelled_at']}: {cancelled['reason']}"
        result.print(text, markup=False, soft_wrap=True)


@app.command()
def watch(
    order_id: Annotated[str, typer.Argument(help="The order's id.")],
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to watch at the most.")] = 60,
) -> None:
    """Print each event of an order as it happens, until it awaits nothing more; the customer is told by then.

    Exit codes: 0 told or not reachable, 1 not there in time, 2 no such order.

    Example: orderflow order watch 7d2c2f3e-6e0a-5c1b-9a43-0f6a2b6a1c55 --timeout 120
    """
    api, seen, deadline = ApiClient(), set(), time.monotonic() + timeout
    while True:
        order = api.get(path_of(PATH, order_id))
        for entry in order["timeline"]:
            if entry["event_id"] not in seen:
                seen.add(entry["event_id"])
                result.print("  ".join(_entry(entry)))
        if is_settled(order):
            result.print(f"[bold]{order['status']}[/bold]")
            return
        if time.monotonic() > deadline:
            progress.print(f"still {order['status']} after {timeout:g} s")
            raise typer.Exit(1)
        time.sleep(_POLL_SECONDS)


def is_settled(order: dict[str, Any]) -> bool:
    """Whether nothing more is to happen: decided or undone, and the customer told, if that is possible."""
    return not order["awaits"]


def _stuck(api: ApiClient) -> Iterator[str]:
    """The ids of all stuck orders, page by page; one that is sent again meanwhile only leaves the list."""
    cursor = None
    while True:
        page = api.get(PATH, stuck=True, limit=_PAGE, cursor=cursor)
        yield from (order["order_id"] for order in page["orders"])
        if (cursor := page["next_cursor"]) is None:
            return


def _cell(value: Any) -> Any:
    return ", ".join(value) if isinstance(value, list) else value


def _entry(entry: dict[str, str]) -> tuple[str, str, str]:
    return entry["at"], entry["event"], entry["event_id"]


def _line(text: str) -> dict[str, Any]:
    sku, equals, rest = text.rpartition("=")
    quantity, at, price = rest.partition("@")
    if not (equals and at and quantity.isdecimal()):
        raise UsageError(f"--line {text}: must be SKU=QUANTITY@PRICE, such as 85123A=6@2.55")
    return {"sku": sku, "quantity": int(quantity), "unit_price": price}


def _read(file: Path) -> Any:
    try:
        return json.loads(sys.stdin.read() if str(file) == "-" else file.read_text())
    except OSError as error:
        raise UsageError(f"--file {file}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"--file {file}: is no JSON: {error}") from error
