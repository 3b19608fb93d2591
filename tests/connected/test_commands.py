"""The command line against the running system, as a person in another terminal uses it."""

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
from conftest import PREFIX, System, eventually

from apps.cli.demo_plan import SAMPLE
from apps.cli.order_csv import order_id

pytestmark = pytest.mark.connected


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str


async def orderflow(system: System | None, *arguments: str, **settings: str) -> Result:
    """Run a command to its end."""
    addresses = system.stack.addresses | {"ORDERFLOW_DATABASE_PREFIX": PREFIX} if system else {}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "apps.cli.main",
        *arguments,
        env={**os.environ, "COLUMNS": "200", **addresses, **settings},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return Result(process.returncode or 0, out.decode(), err.decode())


async def test_order_is_placed_watched_shown_and_listed(system: System) -> None:
    """From `order place` to `order watch` and `order list`, a person follows one order to its end."""
    (sku,) = await system.stock_up(10)
    line, reference = f"{sku}=2@1.50", f"ref-{sku}"

    placed = await orderflow(
        system,
        "order",
        "place",
        "--line",
        line,
        "--reference",
        reference,
        "--email",
        "a@example.com",
        "--json",
    )
    assert placed.code == 0, placed.err
    accepted = json.loads(placed.out)
    assert accepted["total"] == "3.00"
    watched = await orderflow(system, "order", "watch", accepted["order_id"])
    assert watched.code == 0
    events = [row.split()[1] for row in watched.out.splitlines()[:-1]]
    assert sorted(events) == ["InvoiceIssued", "NotificationSent", "OrderCreated", "OrderValidated"]
    assert watched.out.splitlines()[-1] == "notified"
    shown = await orderflow(system, "order", "show", accepted["order_id"])
    assert sku in shown.out
    assert "InvoiceIssued" in shown.out
    listed = await orderflow(system, "order", "list", "--reference", reference, "--json")
    (order,) = json.loads(listed.out)["orders"]
    assert (order["order_id"], order["status"]) == (accepted["order_id"], "notified")


async def test_stock_is_set_loaded_and_listed(system: System, tmp_path: Path) -> None:
    """Levels set by hand and from a file show in `stock list`, unlimited ones as such."""
    skus = [f"sku-{uuid4().hex[:12]}" for _ in range(3)]
    counts = tmp_path / "counts.csv"
    counts.write_text(f"sku,quantity\n{skus[1]},7\n{skus[2]},unlimited\n")

    assert (await orderflow(system, "stock", "set", skus[0], "5")).code == 0
    loaded = await orderflow(system, "stock", "load", str(counts))
    assert (loaded.code, loaded.out) == (0, "2 counts published\n")

    async def known() -> list[dict[str, object]] | None:
        listed = await orderflow(system, "stock", "list", *skus, "--json")
        levels = json.loads(listed.out)
        return levels if len(levels) == 3 else None

    levels = {level["sku"]: level["available"] for level in await eventually(known, "three levels")}
    assert levels == {skus[0]: 5, skus[1]: 7, skus[2]: None}
    assert "unlimited" in (await orderflow(system, "stock", "list", skus[2])).out


async def test_import_of_the_sample_makes_its_orders_once(system: System) -> None:
    """The 62 orders of the real file arrive; importing it again publishes them again and changes nothing."""
    source = f"shop-{uuid4().hex[:8]}"
    command = ("import", str(SAMPLE), "--preset", "online-retail", "--source", source, "--json")

    first = await orderflow(system, *command)
    assert first.code == 0, first.err
    summary = json.loads(first.out)
    assert (summary["published"], summary["rejected"], sum(summary["skipped"].values())) == (62, 0, 4)
    orders = system.database("orders")["orders"]
    ids = [order_id(source, str(number)) for number in range(536365, 536600)]

    async def seen(times: int) -> bool:
        log = (system.stack.logs / "stock.log").read_text()
        return all(
            sum(str(one) in line and '"handled"' in line for line in log.splitlines()) >= times
            for one in (ids[0], order_id(source, "536370"), order_id(source, "536412"))
        )

    async def all_shown() -> bool:
        return await orders.count_documents({"_id": {"$in": ids}, "content": {"$ne": None}}) == 62

    async def all_decided() -> bool:
        return len(await _decisions(system, ids)) == 62

    await eventually(all_shown, "62 orders in the read model")
    await eventually(all_decided, "62 decisions")
    before = await _decisions(system, ids)

    assert (await orderflow(system, *command)).code == 0

    await eventually(lambda: seen(2), "the second import handled")
    assert await orders.count_documents({"_id": {"$in": ids}}) == 62
    assert await _decisions(system, ids) == before


async def _decisions(system: System, ids: list[UUID]) -> dict[UUID, object]:
    reservations = system.database("stock")["reservations"]
    return {each["_id"]: each["decided_at"] async for each in reservations.find({"_id": {"$in": ids}})}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("order", "place", "--line", "sku"), "--line sku: must be SKU=QUANTITY@PRICE"),
        (("order", "place", "--line", "sku=1@1.5"), "unit_price 1.5 must have exactly 2 decimals (GBP)"),
        (("order", "place"), "either by --line or by --file"),
        (("order", "show", "no-uuid"), "order_id"),
        (("order", "show", str(UUID(int=1))), "no order"),
        (("order", "list", "--status", "lost"), "status"),
        (("order", "list", "--cursor", "x"), "cursor"),
        (("stock", "set", "sku", "many"), "neither a whole number nor 'unlimited'"),
        (("stock", "set", "sku", "-1"), "-1"),
        (("stock", "load", "no-such-file.csv"), "no-such-file.csv: No such file or directory"),
        (("import", "no-such-file.csv", "--preset", "online-retail"), "no-such-file.csv"),
        (("demo", "--kill", "nobody"), "--kill nobody"),
        (("dead-letters", "show", "no-uuid"), "dead_letter_id"),
        (("dead-letters", "show", str(UUID(int=1))), "no dead letter"),
        (("dead-letters", "show", "groups?state=all"), "dead_letter_id"),
        (("dead-letters", "list", "--state", "lost"), "state"),
        (("dead-letters", "list", "--cursor", "x"), "cursor"),
        (("dead-letters", "replay"), "--group"),
        (("dead-letters", "replay", str(UUID(int=1)), "--all"), "--all"),
        (("dead-letters", "replay", "--all"), "give --yes"),
        (("dead-letters", "discard", str(UUID(int=1))), "--reason"),
        (("dead-letters", "discard", "--reason", "x"), "--group"),
        (("dead-letters", "export", "--output", "no/such/folder"), "no/such/folder"),
        (("webhooks", "remove", ""), "/v1/webhook-endpoints/ answers 307"),
        (("no-such-command",), "no-such-command"),
        (("order", "list", "--limit", "many"), "limit"),
    ],
)
async def test_bad_input_is_one_line_and_exit_code_2(
    system: System, arguments: tuple[str, ...], words: str
) -> None:
    """Whatever is wrong is said in one line on standard error, and nothing on standard output."""
    result = await orderflow(system, *arguments)

    assert result.code == 2
    assert result.out == ""
    assert len(result.err.splitlines()) == 1, result.err
    assert result.err.startswith("orderflow: ")
    assert words in result.err


async def test_system_that_is_not_there_is_one_line_and_exit_code_1() -> None:
    """With nothing running, commands say who does not answer, and leave no traceback."""
    nowhere = {
        "ORDERFLOW_API_URL": "http://127.0.0.1:9",
        "ORDERFLOW_RABBITMQ_URL": "amqp://guest:guest@127.0.0.1:9/",
        "ORDERFLOW_MONGODB_URL": "mongodb://127.0.0.1:9/",
    }
    for arguments in (("order", "list"), ("stock", "set", "sku", "1"), ("stock", "list")):
        result = await orderflow(None, *arguments, **nowhere)
        assert result.code == 1
        assert len(result.err.splitlines()) == 1, result.err
        assert "127.0.0.1:9" in result.err or "ORDERFLOW_MONGODB_URL" in result.err


async def test_topology_in_the_broker_is_the_one_in_the_code(system: System) -> None:
    """After `topology apply`, also a second time, RabbitMQ holds exactly the queues and bindings shown."""
    node = system.stack.rabbitmq
    url = await asyncio.to_thread(node.create_vhost, "topology")
    for _ in range(2):
        applied = await orderflow(system, "topology", "apply", ORDERFLOW_RABBITMQ_URL=url)
        assert applied.code == 0, applied.err
    shown = json.loads((await orderflow(system, "topology", "show", "--json")).out)

    async with httpx.AsyncClient(base_url=node.management_url, auth=node.login) as http:
        queues = (await http.get("/api/queues/topology")).json()
        bindings = (await http.get("/api/bindings/topology")).json()
        (events,) = [e for e in (await http.get("/api/exchanges/topology")).json() if e["name"] == "events"]

    assert {queue["name"]: queue["arguments"] for queue in queues} == {
        row["queue"]: {"x-queue-type": "quorum"} | row["arguments"] for row in shown
    }
    assert {(b["source"], b["destination"], b["routing_key"]) for b in bindings if b["source"]} == {
        (row["exchange"], row["queue"], row["routing_key"]) for row in shown
    }
    assert events["arguments"] == {"alternate-exchange": "unrouted"}


async def test_demo_balances_its_books_although_apps_are_killed(tmp_path: Path) -> None:
    """The demo on its own services, with three apps killed in mid-work, still ends with balanced books."""
    kills = [option for app in ("stock", "billing", "api") for option in ("--kill", app)]

    result = await orderflow(None, "demo", "--home", str(tmp_path / "demo"), *kills)

    assert result.code == 0, result.out + result.err
    assert "The books balance." in result.out
    assert "Apps restarted" in result.out
    assert not (tmp_path / "demo" / "env").exists()
