"""Endpoints and the log of their deliveries, as those see them who manage webhooks."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID, uuid4

from pymongo import ASCENDING, ReturnDocument

from apps.kit.clock import utc_now
from apps.kit.mongo import Database, parsed
from apps.webhooks.domain import TEST_TOPIC, State, delivery_id, payload
from apps.webhooks.mongo import NEWEST_FIRST, Delivery, Endpoint, new_delivery
from apps.webhooks.signing import first_secret, new_secret, rotated

MOST_ENDPOINTS = 200
"""Each event is compared with each of them."""
_IN_STATE: dict[str, dict[str, Any]] = {
    "enabled": {"enabled": True, "failing_since": None},
    "failing": {"enabled": True, "failing_since": {"$ne": None}},
    "disabled": {"enabled": False},
}
STATES = tuple(_IN_STATE)


class TooManyEndpointsError(Exception):
    """There is no room for one more."""

    def __init__(self) -> None:
        super().__init__(f"there are {MOST_ENDPOINTS} endpoints, and no more can be registered: delete one")


class ChangedMeanwhileError(Exception):
    """Somebody else was faster."""

    def __init__(self) -> None:
        super().__init__("it was changed at the same time; look at it, then try again")


class EndpointDisabledError(Exception):
    """Nothing can be sent to it."""

    def __init__(self) -> None:
        super().__init__('the endpoint is disabled; enable it first: {"enabled": true}')


class MongoEndpoints:
    """What can be done with endpoints and deliveries over MongoDB."""

    def __init__(self, database: Database) -> None:
        self._endpoints = database.collection(Endpoint)
        self._deliveries = database.collection(Delivery)

    async def add(
        self, url: str, event_types: Sequence[str], description: str | None, endpoint_id: UUID | None = None
    ) -> tuple[Endpoint, str]:
        """Register an endpoint; returns it and its secret, which nobody can read again.

        Raises:
            TooManyEndpointsError: there are too many already.
            DuplicateKeyError: there is one of this id.
        """
        if await self._endpoints.count_documents({}) >= MOST_ENDPOINTS:
            raise TooManyEndpointsError
        secret = new_secret()
        endpoint = Endpoint(
            id=endpoint_id or uuid4(),
            url=url,
            description=description,
            event_types=list(event_types),
            enabled=True,
            secrets=first_secret(secret),
            created_at=utc_now(),
        )
        await self._endpoints.insert_one(endpoint.model_dump_doc())
        return endpoint, secret

    async def list(self) -> Sequence[Endpoint]:
        """All endpoints, the oldest first."""
        found = self._endpoints.find().sort([("created_at", ASCENDING), ("_id", ASCENDING)])
        return [Endpoint.model_validate_doc(document) async for document in found]

    async def count(self, state: str) -> int:
        """How many are `enabled` and answer, `failing` and still tried, or `disabled`: one of `STATES`."""
        return await self._endpoints.count_documents(_IN_STATE[state])

    async def find(self, endpoint_id: UUID) -> Endpoint | None:
        document = await self._endpoints.find_one({"_id": endpoint_id})
        return parsed(Endpoint, document)

    async def change(self, endpoint_id: UUID, changes: Mapping[str, Any]) -> Endpoint | None:
        """Change some fields; None if there is no such endpoint.

        Another URL, or being enabled again, wipes the failures out. Enabled or disabled by hand, that it was
        disabled for its failures is forgotten.
        """
        changes = dict(changes)
        if "url" in changes or changes.get("enabled"):
            changes |= {"failing_since": None, "last_error": None}
        if "enabled" in changes:
            changes |= {"disabled_at": None, "disabled_reason": None}
        if not changes:
            return await self.find(endpoint_id)
        document = await self._endpoints.find_one_and_update(
            {"_id": endpoint_id}, {"$set": changes}, return_document=ReturnDocument.AFTER
        )
        return parsed(Endpoint, document)

    async def delete(self, endpoint_id: UUID) -> bool:
        """Delete an endpoint; what still waits for it ends as failed. False if there is none."""
        deleted = await self._endpoints.delete_one({"_id": endpoint_id})
        return deleted.deleted_count == 1

    async def rotate(self, endpoint: Endpoint) -> tuple[Endpoint, str]:
        """Give an endpoint a new secret; the one before stays valid for a day.

        Raises:
            ChangedMeanwhileError: the secret was rotated, or the endpoint deleted, at the same time.
        """
        secret = new_secret()
        document = await self._endpoints.find_one_and_update(
            {"_id": endpoint.id, "secrets.0.sealed": endpoint.secrets[0]["sealed"]},
            {"$set": {"secrets": rotated(endpoint.secrets, secret, utc_now())}},
            return_document=ReturnDocument.AFTER,
        )
        if document is None:
            raise ChangedMeanwhileError
        return Endpoint.model_validate_doc(document), secret

    async def test(self, endpoint: Endpoint) -> Delivery:
        """Store a delivery for this endpoint alone, whatever its filter.

        Raises:
            EndpointDisabledError: nothing is sent to it.
        """
        if not endpoint.enabled:
            raise EndpointDisabledError
        content = {"endpoint_id": str(endpoint.id)}
        delivery = new_delivery(endpoint.id, uuid4(), TEST_TOPIC, payload(TEST_TOPIC, utc_now(), content))
        await self._deliveries.insert_one(delivery.model_dump_doc())
        return delivery

    async def deliveries(
        self, endpoint_id: UUID, state: State | None, after: Delivery | None, limit: int
    ) -> Sequence[Delivery]:
        """The log of an endpoint, newest first, from just behind a delivery."""
        query: dict[str, Any] = {"endpoint_id": endpoint_id}
        if state is not None:
            query["state"] = state
        if after is not None:
            query["$or"] = [
                {"created_at": {"$lt": after.created_at}},
                {"created_at": after.created_at, "_id": {"$lt": after.id}},
            ]
        # Nobody is shown the bodies, which are all but a little of it.
        found = self._deliveries.find(query, {"body": 0}).sort(NEWEST_FIRST).limit(limit)
        return [Delivery.model_validate_doc({**document, "body": b""}) async for document in found]

    async def delivery(self, delivery_id: UUID) -> Delivery | None:
        document = await self._deliveries.find_one({"_id": delivery_id})
        return parsed(Delivery, document)

    async def deliveries_of(
        self, event_ids: Collection[UUID], endpoints: Sequence[Endpoint]
    ) -> Sequence[Delivery]:
        """What these events became for these endpoints, the oldest first."""
        # By their own ids, which follow from both: no other index leads from events to them.
        ids = [delivery_id(endpoint.id, event_id) for endpoint in endpoints for event_id in event_ids]
        found = self._deliveries.find({"_id": {"$in": ids}}, {"body": 0})
        deliveries = [Delivery.model_validate_doc({**document, "body": b""}) async for document in found]
        return sorted(deliveries, key=lambda delivery: (delivery.created_at, delivery.id))

    async def resend(self, delivery: Delivery) -> Delivery:
        """Make a delivery due at once, its schedule anew; one that is under way just goes on.

        Raises:
            EndpointDisabledError: nothing is sent to its endpoint, or there is none any more.
            ChangedMeanwhileError: it expired at the same time.
        """
        endpoint = await self.find(delivery.endpoint_id)
        if endpoint is None or not endpoint.enabled:
            raise EndpointDisabledError
        await self._deliveries.update_one(
            {"_id": delivery.id, "claim": None},
            {"$set": {"state": State.PENDING, "due_at": utc_now(), "tries": 0, "expires_at": None}},
        )
        resent = await self.delivery(delivery.id)
        if resent is None:
            raise ChangedMeanwhileError
        return resent
