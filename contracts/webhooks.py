"""Webhooks: what became of the endpoints that customers' systems have registered."""

from enum import StrEnum
from typing import Any, ClassVar
from uuid import UUID

from pydantic import ConfigDict, Field

from contracts.amounts import Timestamp
from contracts.event import Change, Event


class DisabledReason(StrEnum):
    """Why nothing is delivered to an endpoint any more."""

    GONE = "gone"
    FAILING = "failing"


class WebhookEndpointDisabled(Event):
    """Nothing is delivered to an endpoint any more, until somebody enables it again."""

    topic: ClassVar[str] = "webhook.endpoint-disabled.v1"
    version: ClassVar[int] = 1
    owner: ClassVar[str] = "webhooks"
    identity_field: ClassVar[str] = "disabling_id"
    time_field: ClassVar[str] = "disabled_at"
    history: ClassVar[tuple[Change, ...]] = (Change("0.1.0", "Introduced."),)
    example: ClassVar[dict[str, Any]] = {
        "disabling_id": "0d9a1a42-5f0b-5d3e-8d57-0b9d3c8f1e77",
        "endpoint_id": "3f0c9d52-3f0e-4e9b-9a55-8a2c3d4e5f60",
        "url": "https://shop.example/orderflow",
        "reason": "failing",
        "last_error": "answered 503",
        "disabled_at": "2026-11-22T10:15:00Z",
    }
    model_config = ConfigDict(json_schema_extra={"examples": [example]})

    disabling_id: UUID = Field(description="Identifies this disabling; an endpoint may be disabled again.")
    endpoint_id: UUID = Field(description="Identifies the endpoint.")
    url: str = Field(description="Where it is.", examples=["https://shop.example/orderflow"])
    reason: DisabledReason = Field(
        description="`gone`: it answered 410. `failing`: nothing was delivered for five days."
    )
    last_error: str = Field(description="How the last attempt ended.", examples=["answered 503"])
    disabled_at: Timestamp = Field(description="When it was disabled, RFC 3339.")
