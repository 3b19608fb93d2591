"""The smoke test of a deployment tells a system that takes orders to its customers from one that does not."""

import asyncio
import os
import re
import shutil
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import pytest
from conftest import System, eventually, names

pytestmark = pytest.mark.connected

SMOKE_TEST = Path(__file__).parents[2] / ".github/actions/rollout/smoke-test"


async def smoke_test(system: System, sku: str) -> tuple[int | None, str]:
    """Its exit code, and what it printed."""
    assert shutil.which("jq"), "jq is missing: apt-get install jq"
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "ORDERFLOW_API_URL": system.stack.api_url,
        "ORDERFLOW_API_KEY": system.stack.api_key,
    }
    process = await asyncio.create_subprocess_exec(
        SMOKE_TEST, sku, "smoke@example.com", env=environment, stdout=PIPE, stderr=STDOUT
    )
    printed, _ = await process.communicate()
    return process.returncode, printed.decode()


async def test_smoke_test_passes_where_an_order_reaches_its_customer_and_leaves_no_invoice_open(
    system: System,
) -> None:
    (sku,) = await system.stock_up(1)

    code, printed = await smoke_test(system, sku)

    cancelled = re.search(r"(\S+) cancelled at", printed)
    assert code == 0, printed
    assert cancelled

    async def credited() -> bool:
        order = await system.order(cancelled[1])
        return order is not None and {"NotificationSent", "InvoiceVoided"} <= names(order)

    await eventually(credited, "the invoice voided by a credit note")


async def test_smoke_test_fails_where_the_order_is_rejected(system: System) -> None:
    """Its customer is told too, so that to wait for the mail alone would not do."""
    code, printed = await smoke_test(system, "nobody-has-it")

    assert code == 1, printed
    assert "is rejected" in printed
