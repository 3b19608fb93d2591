"""The ports of every app in memory: they keep what the stores keep, by the same rules."""

import asyncio
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, cast
from uuid import UUID

from apps.billing.domain import Draft, voided
from apps.documents.application import Press
from apps.documents.domain import Statement, paper_of
from apps.kit.clock import utc_now
from apps.kit.errors import DependencyUnavailable
from apps.notifications.application import Outcome, lacked_contact
from apps.notifications.domain import Mail
from apps.notifications.smtp import MailRefused
from apps.orders.document import Order, update_of
from apps.stock.application import Decision
from apps.stock.domain import CANCELLED, Level, adjusted, allocate, released
from contracts import Event, InvoiceIssued, InvoiceVoided, OrderCancelled, OrderCreated, StockAdjusted


class WarehouseInMemory:
    """Levels, decisions and adjustments."""

    def __init__(self) -> None:
        self.levels: dict[str, Level] = {}
        self.decisions: dict[UUID, Decision] = {}
        self.taken: dict[UUID, Mapping[str, int]] = {}
        """What orders have reserved and not given back."""
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
            self.taken[order.order_id] = allocation.taken
        return self.decisions[order.order_id]

    async def release(self, cancellation: OrderCancelled) -> None:
        self.decisions.setdefault(cancellation.order_id, Decision((CANCELLED,), utc_now()))
        for sku, units in self.taken.pop(cancellation.order_id, {}).items():
            self.levels[sku] = released(self.levels[sku], units)

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
        self.credit_notes: dict[UUID, InvoiceVoided] = {}
        self.never: set[UUID] = set()
        """Orders that were cancelled before they had an invoice."""

    async def issue(self, draft: Draft) -> InvoiceIssued | None:
        order_id = draft.order.order_id
        if order_id in self.never:
            return None
        if order_id not in self.invoices:
            self.invoices[order_id] = draft.issue(len(self.invoices) + 1, utc_now())
        return self.invoices[order_id]

    async def void(self, cancellation: OrderCancelled) -> InvoiceVoided | None:
        order_id = cancellation.order_id
        if order_id not in self.invoices:
            self.never.add(order_id)
            return None
        if order_id not in self.credit_notes:
            sequence = len(self.credit_notes) + 1
            self.credit_notes[order_id] = voided(self.invoices[order_id], cancellation, sequence, utc_now())
        return self.credit_notes[order_id]


class ReadModelInMemory:
    """Orders as MongoDB would hold them: the very updates of the adapter, applied to dictionaries."""

    def __init__(self) -> None:
        self.documents: dict[UUID, dict[str, Any]] = {}
        self.arrived: list[Event] = []

    async def record(self, event: Event) -> None:
        self.arrived.append(event)
        update = update_of(event, utc_now())
        order_id = update._filter["_id"]
        operators = cast("Mapping[str, Mapping[str, Any]]", update._doc)
        self.documents[order_id] = applied(self.documents.get(order_id), order_id, operators)

    def order(self, order_id: UUID) -> Order:
        """The order as the ingress reads it."""
        return Order.model_validate_doc(self.documents[order_id])

    def facts(self, order_id: UUID) -> dict[str, Any]:
        """All that is known of an order, but for when it was heard of."""
        times = {"recorded_at", "changed_at"}
        return {name: value for name, value in self.documents[order_id].items() if name not in times}


def applied(
    known: Mapping[str, Any] | None, key: UUID, operators: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """A document after an upsert by the operators that the read model uses, also of dotted paths."""
    if unknown := operators.keys() - {"$max", "$min", "$set", "$unset", "$currentDate", "$setOnInsert"}:
        raise NotImplementedError(f"the fake knows nothing of {unknown}")
    paths = [path for fields in operators.values() for path in fields]
    if clash := {one for one in paths for other in paths if one != other and other.startswith(f"{one}.")}:
        raise ValueError(f"MongoDB refuses to write a field and a part of it at once: {clash}")
    if len(paths) > len(set(paths)):
        raise ValueError("MongoDB refuses to write a field twice at once")
    document = deepcopy(dict(known)) if known is not None else {"_id": key}
    if known is None:
        for path, value in operators.get("$setOnInsert", {}).items():
            _place(document, path)[_last(path)] = value
    _keep_extremes(document, operators)
    for path, value in operators.get("$set", {}).items():
        _place(document, path)[_last(path)] = value
    for path in operators.get("$currentDate", {}):
        _place(document, path)[_last(path)] = utc_now()
    for path in operators.get("$unset", {}):
        _place(document, path).pop(_last(path), None)
    return document


def _keep_extremes(document: dict[str, Any], operators: Mapping[str, Mapping[str, Any]]) -> None:
    for operator, pick in (("$max", max), ("$min", min)):
        for path, value in operators.get(operator, {}).items():
            place = _place(document, path)
            place[_last(path)] = pick(place.get(_last(path), value), value, key=_comparable)


def _comparable(value: Any) -> Any:
    """Documents compare by their values, in turn."""
    return [str(part) for part in value.values()] if isinstance(value, Mapping) else value


def _place(document: dict[str, Any], path: str) -> dict[str, Any]:
    """The document that holds the field at the end of a dotted path."""
    for name in path.split(".")[:-1]:
        document = document.setdefault(name, {})
    return document


def _last(path: str) -> str:
    return path.rpartition(".")[2]


class PostedMails:
    """A mailer that keeps what it is given, after failing and refusing as often as it is told to."""

    def __init__(self, *, failures: int = 0) -> None:
        self.mails: list[Mail] = []
        self.failures = failures
        self.refusals = 0

    async def send(self, mail: Mail) -> None:
        await asyncio.sleep(0)  # gives way, as a network would, so that a rival may come in between
        if self.failures:
            self.failures -= 1
            raise DependencyUnavailable("Mail server is away")
        if self.refusals:
            self.refusals -= 1
            raise MailRefused(550)
        self.mails.append(mail)


class SentTexts:
    """A texter whose texts all arrive, after failing as often as it is told to."""

    def __init__(self) -> None:
        self.texts: list[tuple[str, str, UUID]] = []
        self.failures = 0

    async def send(self, number: str, text: str, idempotency_key: UUID) -> None:
        if self.failures:
            self.failures -= 1
            raise DependencyUnavailable("SMS provider is away")
        self.texts.append((number, text, idempotency_key))


class NotificationLogInMemory:
    """What customers were told; the first entry stays, unless there was no way to the customer."""

    def __init__(self) -> None:
        self.outcomes: dict[UUID, Outcome] = {}

    async def find(self, notification_id: UUID) -> Outcome | None:
        await asyncio.sleep(0)
        return self.outcomes.get(notification_id)

    async def record(self, outcome: Outcome) -> Outcome:
        known = self.outcomes.get(outcome.notification_id)
        if known is None or (lacked_contact(known) and not lacked_contact(outcome)):
            self.outcomes[outcome.notification_id] = outcome
        return self.outcomes[outcome.notification_id]


class StoredEvents:
    """The events that endpoints would be sent."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    async def add(self, event: Event) -> None:
        self.events.append(event)


class PressInMemory(Press):
    """What documents would state, by their path."""

    def __init__(self) -> None:
        self.made: dict[str, Statement] = {}

    async def make(self, statement: Statement) -> None:
        self.made.setdefault(paper_of(statement).path, statement)
