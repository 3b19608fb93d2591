"""Notifications: what a customer was told, or why not."""

from typing import Any, ClassVar, Literal
from uuid import UUID

from pydantic import ConfigDict, Field

from contracts.amounts import Timestamp
from contracts.event import Change, Event
from contracts.orders import EXAMPLE_ORDER_ID, OrderId


class _AboutNotification(Event):
    """What is known of a message to a customer, sent or not."""

    version: ClassVar[int] = 1
    owner: ClassVar[str] = "notifications"
    identity_field: ClassVar[str] = "notification_id"

    notification_id: UUID = Field(description="Identifies the message; one per order and template.")
    order_id: OrderId
    template: str = Field(description="What the message is about.", examples=["invoice-issued"])


class _ToRecipient(_AboutNotification):
    """What is known of a message that had a recipient."""

    channel: Literal["email", "sms"] = Field(description="How the customer was to be told.")
    recipient: str = Field(
        description="Address or number, masked: enough to recognise, not to use.",
        examples=["a***@example.com"],
    )


class NotificationSent(_ToRecipient):
    """A customer was told by e-mail or SMS: the mail server or the SMS provider took the message."""

    topic: ClassVar[str] = "notification.sent.v1"
    time_field: ClassVar[str] = "sent_at"
    history: ClassVar[tuple[Change, ...]] = (Change("0.1.0", "Introduced."),)
    example: ClassVar[dict[str, Any]] = {
        "notification_id": "f1b7b5b1-59c1-5f9c-8a52-5d8f1f9f8b11",
        "order_id": EXAMPLE_ORDER_ID,
        "template": "invoice-issued",
        "channel": "email",
        "recipient": "a***@example.com",
        "sent_at": "2026-11-22T10:15:00.240Z",
    }
    model_config = ConfigDict(json_schema_extra={"examples": [example]})

    sent_at: Timestamp = Field(description="When it was handed over, RFC 3339.")


class NotificationSkipped(_AboutNotification):
    """Nobody was told: there is no address or number to tell it to, or the shop sends no such message."""

    topic: ClassVar[str] = "notification.skipped.v1"
    time_field: ClassVar[str] = "skipped_at"
    history: ClassVar[tuple[Change, ...]] = (Change("0.1.0", "Introduced."),)
    example: ClassVar[dict[str, Any]] = {
        "notification_id": "f1b7b5b1-59c1-5f9c-8a52-5d8f1f9f8b11",
        "order_id": EXAMPLE_ORDER_ID,
        "template": "invoice-issued",
        "reason": "no_contact",
        "skipped_at": "2026-11-22T10:15:00.240Z",
    }
    model_config = ConfigDict(json_schema_extra={"examples": [example]})

    reason: Literal["no_contact", "switched_off"] = Field(
        description="Why nothing was sent. `no_contact`: there is no address or number. "
        "`switched_off`: by the shop's settings."
    )
    skipped_at: Timestamp = Field(description="When that was decided, RFC 3339.")


class NotificationFailed(_ToRecipient):
    """A customer could not be told: the mail server or the SMS provider will never take this message."""

    topic: ClassVar[str] = "notification.failed.v1"
    time_field: ClassVar[str] = "failed_at"
    history: ClassVar[tuple[Change, ...]] = (Change("0.1.0", "Introduced."),)
    example: ClassVar[dict[str, Any]] = {
        "notification_id": "f1b7b5b1-59c1-5f9c-8a52-5d8f1f9f8b11",
        "order_id": EXAMPLE_ORDER_ID,
        "template": "invoice-issued",
        "channel": "email",
        "recipient": "a***@example.com",
        "reason": "The mail server refuses the mail with code 550",
        "failed_at": "2026-11-22T10:15:00.240Z",
    }
    model_config = ConfigDict(json_schema_extra={"examples": [example]})

    reason: str = Field(
        max_length=500,
        description="What the refusal was, without the customer's data.",
        examples=["The mail server refuses the mail with code 550"],
    )
    failed_at: Timestamp = Field(description="When it was refused, RFC 3339.")
