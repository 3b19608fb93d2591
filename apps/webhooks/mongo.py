"""Webhooks in MongoDB: endpoints, and one document per delivery, which is its own queue entry and log."""

import asyncio
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from odmantic import Field, Model
from pydantic import AwareDatetime
from pymongo import ASCENDING, DESCENDING, IndexModel, ReturnDocument
from pymongo.errors import BulkWriteError

from apps.kit.batching import GroupCommit
from apps.kit.clock import utc_now
from apps.kit.mongo import Database, is_duplicate_key, parsed
from apps.kit.settings import get_settings
from apps.kit.tracing import carried
from apps.webhooks.domain import Attempt, State, body_of, delivery_id, wants
from contracts import Event

_KEPT_ATTEMPTS = 50
_LARGEST_GROUP = 10
"""Events in one write: each may become a delivery to every endpoint."""
NEWEST_FIRST = [("created_at", DESCENDING), ("_id", DESCENDING)]


class Endpoint(Model):
    """A customer's system that receives events."""

    id: UUID = Field(primary_field=True)
    url: str
    description: str | None = None
    event_types: list[str]
    """Topics; empty for all."""
    enabled: bool
    secrets: list[dict[str, Any]]
    """The present secret, encrypted, then the one before it and until when that is valid."""
    created_at: AwareDatetime
    failing_since: AwareDatetime | None = None
    """The first failure of the present run of failures."""
    last_failed_at: AwareDatetime | None = None
    last_error: str | None = None
    disabled_at: AwareDatetime | None = None
    """When it was disabled for its failures; None if somebody did it."""
    disabled_reason: str | None = None
    announcements: list[dict[str, Any]] = []
    """Each WebhookEndpointDisabled that RabbitMQ has not confirmed yet."""

    model_config = {"collection": "endpoints"}


class Delivery(Model):
    """An event on its way to one endpoint, with every attempt."""

    id: UUID = Field(primary_field=True)
    endpoint_id: UUID
    webhook_id: str
    """The event's id, the same at every attempt."""
    event_type: str
    body: bytes
    """Made once, so that each attempt sends and signs the same bytes."""
    trace: dict[str, str] = {}
    """The headers of the trace that every attempt belongs to; none if it came without one."""
    state: str
    due_at: AwareDatetime
    """When to try next; while an attempt is under way, when it counts as lost."""
    claim: UUID | None = None
    """The attempt that is under way."""
    tries: int = 0
    """Attempts since it was stored or last resent."""
    attempts: list[dict[str, Any]] = []
    created_at: AwareDatetime
    expires_at: AwareDatetime | None = None
    """Set at its end."""

    model_config = {
        "collection": "deliveries",
        "indexes": lambda: [
            IndexModel(
                [("endpoint_id", ASCENDING), ("due_at", ASCENDING)],
                name="due",
                partialFilterExpression={"state": State.PENDING.value},
            ),
            IndexModel([("endpoint_id", ASCENDING), *NEWEST_FIRST], name="log"),
            IndexModel([("expires_at", ASCENDING)], name="expiry", expireAfterSeconds=0),
        ],
    }


DOCUMENTS = (Endpoint, Delivery)


def new_delivery(
    endpoint_id: UUID, webhook_id: UUID, event_type: str, body: bytes, trace: dict[str, str] | None = None
) -> Delivery:
    """A delivery that is due at once, in the present trace unless another is given."""
    now = utc_now()
    return Delivery(
        id=delivery_id(endpoint_id, webhook_id),
        endpoint_id=endpoint_id,
        webhook_id=str(webhook_id),
        event_type=event_type,
        body=body,
        trace=carried() if trace is None else trace,
        state=State.PENDING,
        due_at=now,
        created_at=now,
    )


class MongoOutbox:
    """The deliveries from the worker's side: concurrent events share one write, attempts are leased."""

    def __init__(self, database: Database) -> None:
        self._endpoints = database.collection(Endpoint)
        self._deliveries = database.collection(Delivery)
        self._events = GroupCommit("deliveries", self._add_group, _LARGEST_GROUP)

    async def add(self, event: Event) -> None:
        await self._events.add((event, carried()))

    async def _add_group(self, events: Sequence[tuple[Event, dict[str, str]]]) -> Sequence[None]:
        # Also for those that were disabled for their failures: there it ends as failed, and can be resent.
        receiving = {"$or": [{"enabled": True}, {"disabled_at": {"$ne": None}}]}
        endpoints = await self._endpoints.find(receiving, {"event_types": 1}).to_list(None)
        # By id, since one group may hold the same event twice.
        fresh: dict[UUID, dict[str, Any]] = {}
        for event, trace in events:
            if wanted_by := [one["_id"] for one in endpoints if wants(one["event_types"], event.topic)]:
                body = body_of(event)
                for endpoint_id in wanted_by:
                    delivery = new_delivery(endpoint_id, event.event_id, event.topic, body, trace)
                    fresh[delivery.id] = delivery.model_dump_doc()
                    await asyncio.sleep(0)  # there may be two hundred, and others wait
        if fresh:
            try:
                await self._deliveries.insert_many(list(fresh.values()), ordered=False)
            except BulkWriteError as error:
                if not is_duplicate_key(error):
                    raise
        return [None] * len(events)

    async def claim(
        self,
        after: UUID,
        lease: timedelta,
        *,
        passed_over: Collection[UUID],
        among: Collection[UUID] | None = None,
    ) -> Delivery | None:
        """Take the oldest due delivery of the first endpoint behind `after`, for the time of the lease.

        Walked from endpoint to endpoint, a thousand waiting deliveries of one are stepped over at once.

        Args:
            after: the endpoint to look behind.
            lease: when the claim lapses.
            passed_over: endpoints that are sent nothing now.
            among: the only endpoints that are, if given.
        """
        now = utc_now()
        allowed = {} if among is None else {"$in": list(among)}
        document = await self._deliveries.find_one_and_update(
            {
                "state": State.PENDING,
                "endpoint_id": {"$gt": after, "$nin": list(passed_over), **allowed},
                "due_at": {"$lte": now},
            },
            {"$set": {"claim": uuid4(), "due_at": now + lease}},
            sort=[("endpoint_id", ASCENDING), ("due_at", ASCENDING)],
            return_document=ReturnDocument.AFTER,
        )
        return parsed(Delivery, document)

    async def endpoint(self, endpoint_id: UUID) -> Endpoint | None:
        document = await self._endpoints.find_one({"_id": endpoint_id})
        return parsed(Endpoint, document)

    async def finish(self, delivery: Delivery, attempt: Attempt, state: State, due_at: Any = None) -> None:
        """Note an attempt, and what follows: an end, or the time of the next one."""
        now = utc_now()
        retention = timedelta(days=get_settings().webhook_retention_days)
        mine = {"_id": delivery.id, "claim": delivery.claim}
        await self._deliveries.update_one(
            # Delivered is delivered, also if the lease is over and somebody else tries once more.
            {"_id": delivery.id} if state == State.DELIVERED else mine,
            {
                "$set": {
                    "claim": None,
                    "state": state,
                    "due_at": due_at or now,
                    "tries": delivery.tries + 1,
                    "expires_at": None if state == State.PENDING else now + retention,
                },
                "$push": {"attempts": {"$each": [_kept(attempt)], "$slice": -_KEPT_ATTEMPTS}},
            },
        )


def _kept(attempt: Attempt) -> dict[str, Any]:
    return {
        "at": attempt.at,
        "duration_ms": attempt.duration_ms,
        "status": attempt.status,
        "error": attempt.error,
        "answer": attempt.answer,
    }
