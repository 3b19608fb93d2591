"""Stands in for an SMS provider: says in the log that a text would have gone out, and nothing it said."""

from uuid import UUID

import structlog

from apps.notifications.domain import mask_number

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class LogTexter:
    """A texter for development; in production it would pass for one that sends."""

    async def send(self, number: str, text: str, idempotency_key: UUID) -> None:
        """Log the masked number and the length."""
        log.info(
            "sms_logged",
            recipient=mask_number(number),
            length=len(text),
            notification_id=str(idempotency_key),
        )
