"""`orderflow demo`: real orders through the whole system, and an audit of what came of them."""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from apps.cli.api_client import bearer
from apps.cli.books import Stores, expected
from apps.cli.demo_plan import CANCELLED, SAMPLE, initial_levels, sample_orders, web_orders
from apps.cli.demo_receiver import Receiver, receiving
from apps.cli.demo_report import audit, show
from apps.cli.errors import UsageError
from apps.cli.local.stack import WORKERS, LocalStack
from apps.cli.output import progress, result
from apps.cli.stock import counted
from contracts import InvoiceIssued, InvoiceVoided, OrderCancelled, OrderCreated, OrderRejected

HOME = Path(".orderflow/demo")
_SETTLE_TIMEOUT_SECONDS = 180.0
_POLL_SECONDS = 0.2
_KILLABLE = ("api", *WORKERS)
_ENDINGS = [event.topic for event in (InvoiceIssued, OrderRejected, OrderCancelled, InvoiceVoided)]


def demo(
    home: Annotated[Path, typer.Option(help="Directory for this run's data; emptied first.")] = HOME,
    keep: Annotated[bool, typer.Option("--keep", help="Stay up afterwards, until Ctrl-C.")] = False,
    kill: Annotated[
        list[str] | None,
        typer.Option(metavar="APP", help=f"Kill -9 this app in mid-work; repeat it: {', '.join(_KILLABLE)}."),
    ] = None,
) -> None:
    """Send 62 real orders and 24 web orders through the whole system, then check the books.

    Starts RabbitMQ, MongoDB and every app, publishes the orders of a real shop straight to RabbitMQ, places
    others over HTTP, follows them all, cancels two, receives and verifies webhooks, and recomputes on a path
    of its own what must have come of them.
    Exit codes: 0 the books balance, 1 they do not.

    Example: orderflow demo --kill stock --kill billing
    """
    if unknown := set(kill or ()) - set(_KILLABLE):
        raise UsageError(f"--kill {min(unknown)}: is not one of {', '.join(_KILLABLE)}")
    raise typer.Exit(0 if asyncio.run(_run(home, keep=keep, kill=kill or [])) else 1)


@dataclass
class _Run:
    """What the demo has sent, and when."""

    orders: list[OrderCreated]
    web: list[dict[str, Any]]
    sent_at: dict[str, float] = field(default_factory=dict)
    """Unix time of the publish or the POST, by order id."""
    to_cancel: set[str] = field(default_factory=set)
    """Ids of the orders that are cancelled in the end."""

    @property
    def total(self) -> int:
        return len(self.orders) + len(self.web)


async def _run(home: Path, *, keep: bool, kill: list[str]) -> bool:
    _empty(home)
    run = _Run(sample_orders(), web_orders())
    levels = initial_levels(run.orders, run.web)
    # With services that were there before, a database prefix of its own keeps old data out of the books.
    prefix = f"demo_{time.time_ns() // 1_000_000_000}"
    stack = LocalStack(home, environment={"ORDERFLOW_DATABASE_PREFIX": prefix}, say=_say)
    with progress.status("starting"):
        await stack.__aenter__()
    try:
        stores = Stores(stack.mongodb_url, prefix)
        with receiving() as receiver:
            balanced = await _exercise(stack, stores, receiver, run, levels, kill)
        if keep:
            for name, url in stack.urls.items():
                result.print(f"[bold]{name}[/bold]  {url}", soft_wrap=True)
            result.print("Still up, as --keep asks; Ctrl-C stops everything.")
            await _until_interrupted()
    finally:
        await stack.__aexit__(None, None, None)
    return balanced


async def _exercise(
    stack: LocalStack, stores: Stores, receiver: Receiver, run: _Run, levels: dict[str, str], kill: list[str]
) -> bool:
    from apps.kit.publishing import event_publisher  # noqa: PLC0415  # takes seconds to import

    wanted = expected(SAMPLE, run.web)
    async with _client(stack) as api:
        await _register(api, receiver)
    columns = (TextColumn("{task.description:<34}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=progress) as bar:
        async with event_publisher("demo", stack.rabbitmq_url) as publish:
            stocked = bar.add_task("Stock levels, over RabbitMQ", total=len(levels))
            for sku, quantity in levels.items():
                await publish(counted(sku, quantity))
            await _follow(
                stores.levels_counted, len(levels), lambda done: bar.update(stocked, completed=done)
            )

            settled = bar.add_task("Orders through to the customer", total=run.total)
            killing = asyncio.create_task(_kill_in_mid_work(stack, stores, kill))
            sent = bar.add_task("Orders of the CSV, over RabbitMQ", total=len(run.orders))
            for order in run.orders:
                run.sent_at[str(order.order_id)] = time.time()
                await publish(order)
                bar.advance(sent)
        placed = bar.add_task("Orders of the web shop, over HTTP", total=len(run.web))
        async with _client(stack) as api:
            for body in run.web:
                await _place(api, body, run)
                bar.advance(placed)
        await _follow(stores.settled, run.total, lambda done: bar.update(settled, completed=done))
        await killing
        async with _client(stack) as api:
            await _cancel(api, run)
        undone = bar.add_task("Orders cancelled, over HTTP", total=len(run.to_cancel))
        await _follow(stores.cancelled, len(run.to_cancel), lambda done: bar.update(undone, completed=done))
        for what, count, goal in (
            ("PDFs stored", lambda: _pdfs(stack), wanted.documents),
            ("Webhooks verified", lambda: len(receiver.verified), wanted.webhooks),
        ):
            task = bar.add_task(what, total=goal)
            await _follow(count, goal, lambda done, task=task: bar.update(task, completed=done))  # type: ignore[misc]
        orders = await _timelines(stack, run)
    found = await asyncio.to_thread(stores.account, levels, _pdfs(stack), len(receiver.verified))
    show(found, run.sent_at, orders, sum(stack.supervisor.restarts(name) for name in _KILLABLE))
    return audit(wanted, found)


async def _register(api: httpx.AsyncClient, receiver: Receiver) -> None:
    """Have the webhooks of whatever an order ends with sent to the receiver."""
    endpoint = await _until_answered(
        lambda: api.post("/v1/webhook-endpoints", json={"url": receiver.url, "event_types": _ENDINGS})
    )
    receiver.trust(endpoint["secret"])


def _pdfs(stack: LocalStack) -> int:
    return sum(path.read_bytes().startswith(b"%PDF-") for path in stack.documents.glob("invoices/*.pdf"))


async def _place(api: httpx.AsyncClient, body: dict[str, Any], run: _Run) -> None:
    """Send every order twice under one key, as a client does that got no answer: it is placed once."""
    headers = {"Idempotency-Key": body["reference"]}
    started = time.time()
    for _ in range(2):
        accepted = await _until_answered(lambda: api.post("/v1/orders", json=body, headers=headers))
        run.sent_at.setdefault(accepted["order_id"], started)
        if body["reference"] in CANCELLED:
            run.to_cancel.add(accepted["order_id"])


async def _cancel(api: httpx.AsyncClient, run: _Run) -> None:
    """Cancel twice, with another reason: the first one counts."""
    for order_id in run.to_cancel:
        for reason in ("Ordered by mistake.", "Found it cheaper."):
            path, body = f"/v1/orders/{order_id}/cancel", {"reason": reason}
            await _until_answered(lambda path=path, body=body: api.post(path, json=body))  # type: ignore[misc]


async def _until_answered(request: Callable[[], Any]) -> Any:
    """The JSON of an answer; asks again while the API is being restarted."""
    deadline = time.monotonic() + _SETTLE_TIMEOUT_SECONDS
    while True:
        try:
            answer = await request()
            answer.raise_for_status()
            return answer.json()
        except httpx.HTTPError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(_POLL_SECONDS)


async def _follow(count: Callable[[], int], goal: int, show: Callable[[int], None]) -> None:
    """Show a count until it reaches its goal, or the time is up: then the audit says what is missing."""
    deadline = time.monotonic() + _SETTLE_TIMEOUT_SECONDS
    while True:
        done = await asyncio.to_thread(count)
        show(done)
        if done >= goal or time.monotonic() > deadline:
            return
        await asyncio.sleep(_POLL_SECONDS)


async def _kill_in_mid_work(stack: LocalStack, stores: Stores, names: list[str]) -> None:
    """Kill the named apps one by one, each when some more orders have passed."""
    for number, name in enumerate(names, start=1):
        await _follow(stores.settled, 5 * number, lambda _done: None)
        await stack.supervisor.wait_ready()
        os.kill(stack.supervisor.pid(name), signal.SIGKILL)
        _say(f"killed {name} with SIGKILL")


def _client(stack: LocalStack) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=stack.api_url, headers=bearer(stack.api_key), timeout=10)


async def _timelines(stack: LocalStack, run: _Run) -> list[dict[str, Any]]:
    async with _client(stack) as api:
        return [
            await _until_answered(lambda order_id=order_id: api.get(f"/v1/orders/{order_id}"))  # type: ignore[misc]
            for order_id in run.sent_at
        ]


def _empty(home: Path) -> None:
    """Make room for a run; only what is plainly a demo's own is removed."""
    if (home / "env").exists() or not home.exists() or not any(home.iterdir()):
        return
    if not (home / "data").is_dir():
        raise UsageError(f"--home {home}: holds something else than a demo's data")
    for part in ("data", "logs"):
        shutil.rmtree(home / part, ignore_errors=True)


async def _until_interrupted() -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        result.print("Stopping.")


def _say(message: str) -> None:
    progress.print(f"[dim]{message}[/dim]")
