"""The log of what customers were told, in MongoDB: one entry per order and template."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from odmantic import Field, Model
from pydantic import AwareDatetime
from pymongo import ReplaceOne
from pymongo.errors import BulkWriteError

from apps.kit.batching import GroupCommit
from apps.kit.mongo import Database, is_duplicate_key
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

    def __init__(self, database: Database) -> None:
        self._notifications = database.collection(Notification)
        self._questions = GroupCommit("known-notifications", self._find_group)
        self._entries = GroupCommit("notifications", self._record_group)

    async def find(self, notification_id: UUID) -> Outcome | None:
        return await self._questions.add(notification_id)

    async def record(self, outcome: Outcome) -> Outcome:
        return await self._entries.add(outcome)

    async def _find_group(self, ids: Sequence[UUID]) -> Sequence[Outcome | None]:
        kept = await self._kept(ids)
        return [kept.get(notification_id) for notification_id in ids]

    async def _kept(self, ids: Sequence[UUID]) -> Mapping[UUID, Outcome]:
        found = self._notifications.find({"_id": {"$in": list(ids)}})
        return {document["_id"]: _outcome(document) async for document in found}

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
            kept = await self._kept(ids)
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


class MongoNotices:
    """What customers were told, for who only looks."""

    def __init__(self, database: Database) -> None:
        self._notifications = database.collection(Notification)

    async def of_order(self, order_id: UUID) -> Sequence[Outcome]:
        """All that was told of an order, or could not be, the earliest first."""
        found = self._notifications.find({"order_id": order_id})
        return sorted(
            [_outcome(document) async for document in found],
            key=lambda outcome: (outcome.occurred_at, outcome.template),
        )


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
