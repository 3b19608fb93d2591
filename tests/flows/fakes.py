"""The ports of every app in memory: they keep what the stores keep, by the same rules."""

import asyncio
from collections.abc import Mapping
from typing import Any, cast
from uuid import UUID

from apps.billing.domain import Draft
from apps.kit.clock import utc_now
from apps.kit.errors import DependencyUnavailable
from apps.notifications.application import Outcome
from apps.notifications.domain import Mail
from apps.orders.domain import effect_of
from apps.orders.mongo import Order, _update
from apps.stock.application import Decision
from apps.stock.domain import Level, adjusted, allocate
from contracts import Event, InvoiceIssued, OrderCreated, StockAdjusted


class WarehouseInMemory:
    """Levels, decisions and adjustments."""

    def __init__(self) -> None:
        self.levels: dict[str, Level] = {}
        self.decisions: dict[UUID, Decision] = {}
        self.adjustments: dict[UUID, StockAdjusted] = {}

    async def reserve(self, order: OrderCreated) -> Decision:
        if order.order_id not in self.decisions:
            available = {sku: level.available for sku, level in self.levels.items()}
            allocation = allocate([order.quantities()], available)
            for sku, taken in allocation.taken.items():
                units = available[sku]
                left = None if units is None else units - taken
                self.levels[sku] = Level(left, self.levels[sku].counted_at)
            self.decisions[order.order_id] = Decision(allocation.reasons[0], utc_now())
        return self.decisions[order.order_id]

    async def adjust(self, adjustment: StockAdjusted) -> None:
        if adjustment.adjustment_id in self.adjustments:
            return
        added_since = sum(
            one.quantity or 0
            for one in self.adjustments.values()
            if (one.sku, one.mode) == (adjustment.sku, "add") and one.adjusted_at > adjustment.adjusted_at
        )
        level = self.levels.get(adjustment.sku, Level())
        self.levels[adjustment.sku] = adjusted(level, adjustment, added_since)
        self.adjustments[adjustment.adjustment_id] = adjustment


class InvoiceBookInMemory:
    """Invoices by order, numbered as they come."""

    def __init__(self) -> None:
        self.invoices: dict[UUID, InvoiceIssued] = {}

    async def issue(self, draft: Draft) -> InvoiceIssued:
        order_id = draft.order.order_id
        if order_id not in self.invoices:
            self.invoices[order_id] = draft.issue(len(self.invoices) + 1, utc_now())
        return self.invoices[order_id]


class ReadModelInMemory:
    """Orders as MongoDB would hold them: the very updates of the adapter, applied to dictionaries."""

    def __init__(self) -> None:
        self.documents: dict[UUID, dict[str, Any]] = {}
        self.arrived: list[Event] = []

    async def record(self, event: Event) -> None:
        self.arrived.append(event)
        update = _update(event, effect_of(event), utc_now())
        order_id = update._filter["_id"]
        operators = cast("Mapping[str, Mapping[str, Any]]", update._doc)
        self.documents[order_id] = applied(self.documents.get(order_id), order_id, operators)

    def order(self, order_id: UUID) -> Order:
        """The order as the ingress reads it."""
        return Order.model_validate_doc(self.documents[order_id])

    def facts(self, order_id: UUID) -> dict[str, Any]:
        """All that is known of an order, but for when it was first heard of."""
        return {name: value for name, value in self.documents[order_id].items() if name != "recorded_at"}


def applied(
    known: Mapping[str, Any] | None, key: UUID, operators: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """A document after an upsert with `$max`, `$set` (also of dotted paths) and `$setOnInsert`."""
    if unknown := operators.keys() - {"$max", "$set", "$setOnInsert"}:
        raise NotImplementedError(f"the fake knows nothing of {unknown}")
    document = dict(known) if known is not None else {"_id": key, **operators.get("$setOnInsert", {})}
    for name, value in operators.get("$max", {}).items():
        document[name] = max(document.get(name, value), value)
    for path, value in operators.get("$set", {}).items():
        outer, _, inner = path.partition(".")
        document[outer] = {**document.get(outer, {}), inner: value} if inner else value
    return document


class PostedMails:
    """A mailer that keeps what it is given, after failing as often as it is told to."""

    def __init__(self, *, failures: int = 0) -> None:
        self.mails: list[Mail] = []
        self.failures = failures

    async def send(self, mail: Mail) -> None:
        await asyncio.sleep(0)  # gives way, as a network would, so that a rival may come in between
        if self.failures:
            self.failures -= 1
            raise DependencyUnavailable("Mail server is away")
        self.mails.append(mail)


class SentTexts:
    """A texter whose texts all arrive."""

    def __init__(self) -> None:
        self.texts: list[tuple[str, str, UUID]] = []

    async def send(self, number: str, text: str, idempotency_key: UUID) -> None:
        self.texts.append((number, text, idempotency_key))


class NotificationLogInMemory:
    """What customers were told; the first entry stays."""

    def __init__(self) -> None:
        self.outcomes: dict[UUID, Outcome] = {}

    async def find(self, notification_id: UUID) -> Outcome | None:
        await asyncio.sleep(0)
        return self.outcomes.get(notification_id)

    async def record(self, outcome: Outcome) -> None:
        self.outcomes.setdefault(outcome.notification_id, outcome)
