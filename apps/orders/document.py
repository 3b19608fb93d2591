"""The document of an order, and the updates that make it whatever the order of arrival."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from odmantic import Field, Model
from pydantic import AwareDatetime
from pymongo import ASCENDING, DESCENDING, IndexModel, UpdateOne

from apps.orders.application import AcceptedOrder, Announcement
from apps.orders.domain import CONSEQUENCES, FROM_THE_START, Status, Step, effect_of
from contracts import Event, OrderCancelled, OrderCreated


@dataclass(frozen=True)
class Outbox:
    """Events of one kind that the ingress has accepted, each in its order until RabbitMQ has it."""

    event: type[Announcement]
    since: str
    """The field that tells when it was accepted."""
    publish_at: str
    """The field that tells when the relay may publish it; absent once it is published."""
    claim: str
    """The field that marks those that a relay has claimed together."""
    trace: str
    """The field that holds the trace of the request that it was accepted with."""
    index: str

    @property
    def pending(self) -> dict[str, Any]:
        """The condition for an order that holds such an event."""
        return {self.publish_at: {"$type": "date"}}

    @property
    def published(self) -> dict[str, str]:
        """The fields to remove once the event is published."""
        return {self.publish_at: "", self.claim: ""}


PLACED = Outbox(
    OrderCreated, "recorded_at", "publish_at", "claim", "trace", "unpublished_orders_oldest_first"
)
CANCELLED = Outbox(
    OrderCancelled,
    "cancellation.cancelled_at",
    "cancel_publish_at",
    "cancel_claim",
    "cancel_trace",
    "unpublished_cancellations_oldest_first",
)
OUTBOXES = (PLACED, CANCELLED)
UNDER_WAY: dict[str, Any] = {
    "$or": [
        {"awaits": {"$gt": {}}},  # each document that holds something is greater than the empty one
        *({**{field: {"$exists": True} for field in one.of}, one.until: None} for one in CONSEQUENCES),
    ]
}
"""An order that awaits anything, as `Order.awaited` tells it."""
AWAITING_INDEX = "awaiting"
"""Of these orders only. MongoDB 6 does not see by itself that it serves a query with further conditions."""


class Order(Model):
    """One order under its id, filled in by whoever knows something of it first."""

    id: UUID = Field(primary_field=True)
    rank: int
    """Rank of the status; only ever rises."""
    recorded_at: AwareDatetime
    """When the first trace of the order was stored; never changes, so lists are stable by it."""
    changed_at: AwareDatetime
    """When the last event about it was recorded, or its cancellation accepted, by MongoDB's clock; before the
    first, when it came in."""
    awaits: dict[str, bool] = {}
    """The steps that nothing was heard of yet, but for those that follow from what else is known."""
    content: dict[str, Any] | None = None
    """Customer, currency, lines, total and time as in OrderCreated, in JSON, as far as they are known."""
    reference: str | None = None
    customer_id: str | None = None
    client: str | None = None
    """The client whose key placed it; absent if the key was bound to none, or it came over RabbitMQ."""
    reasons: list[dict[str, Any]] = []
    invoice_number: str | None = None
    credit_note_number: str | None = None
    cancellation: dict[str, Any] | None = None
    """Time, reason, reference and customer of OrderCancelled; the earliest of those that were told."""
    cancellation_told: bool | None = None
    credit_note_told: bool | None = None
    """That the customer was told of it, or could not or was not to be; absent until then."""
    events: dict[str, dict[str, Any]] = {}
    """Name and time of every event seen, and its detail if it has one, by event id."""
    dead_letters: dict[str, dict[str, Any]] = {}
    """What was `opened` and what was `closed`, by occurrence: either may be heard of first."""
    idempotency_key: str | None = None
    fingerprint: str | None = None
    """SHA-256 of the request that came with the idempotency key."""
    publish_at: AwareDatetime | None = None
    """When the relay may publish the order; absent once RabbitMQ has confirmed it, or it came back."""
    claim: UUID | None = None
    """Marks the orders that a relay has claimed together."""
    trace: dict[str, str] | None = None
    """The headers of the trace in which it was accepted; absent if it came over RabbitMQ."""
    cancel_publish_at: AwareDatetime | None = None
    cancel_claim: UUID | None = None
    cancel_trace: dict[str, str] | None = None
    """As `publish_at`, `claim` and `trace`, for the cancellation."""

    model_config = {
        "collection": "orders",
        "indexes": lambda: [
            IndexModel([("recorded_at", DESCENDING), ("_id", DESCENDING)], name="newest"),
            IndexModel(
                [("rank", ASCENDING), ("recorded_at", DESCENDING), ("_id", DESCENDING)], name="by_status"
            ),
            IndexModel(
                [("customer_id", ASCENDING), ("recorded_at", DESCENDING), ("_id", DESCENDING)],
                name="by_customer",
            ),
            IndexModel(
                [("reference", ASCENDING), ("recorded_at", DESCENDING), ("_id", DESCENDING)],
                name="by_reference",
            ),
            IndexModel(
                [("client", ASCENDING), ("recorded_at", DESCENDING), ("_id", DESCENDING)],
                name="by_client",
                partialFilterExpression={"client": {"$type": "string"}},
            ),
            IndexModel(
                [("idempotency_key", ASCENDING)],
                name="idempotency_key",
                unique=True,
                partialFilterExpression={"idempotency_key": {"$type": "string"}},
            ),
            *(
                IndexModel(
                    [(outbox.since, ASCENDING), (outbox.publish_at, ASCENDING)],
                    name=outbox.index,
                    partialFilterExpression=outbox.pending,
                )
                for outbox in OUTBOXES
            ),
            IndexModel(
                [("changed_at", ASCENDING), ("_id", ASCENDING)],
                name=AWAITING_INDEX,
                partialFilterExpression=UNDER_WAY,
            ),
        ],
    }

    @property
    def created(self) -> OrderCreated | None:
        """The event that announced the order; None while not all of its content is known."""
        if self.content is None or "placed_at" not in self.content:
            return None
        return OrderCreated(order_id=self.id, reference=self.reference, **self.content)

    @property
    def cancelled(self) -> OrderCancelled | None:
        """The event that announces its cancellation; None while it is not cancelled."""
        if self.cancellation is None:
            return None
        return OrderCancelled(order_id=self.id, **self.cancellation)

    @property
    def customer_and_reference(self) -> tuple[str | None, str | None]:
        """The order's own; while they are not known, those that its cancellation names."""
        if self.customer_id is None and self.cancellation is not None:
            return self.cancellation["customer"]["id"], self.cancellation["reference"]
        return self.customer_id, self.reference

    @property
    def awaited(self) -> Sequence[Step]:
        """The steps that it still awaits; none once it is through."""
        following = {
            one.step
            for one in CONSEQUENCES
            if getattr(self, one.until) is None and all(getattr(self, field) is not None for field in one.of)
        }
        return [step for step in Step if step in self.awaits or step in following]

    @property
    def announcements(self) -> Sequence[Announcement]:
        """The events by which whoever missed something of the order learns all of it, as far as known."""
        return [event for event in (self.created, self.cancelled) if event is not None]


def update_of(event: Event, now: datetime, *, if_new: bool = False) -> UpdateOne:
    """An upsert that leaves the same document whatever came before it or comes after.

    Args:
        event: what was heard.
        now: when.
        if_new: refuse to repeat it, by a duplicate key: what was heard before matches no document, and an
            order of that id is there.
    """
    effect = effect_of(event)
    entry = f"events.{event.event_id}"
    update: dict[str, dict[str, Any]] = {
        "$set": {**effect.facts, f"{entry}.event": type(event).__name__},
        "$min": {f"{entry}.at": event.occurred_at},  # of two who cancel one order, the earlier counts
        "$currentDate": {"changed_at": True},
        "$setOnInsert": {
            "recorded_at": now,
            **{f"awaits.{step}": True for step in FROM_THE_START if step not in effect.steps},
        },
    }
    if effect.detail is not None:
        update["$set"][f"{entry}.detail"] = effect.detail
    if effect.status is None:
        update["$setOnInsert"]["rank"] = Status.RECEIVED.rank
    else:
        update["$max"] = {"rank": effect.status.rank}
    if effect.cancellation is not None:
        update["$min"]["cancellation"] = effect.cancellation
    done = {f"awaits.{step}": "" for step in effect.steps}
    for outbox in OUTBOXES:
        if isinstance(event, outbox.event):
            done |= outbox.published
    if done:
        update["$unset"] = done
    unheard = {entry: {"$exists": False}} if if_new else {}
    return UpdateOne({"_id": UUID(event.correlation_id), **unheard}, update, upsert=True)


def received(order: AcceptedOrder) -> dict[str, Any]:
    """The document of an order that the ingress has taken and nobody has announced yet.

    Made by hand: an `Order` would check what the contract has checked, at ten times the cost. What is not
    known yet stays absent, since a null would be the least of all, and so the earliest.
    """
    event = order.event
    return {
        "_id": event.order_id,
        "rank": Status.RECEIVED.rank,
        "recorded_at": event.placed_at,
        "changed_at": event.placed_at,
        "awaits": dict.fromkeys(FROM_THE_START, True),
        "content": event.model_dump(mode="json", exclude={"order_id", "reference"}),
        "reference": event.reference,
        "customer_id": event.customer.id,
        "client": order.client,
        "idempotency_key": order.idempotency_key,
        "fingerprint": order.fingerprint,
        "publish_at": order.publish_at,
        "trace": order.trace,
    }


def accepted(document: dict[str, Any]) -> AcceptedOrder:
    """What the ingress has taken, from its document."""
    return AcceptedOrder(
        event=OrderCreated(order_id=document["_id"], reference=document["reference"], **document["content"]),
        publish_at=document.get("publish_at", document["recorded_at"]),
        idempotency_key=document["idempotency_key"],
        fingerprint=document["fingerprint"],
    )
