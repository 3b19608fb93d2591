"""Invoice numbers stay unique, increasing and without gaps, however many workers take them."""

import asyncio
import os
import sys
from pathlib import Path

import pytest
from conftest import PREFIX, System, eventually, new_order

from apps.cli.local.ports import free_port
from apps.cli.local.supervisor import Supervisor
from contracts import OrderValidated

pytestmark = pytest.mark.connected


async def test_numbers_are_gapless_under_eight_concurrent_workers(system: System, tmp_path: Path) -> None:
    """Eight billing processes share one series: 400 invoices, no number twice and none left out."""
    workers = Supervisor(tmp_path)
    # At `debug` there is a line for each message that is handled.
    settings = {"ORDERFLOW_DATABASE_PREFIX": PREFIX, "ORDERFLOW_LOG_LEVEL": "debug"}
    environment = os.environ | system.stack.addresses | settings
    for number in range(7):
        port = free_port()
        listen = ["--host", "127.0.0.1", "--port", str(port)]
        workers.add(
            f"billing-{number}",
            [sys.executable, "-m", "faststream", "run", "apps.billing.app:app", *listen],
            environment,
            f"http://127.0.0.1:{port}/health/ready",
        )
    await workers.start()
    try:
        await workers.wait_ready(90)
        orders = [new_order(("any", 1)) for _ in range(400)]
        validated = [
            OrderValidated.of(
                order, order_id=order.order_id, placed_at=order.placed_at, validated_at=order.placed_at
            )
            for order in orders
        ]
        await asyncio.gather(*(system.publish(event) for event in validated))
        invoices = system.database("billing")["invoices"]
        ids = [order.order_id for order in orders]

        async def all_issued() -> bool:
            return await invoices.count_documents({"_id": {"$in": ids}}) == 400

        await eventually(all_issued, "400 invoices", 90)
    finally:
        await workers.stop()

    issued = [
        (int(i["number"][5:]), i["issued_at"])
        async for i in invoices.find({"event": {"$ne": None}}).sort("number")
    ]
    assert [number for number, _ in issued] == list(range(1, len(issued) + 1))
    shares = [log.read_text().count('"handled"') for log in tmp_path.glob("billing-*.log")]
    assert sum(share > 0 for share in shares) >= 4, f"the load was not shared: {shares}"
