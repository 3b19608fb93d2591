"""A message that will never be taken is an outcome of its order, once, and no dead letter."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
from conftest import System, eventually, names, new_order

from apps.kit.mongo import open_database
from apps.kit.settings import Settings
from apps.notifications.mongo import DOCUMENTS, MongoNotificationLog
from contracts import InvoiceIssued, NotificationFailed, NotificationSent, NotificationSkipped

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


async def test_entry_without_contact_gives_way_once(system: System) -> None:
    """Entries in one insert, new, repeated or better than what is there, end as one per message."""
    settings = Settings.model_validate(
        {"mongodb_url": system.stack.mongodb_url, "database_prefix": "orderflow_log"}
    )
    ids = [UUID(int=number) for number in range(3)]

    def of(kind: type[Any], number: int, **changes: str) -> Any:
        return kind.model_validate(kind.example | {"notification_id": ids[number]} | changes)

    switched_off = of(NotificationSkipped, 1, reason="switched_off")
    sent, failed = of(NotificationSent, 0), of(NotificationFailed, 0)
    async with open_database("notifications", *DOCUMENTS, settings=settings) as database:
        log, rival = MongoNotificationLog(database), MongoNotificationLog(database)
        skipped = await log.record(of(NotificationSkipped, 0))
        await log.record(switched_off)

        kept = await asyncio.gather(
            *map(log.record, (skipped, sent, of(NotificationSent, 1), of(NotificationSent, 2)))
        )
        late = await asyncio.gather(*map(rival.record, (failed, skipped)))

        assert kept[1:] == [sent, switched_off, of(NotificationSent, 2)]
        assert late == [sent, sent]
        assert [await log.find(one) for one in ids] == kept[1:]
