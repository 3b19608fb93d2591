"""Recovery: what could not be handled, and what an operator did about it."""

from typing import Any, ClassVar, Literal
from uuid import UUID

from pydantic import ConfigDict, Field

from contracts.amounts import Timestamp
from contracts.event import Change, Event
from contracts.orders import EXAMPLE_ORDER_ID, OrderId

_EXAMPLE_IDS: dict[str, Any] = {
    "occurrence_id": "3c0e9c5d-9a55-5b1e-8f0e-6a2f1f1b8d21",
    "dead_letter_id": "b8f1f9c2-52a4-5a63-9a0d-0c7f4a6f2e77",
    "order_id": EXAMPLE_ORDER_ID,
}


class _AboutDeadLetter(Event):
    """One death of a message; after a replay it may die again, which is another occurrence."""

    version: ClassVar[int] = 1
    owner: ClassVar[str] = "recovery"
    identity_field: ClassVar[str] = "occurrence_id"

    occurrence_id: UUID = Field(description="Identifies this death of the message; its end has the same.")
    dead_letter_id: UUID = Field(description="Identifies the message in the archive of dead letters.")
    order_id: OrderId


class DeadLetterOpened(_AboutDeadLetter):
    """A message about an order could not be handled, or no queue wanted it: it waits for an operator."""

    topic: ClassVar[str] = "dead-letter.opened.v1"
    time_field: ClassVar[str] = "opened_at"
    history: ClassVar[tuple[Change, ...]] = (Change("0.1.0", "Introduced."),)
    example: ClassVar[dict[str, Any]] = {
        **_EXAMPLE_IDS,
        "queue": "billing.order-validated",
        "event_type": "order.validated.v1",
        "reason": "currency: 'GBX' is not an ISO 4217 currency code",
        "opened_at": "2026-11-22T10:15:00.300Z",
    }
    model_config = ConfigDict(json_schema_extra={"examples": [example]})

    queue: str | None = Field(
        description="Queue whose consumer gave it up; null if no queue wanted it.",
        examples=["billing.order-validated"],
    )
    event_type: str | None = Field(
        description="Its routing key, if that is known.", examples=["order.validated.v1"]
    )
    reason: str = Field(description="What was wrong.")
    opened_at: Timestamp = Field(description="When it was archived, RFC 3339.")


class DeadLetterClosed(_AboutDeadLetter):
    """An operator replayed a dead letter or discarded it."""

    topic: ClassVar[str] = "dead-letter.closed.v1"
    time_field: ClassVar[str] = "closed_at"
    history: ClassVar[tuple[Change, ...]] = (Change("0.1.0", "Introduced."),)
    example: ClassVar[dict[str, Any]] = {
        **_EXAMPLE_IDS,
        "resolution": "replayed",
        "closed_at": "2026-11-22T11:00:00Z",
    }
    model_config = ConfigDict(json_schema_extra={"examples": [example]})

    resolution: Literal["replayed", "discarded"] = Field(description="What was done about it.")
    closed_at: Timestamp = Field(description="When, RFC 3339.")
