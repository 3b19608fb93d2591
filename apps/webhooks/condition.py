"""How endpoints fare: since when one fails, and that it is disabled in the end and announced as such."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

from pymongo import ReturnDocument

from apps.kit.clock import utc_now
from apps.kit.mongo import Database
from apps.kit.settings import get_settings
from apps.webhooks.domain import Attempt, longest_silence
from apps.webhooks.mongo import Endpoint
from contracts import DisabledReason, WebhookEndpointDisabled


class MongoCondition:
    """The condition of each endpoint over MongoDB; its document is the outbox of its announcements."""

    def __init__(self, database: Database) -> None:
        self._endpoints = database.collection(Endpoint)

    async def succeeded(self, endpoint: Endpoint) -> None:
        """The endpoint has taken something."""
        # By what is stored now: another attempt may have failed since the endpoint was read.
        await self._endpoints.update_one(
            {"_id": endpoint.id, "failing_since": {"$ne": None}},
            {"$set": {"failing_since": None, "last_error": None}},
        )

    async def failed(self, endpoint: Endpoint, attempt: Attempt) -> bool:
        """The endpoint has not taken something; returns whether it is disabled for it."""
        settings = get_settings()
        silent_since = attempt.at - longest_silence(settings.webhook_retry_delays_seconds)
        first_of_run = {"$ifNull": ["$failing_since", attempt.at]}
        document = await self._endpoints.find_one_and_update(
            {"_id": endpoint.id, "enabled": True},
            [
                {
                    "$set": {
                        "failing_since": {
                            "$cond": [{"$gt": ["$last_failed_at", silent_since]}, first_of_run, attempt.at]
                        },
                        "last_failed_at": attempt.at,
                        "last_error": {"$literal": attempt.outcome},
                    }
                }
            ],
            return_document=ReturnDocument.AFTER,
        )
        if document is None:
            return True
        since = document["failing_since"]
        patience = timedelta(seconds=settings.webhook_disable_after_seconds)
        if attempt.is_gone:
            return await self._disable(endpoint, {}, DisabledReason.GONE, attempt)
        if attempt.at - since >= patience:
            return await self._disable(endpoint, {"failing_since": since}, DisabledReason.FAILING, attempt)
        return False

    async def unannounced(self) -> Sequence[WebhookEndpointDisabled]:
        """Announcements that are not confirmed yet."""
        found = self._endpoints.find({"announcements.0": {"$exists": True}}, {"announcements": 1})
        return [
            WebhookEndpointDisabled.model_validate(announcement)
            async for document in found
            for announcement in document["announcements"]
        ]

    async def announced(self, event: WebhookEndpointDisabled) -> None:
        """RabbitMQ has confirmed it."""
        await self._endpoints.update_one(
            {"_id": event.endpoint_id},
            {"$pull": {"announcements": {"disabling_id": str(event.disabling_id)}}},
        )

    async def _disable(
        self, endpoint: Endpoint, unless_changed: dict[str, Any], reason: DisabledReason, attempt: Attempt
    ) -> bool:
        now = utc_now()
        event = WebhookEndpointDisabled(
            disabling_id=uuid4(),
            endpoint_id=endpoint.id,
            url=endpoint.url,
            reason=reason,
            last_error=attempt.outcome,
            disabled_at=now,
        )
        changed = await self._endpoints.update_one(
            {"_id": endpoint.id, "enabled": True, "url": endpoint.url, **unless_changed},
            {
                "$set": {"enabled": False, "disabled_at": now, "disabled_reason": reason},
                "$push": {"announcements": event.model_dump(mode="json")},
            },
        )
        return changed.modified_count == 1
