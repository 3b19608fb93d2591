"""The log of what customers were told, in MongoDB: one entry per order and template."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from odmantic import AIOEngine, Field, Model
from pydantic import AwareDatetime
from pymongo import ReplaceOne
from pymongo.errors import BulkWriteError

from apps.kit.batching import GroupCommit
from apps.kit.mongo import is_duplicate_key
from apps.notifications.application import Outcome, lacked_contact
from contracts import NotificationFailed, NotificationSent, NotificationSkipped


class Notification(Model):
    """One message to a customer, under its notification id; recipients only masked."""

    model_config = {"collection": "notifications"}

    id: UUID = Field(primary_field=True)
    order_id: UUID = Field(index=True)
    template: str
    channel: str | None
    """`email` or `sms`; null if the customer was not told."""
    at: AwareDatetime
    event: dict[str, Any]
    """The event as it was published, and will be again."""


DOCUMENTS = (Notification,)

_OUTCOMES: tuple[type[Outcome], ...] = (NotificationSent, NotificationSkipped, NotificationFailed)


class MongoNotificationLog:
    """The log over MongoDB: concurrent entries share one insert."""

    def __init__(self, engine: AIOEngine) -> None:
        self._engine = engine
        self._notifications = engine.get_collection(Notification)
        self._entries = GroupCommit(self._record_group)

    async def find(self, notification_id: UUID) -> Outcome | None:
        document = await self._notifications.find_one({"_id": notification_id})
        return document and _outcome(document)

    async def record(self, outcome: Outcome) -> Outcome:
        return await self._entries.add(outcome)

    async def _record_group(self, outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
        try:
            await self._notifications.insert_many(
                [_entry(outcome).model_dump_doc() for outcome in outcomes], ordered=False
            )
        except BulkWriteError as error:
            if not is_duplicate_key(error):
                raise
            # An entry that is there already stays as it is, unless there was no way to the customer.
            await self._replace_those_without_contact(outcomes)
            ids = [outcome.notification_id for outcome in outcomes]
            kept = {
                document["_id"]: _outcome(document)
                async for document in self._notifications.find({"_id": {"$in": ids}})
            }
            return [kept[notification_id] for notification_id in ids]
        return outcomes

    async def _replace_those_without_contact(self, outcomes: Sequence[Outcome]) -> None:
        replacements = [
            ReplaceOne(
                {"_id": outcome.notification_id, "event.reason": "no_contact"},
                _entry(outcome).model_dump_doc(),
            )
            for outcome in outcomes
            if not lacked_contact(outcome)
        ]
        if replacements:
            await self._notifications.bulk_write(replacements, ordered=False)


def _outcome(document: dict[str, Any]) -> Outcome:
    event = document["event"]
    kind = next(kind for kind in _OUTCOMES if kind.time_field in event)
    return kind.model_validate(event)


def _entry(outcome: Outcome) -> Notification:
    return Notification(
        id=outcome.notification_id,
        order_id=outcome.order_id,
        template=outcome.template,
        channel=outcome.channel if isinstance(outcome, NotificationSent) else None,
        at=outcome.occurred_at,
        event=outcome.model_dump(mode="json"),
    )
