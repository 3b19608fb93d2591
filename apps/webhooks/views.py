"""What the ingress takes and shows of webhooks, in JSON."""

from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from apps.webhooks.destinations import LONGEST_URL, Destinations
from apps.webhooks.domain import TEST_TOPIC, TOPICS, State, check_topics
from apps.webhooks.mongo import Delivery, Endpoint
from contracts import DisabledReason

_EXAMPLE_URL = "https://shop.example/orderflow"
_EXAMPLE_ID = "3f0c9d52-3f0e-4e9b-9a55-8a2c3d4e5f60"
_EXAMPLE_TYPES = ["order.rejected.v1", "invoice.issued.v1"]
_EXAMPLE_ENDPOINT: dict[str, Any] = {
    "endpoint_id": _EXAMPLE_ID,
    "url": _EXAMPLE_URL,
    "description": "The shop's ledger",
    "event_types": _EXAMPLE_TYPES,
    "enabled": True,
    "created_at": "2026-11-22T10:00:00Z",
    "failing_since": None,
    "last_error": None,
    "disabled_at": None,
    "disabled_reason": None,
}
_EXAMPLE_DELIVERY: dict[str, Any] = {
    "delivery_id": "6c5b7a1e-9d0c-5f63-8a77-2f4b7e1c9d10",
    "endpoint_id": _EXAMPLE_ID,
    "webhook_id": "965fb694-c150-5b59-8126-9a2316fc20c3",
    "event_type": "invoice.issued.v1",
    "state": "delivered",
    "created_at": "2026-11-22T10:15:00.200Z",
    "next_attempt_at": None,
    "attempts": [
        {
            "at": "2026-11-22T10:15:00.300Z",
            "duration_ms": 41,
            "status": 204,
            "error": None,
            "answer": "",
        }
    ],
}


def _deliverable(url: str) -> str:
    Destinations.of_settings().check_url(url)
    return url


def _offered(event_types: list[str]) -> list[str]:
    check_topics(event_types)
    return list(dict.fromkeys(event_types))


Url = Annotated[
    str,
    Field(
        min_length=1,
        max_length=LONGEST_URL,
        description="Where to deliver: https, at a public address, port 443 or 8443.",
        examples=[_EXAMPLE_URL],
    ),
    AfterValidator(_deliverable),
]
EventTypes = Annotated[
    list[str],
    Field(
        max_length=len(TOPICS),
        description=f"What to deliver: {', '.join(f'`{topic}`' for topic in TOPICS)}; an empty list is all.",
        examples=[_EXAMPLE_TYPES],
    ),
    AfterValidator(_offered),
]
Description = Annotated[str | None, Field(max_length=200, description="What it is for.")]


class NewEndpoint(BaseModel):
    """An endpoint to register."""

    model_config = ConfigDict(extra="forbid")

    url: Url
    event_types: EventTypes = []
    description: Description = None


class EndpointChanges(BaseModel):
    """What to change of an endpoint; what is left out stays."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"enabled": True}]})

    url: Url = ""
    event_types: EventTypes = []
    description: Description = None
    enabled: bool = Field(default=True, strict=True, description="Whether anything is delivered to it.")


class EndpointView(BaseModel):
    """An endpoint; its secret is never shown again."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE_ENDPOINT]})

    endpoint_id: UUID = Field(description="Identifies it.")
    url: str = Field(description="Where events are delivered.")
    description: str | None = Field(description="What it is for.")
    event_types: list[str] = Field(description="What is delivered; all if empty.")
    enabled: bool = Field(description="Whether anything is delivered.")
    created_at: datetime = Field(description="When it was registered.")
    failing_since: datetime | None = Field(
        description="The first failure since the last success, or since a day without any attempt."
    )
    last_error: str | None = Field(description="How the latest failure ended.")
    disabled_at: datetime | None = Field(
        description="When it was disabled for its failures; null if by hand."
    )
    disabled_reason: DisabledReason | None = Field(
        description="`gone`: it answered 410. `failing`: nothing was delivered for five days."
    )

    @classmethod
    def of(cls, endpoint: Endpoint, **more: Any) -> Self:
        names = set(EndpointView.model_fields) - {"endpoint_id"}
        return cls(endpoint_id=endpoint.id, **endpoint.model_dump(include=names), **more)


class EndpointWithSecret(EndpointView):
    """An endpoint with its new secret: the only time that it is shown."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {**_EXAMPLE_ENDPOINT, "secret": "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDazfgTj0rbZ4="}
            ]
        }
    )

    secret: str = Field(description="Verifies what is delivered; keep it where only the receiver reads it.")


class Endpoints(BaseModel):
    """All endpoints, the oldest first."""

    endpoints: list[EndpointView] = Field(description="At most 200.")


class AttemptView(BaseModel):
    """One attempt at a delivery."""

    at: datetime = Field(description="When it began.")
    duration_ms: int = Field(description="How long it took.")
    status: int | None = Field(description="HTTP status of the answer; null if there was none.")
    error: str | None = Field(description="Why there was no answer.")
    answer: str = Field(description="The first KiB of the answer's body; what is no text is replaced.")


class DeliveryView(BaseModel):
    """An event on its way to one endpoint, or arrived there, or given up."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE_DELIVERY]})

    delivery_id: UUID = Field(description="Identifies it.")
    endpoint_id: UUID = Field(description="Where it goes.")
    webhook_id: str = Field(description="The event's id: the header `webhook-id` of every attempt.")
    event_type: str = Field(description=f"Its type; `{TEST_TOPIC}` for a test.")
    state: State = Field(description="`failed`: no attempt is left; it can be resent.")
    created_at: datetime = Field(description="When it was stored.")
    next_attempt_at: datetime | None = Field(
        description="When it is attempted next; while that is under way, when it counts as lost."
    )
    attempts: list[AttemptView] = Field(description="The latest 50 attempts, oldest first.")

    @classmethod
    def of(cls, delivery: Delivery) -> Self:
        names = {"endpoint_id", "webhook_id", "event_type", "state", "created_at"}
        return cls(
            delivery_id=delivery.id,
            **delivery.model_dump(include=names),
            next_attempt_at=delivery.due_at if delivery.state == State.PENDING else None,
            attempts=[
                AttemptView(**{**attempt, "answer": bytes(attempt["answer"]).decode(errors="replace")})
                for attempt in delivery.attempts
            ],
        )


class DeliveryPage(BaseModel):
    """One page of a log, newest first."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"deliveries": [_EXAMPLE_DELIVERY], "next_cursor": None}]}
    )

    deliveries: list[DeliveryView] = Field(description="Deliveries of this page.")
    next_cursor: UUID | None = Field(
        description="Hand it back as `cursor` for the next page; null at the end."
    )
