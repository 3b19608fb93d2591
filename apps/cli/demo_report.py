"""What the demo prints in the end: what came of its orders, and whether the books balance."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import datetime
from decimal import Decimal
from statistics import quantiles
from typing import Any

from rich.table import Table

from apps.cli.books import Account
from apps.cli.demo_plan import money
from apps.cli.output import result


def show(
    found: Account, sent_at: Mapping[str, float], orders: Iterable[dict[str, Any]], restarts: int
) -> None:
    """Print what came of the orders.

    Args:
        found: the account of the stores.
        sent_at: Unix time of each order's publish or POST, by its id.
        orders: the orders as the API shows them.
        restarts: how often an app had to be started again.
    """
    told_at = {
        order["order_id"]: datetime.fromisoformat(entry["at"]).timestamp()
        for order in orders
        for entry in reversed(order["timeline"])  # of several, the first
        if entry["event"] == "NotificationSent"
    }
    latencies = sorted(told_at[order_id] - sent_at[order_id] for order_id in told_at)
    table = Table(title="What came of it", show_header=False)
    table.add_row("Orders notified", f"{found.notified}")
    table.add_row("Orders rejected", f"{found.rejected}")
    table.add_row("Orders cancelled", f"{found.cancelled}")
    ended = found.notified + found.rejected + found.cancelled
    table.add_row("Orders under way", f"{found.orders - ended}")
    table.add_row("Units reserved", f"{found.units_reserved:,}")
    table.add_row("Invoices", f"{found.invoices}, {money(found.invoiced)}; {found.credit_notes} void")
    table.add_row("Mails and SMS", f"{found.mails} and {found.texts}")
    table.add_row("PDFs and webhooks", f"{found.documents} and {found.webhooks}")
    if len(latencies) > 1:
        percentiles = quantiles(latencies, n=100, method="inclusive")
        took = max(told_at.values()) - min(sent_at.values())
        table.add_row(
            "OrderCreated to NotificationSent", f"p50 {percentiles[49]:.2f} s, p99 {percentiles[98]:.2f} s"
        )
        table.add_row("Orders per second", f"{len(latencies) / took:.1f}")
    if restarts:
        table.add_row("Apps restarted", f"{restarts}")
    result.print(table)


def audit(wanted: Account, found: Account) -> bool:
    """Compare both accounts, say so, and return whether they agree."""
    table = Table("Books", "from the CSV", "in the stores", "")
    for each in fields(Account):
        want, have = getattr(wanted, each.name), getattr(found, each.name)
        shown = (money(want), money(have)) if isinstance(want, Decimal) else (f"{want:,}", f"{have:,}")
        table.add_row(each.name.replace("_", " "), *shown, "ok" if want == have else "[red]differs[/red]")
    result.print(table)
    balanced = wanted == found
    result.print("[green]The books balance.[/green]" if balanced else "[red]The books do not balance.[/red]")
    return balanced
