"""`orderflow import` sends what is valid, tells what is not, and outlasts a broker that is away."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
import typer
from typer.testing import CliRunner, Result

from apps.cli import presets
from apps.cli.errors import UsageError
from apps.cli.import_orders import import_orders
from apps.cli.order_publishing import publish_orders
from apps.kit.publishing import PublishFailed
from contracts import Event, OrderCreated

SAMPLE = Path(presets.__file__).parent / "demo_data" / "online_retail_sample.csv"
HEADER = "order,sku,quantity,unit_price,placed_at\n"


def run(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(import_orders)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def some_orders(count: int) -> list[OrderCreated]:
    example = OrderCreated.model_validate(OrderCreated.example)
    return [example.model_copy(update={"order_id": UUID(int=number)}) for number in range(count)]


class Broker:
    """Confirms events; refuses the first attempts at those it is told to."""

    def __init__(self, failures: dict[int, int] | None = None) -> None:
        self.failures = failures or {}
        self.attempts: list[Event] = []
        self.confirmed: list[Event] = []
        self.in_flight = self.most_in_flight = 0

    async def publish(self, event: Event) -> None:
        assert isinstance(event, OrderCreated)
        self.attempts.append(event)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(0)
        self.in_flight -= 1
        if self.failures.get(event.order_id.int, 0) > 0:
            self.failures[event.order_id.int] -= 1
            raise PublishFailed(event.topic, ConnectionResetError("gone"))
        self.confirmed.append(event)


async def test_window_bounds_what_is_in_flight() -> None:
    """Orders are taken from the file only as the broker confirms."""
    broker = Broker()
    taken = 0

    def counted() -> Iterator[OrderCreated]:
        nonlocal taken
        for order in some_orders(100):
            taken += 1
            assert taken - len(broker.confirmed) <= 7
            yield order

    assert await publish_orders(counted(), broker.publish, window=7) == 100
    assert broker.most_in_flight == 7
    assert len(broker.confirmed) == 100


async def test_unconfirmed_orders_are_sent_again_with_the_same_ids() -> None:
    """A broken connection loses no order and invents none."""
    orders = some_orders(20)
    broker = Broker(failures={3: 2, 4: 1, 19: 3})
    waits: list[str] = []

    await publish_orders(
        orders, broker.publish, window=5, patience_seconds=60, pause_seconds=0, on_wait=waits.append
    )

    assert sorted(event.event_id for event in broker.confirmed) == sorted(order.event_id for order in orders)
    assert len(broker.attempts) == 20 + 6
    assert len(waits) == 6
    assert "gone" in waits[0]


async def test_patience_ends() -> None:
    """An order that stays unconfirmed ends the import, and the rest is not sent behind its back."""
    broker = Broker(failures={0: 10**9})

    with pytest.raises(PublishFailed, match="gone"):
        await publish_orders(some_orders(5), broker.publish, window=1, patience_seconds=0)

    assert broker.confirmed == []


async def test_failure_of_the_source_is_told_as_it_is() -> None:
    """What goes wrong while reading reaches the user under its own name."""

    def broken() -> Iterator[OrderCreated]:
        yield from some_orders(3)
        raise UsageError("the disk is full")

    broker = Broker()
    with pytest.raises(UsageError, match="the disk is full"):
        await publish_orders(broken(), broker.publish, window=2)


def test_dry_run_checks_and_counts() -> None:
    """The real sample passes whole, and nothing but the count comes out."""
    result = run(SAMPLE, "--preset", "online-retail", "--dry-run", "--json")

    summary = json.loads(result.stdout)
    assert result.exit_code == 0
    assert (summary["lines"], summary["orders"], summary["valid"], summary["rejected"]) == (999, 66, 62, 0)
    assert summary["skipped"] == {"cancellation (number begins with C)": 4}
    assert (summary["published"], summary["rejects_file"]) == (0, None)
    assert (summary["delimiter"], summary["decimal"], summary["date_order"]) == (",", ".", "mdy")


def test_rejects_are_shown_and_make_exit_code_1(tmp_path: Path) -> None:
    """A script sees that not everything was valid, a person sees why."""
    path = tmp_path / "orders.csv"
    path.write_text(HEADER + "1,A,1,2.50,2010-12-25\n2,A,-1,2.50,2010-12-25\n")

    result = run(path, "--currency", "gbp", "--dry-run")

    assert result.exit_code == 1
    assert "2 orders in 2 lines: 1 valid, 1 rejected" in result.stdout
    assert "2: line 3: quantity: Input should be greater than or equal to 1" in result.stderr
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--preset", "amazon"], "--preset amazon: there is no such preset, only online-retail"),
        ([], "--currency is needed"),
        (["--currency", "XXX"], "--currency XXX: not an ISO 4217 code"),
        (["--currency", "GBP", "--column", "order"], "--column order: must be FIELD=NAME"),
        (["--currency", "GBP", "--column", "colour=Farbe"], "--column colour=Farbe: must be FIELD=NAME"),
        (["--currency", "GBP", "--column", "email=Mail"], "has no column 'Mail' for email"),
        (["--currency", "GBP", "--delimiter", ";;"], "--delimiter ';;': must be one character, or tab"),
        (["--currency", "GBP", "--decimal", "'"], "--decimal ': must be one of . ,"),
        (["--currency", "GBP", "--date-order", "ydm"], "--date-order ydm: must be one of ymd mdy dmy"),
        (["--currency", "GBP", "--timezone", "Mars"], "--timezone Mars: no such zone"),
        (["--currency", "GBP", "--encoding", "klingon"], "--encoding klingon: no such text encoding"),
        (["--currency", "GBP"], "give --date-order mdy or --date-order dmy"),
        (["--currency", "GBP", "--date-order", "dmy", "--rejects", "orders.csv"], "is the file to import"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    """What was asked for wrongly is said in one sentence that names it."""
    monkeypatch.chdir(tmp_path)
    Path("orders.csv").write_text(HEADER + "1,A,1,2.50,12/1/10\n")

    result = run("orders.csv", *options)

    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)


@pytest.mark.parametrize(("name", "message"), [("absent.csv", "No such file"), (".", "must be a file")])
def test_missing_file_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    """A wrong path is named."""
    monkeypatch.chdir(tmp_path)
    result = run(name, "--currency", "GBP")
    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)
