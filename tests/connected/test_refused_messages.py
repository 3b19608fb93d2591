"""A message that will never be taken is an outcome of its order, once, and no dead letter."""

import pytest
from conftest import System, eventually, names, new_order

from contracts import InvoiceIssued

pytestmark = pytest.mark.connected

NO_ADDRESS = "ana.souza@example..com"


async def test_refused_mail_is_told_and_kept(system: System) -> None:
    """The timeline has the failure, the log its reason, and the event again changes neither."""
    (sku,) = await system.stock_up(10)
    order = new_order((sku, 1), email=NO_ADDRESS)
    await system.publish(order)

    async def failed() -> bool:
        return "NotificationFailed" in names(await system.order(order.order_id) or {"timeline": []})

    await eventually(failed, "the notification has failed")
    invoice = await system.database("billing")["invoices"].find_one({"_id": order.order_id})
    log = system.database("notifications")["notifications"]
    [entry] = await log.find({"order_id": order.order_id}).to_list(None)
    assert entry["channel"] is None
    assert entry["event"]["reason"] == "The mail server refuses the mail with code 553"
    assert entry["event"]["recipient"] == "a***@example..com"

    issued = InvoiceIssued.model_validate(invoice["event"])
    await system.publish(issued)
    await system.handled("orders", order.order_id, "notification.failed.v1", times=2)
    assert await log.find({"order_id": order.order_id}).to_list(None) == [entry]
    letters = system.database("recovery")["dead_letters"]
    assert await letters.count_documents({"correlation_id": str(order.order_id)}) == 0
    assert NO_ADDRESS not in (system.stack.logs / "notifications.log").read_text()
