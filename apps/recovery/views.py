"""What the ingress shows of dead letters, in JSON."""

import codecs
from base64 import b64encode
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from apps.kit.paging import Position
from apps.recovery.domain import Source, State
from apps.recovery.messages import shown_headers
from apps.recovery.mongo import DeadLetter
from contracts.orders import EXAMPLE_ORDER_ID

SHOWN_BODY_BYTES = 1024 * 1024

_EXAMPLE_ID = "b8f1f9c2-52a4-5a63-9a0d-0c7f4a6f2e77"
EXAMPLE_FINGERPRINT = "5f0c9f2d6f3a"
_EXAMPLE_REASON = "currency: 'GBX' is not an ISO 4217 currency code"
_EXAMPLE_FAILURE: dict[str, Any] = {
    "queue": "billing.order-validated",
    "event_type": "order.validated.v1",
    "error_type": "ValidationError",
    "reason": _EXAMPLE_REASON,
}
_EXAMPLE_SUMMARY: dict[str, Any] = {
    "dead_letter_id": _EXAMPLE_ID,
    "state": "open",
    "source": "dead",
    **_EXAMPLE_FAILURE,
    "fingerprint": EXAMPLE_FINGERPRINT,
    "order_id": EXAMPLE_ORDER_ID,
    "attempts": 1,
    "replays": 0,
    "opened_at": "2026-11-22T10:15:00.300Z",
    "closed_at": None,
}


class DeadLetterSummary(BaseModel):
    """A message that could not be handled, or that no queue wanted."""

    dead_letter_id: UUID = Field(description="Identifies it; the same message from the same queue is one.")
    state: State = Field(description="`replaying` stays only where a replay broke off; it counts as open.")
    source: Source = Field(
        description="`dead`: a consumer's queue gave it up; `unrouted`: no queue was bound for its key."
    )
    queue: str | None = Field(description="The queue it came from, and goes back to.")
    event_type: str | None = Field(description="The routing key under which it was published.")
    error_type: str = Field(description="Class of the error.")
    reason: str = Field(description="What was wrong, without the customer's data.")
    fingerprint: str = Field(description="The same for failures that look alike.")
    order_id: UUID | None = Field(description="The order that it is about, if it tells.")
    attempts: int | None = Field(description="Which attempt was the last.")
    replays: int = Field(description="How often it was replayed.")
    opened_at: datetime = Field(description="When its latest death was archived; lists are ordered by it.")
    closed_at: datetime | None = Field(description="When it was replayed or discarded.")

    @classmethod
    def of(cls, letter: DeadLetter) -> Self:
        return cls(**_shown(letter))


class HistoryEntry(BaseModel):
    """Something that happened to a dead letter."""

    at: datetime = Field(description="When, RFC 3339.")
    action: str = Field(description="`opened`, `replayed`, `not replayed`, `died again` or `discarded`.")
    actor: str = Field(description="Who did it: `Orderflow-Actor` of the request, or `recovery` itself.")
    detail: str = Field(description="Why, or where it went.")


class DeadLetterView(DeadLetterSummary):
    """A dead letter with all that is known of it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **_EXAMPLE_SUMMARY,
                    "message_id": "965fb694-c150-5b59-8126-9a2316fc20c3",
                    "correlation_id": EXAMPLE_ORDER_ID,
                    "app_id": "shop.checkout",
                    "type": "order.validated.v1",
                    "content_type": "application/json",
                    "content_encoding": None,
                    "published_at": "2026-11-22T10:15:00Z",
                    "handler": "on_order_validated",
                    "traceback": "ValidationError: " + _EXAMPLE_REASON,
                    "first_failed_at": "2026-11-22T10:15:00.280Z",
                    "last_failed_at": "2026-11-22T10:15:00.280Z",
                    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
                    "expires_at": None,
                    "headers": {"cloudEvents:source": "/shop/checkout"},
                    "body": '{"order_id": "' + EXAMPLE_ORDER_ID + '", "currency": "GBX"}',
                    "body_encoding": "utf-8",
                    "body_bytes": 68,
                    "body_is_cut": False,
                    "history": [
                        {
                            "at": "2026-11-22T10:15:00.300Z",
                            "action": "opened",
                            "actor": "recovery",
                            "detail": _EXAMPLE_REASON,
                        }
                    ],
                }
            ]
        }
    )

    message_id: str | None = Field(description="As published, or derived where the publisher gave none.")
    correlation_id: str | None = Field(description="As published.")
    app_id: str | None = Field(description="Who published it.")
    type: str | None = Field(description="Its `type` property.")
    content_type: str | None = Field(description="As published.")
    content_encoding: str | None = Field(description="As published.")
    published_at: datetime | None = Field(description="Its `timestamp` property.")
    handler: str | None = Field(description="The function that failed.")
    traceback: str | None = Field(description="The end of the traceback.")
    first_failed_at: datetime | None = Field(description="When its first attempt failed.")
    last_failed_at: datetime | None = Field(description="When its last attempt failed.")
    trace_id: str | None = Field(description="From its W3C `traceparent`.")
    expires_at: datetime | None = Field(description="When it leaves the archive; only once it is closed.")
    headers: dict[str, Any] = Field(
        description="All its headers; what JSON has no type for is shown as text."
    )
    body: str = Field(description="The body, exactly as it was sent.")
    body_encoding: Literal["utf-8", "base64"] = Field(
        description="How `body` shows it: as text, or in base64 where it is no text."
    )
    body_bytes: int = Field(description="Size of the whole body.")
    body_is_cut: bool = Field(
        description="Only its first MiB is shown; all of it is at `/v1/dead-letters/{id}/body`."
    )
    history: list[HistoryEntry] = Field(description="All that happened to it, oldest first.")

    @classmethod
    def of_body(cls, letter: DeadLetter, body: bytes) -> Self:
        """The whole letter, with its body as text if it is some."""
        shown = body[:SHOWN_BODY_BYTES]
        is_cut = len(body) > len(shown)
        try:
            # A cut may go through a character, which makes what is left no less a text.
            text, encoding = (shown.decode() if not is_cut else _whole_characters(shown)), "utf-8"
        except UnicodeDecodeError:
            text, encoding = b64encode(shown).decode(), "base64"
        return cls.model_validate(
            {
                **letter.model_dump(include=set(cls.model_fields)),
                **_shown(letter),
                "headers": shown_headers(letter.headers),
                "body": text,
                "body_encoding": encoding,
                "body_is_cut": is_cut,
            }
        )


class DeadLetterPage(BaseModel):
    """One page of a list, newest first."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"dead_letters": [_EXAMPLE_SUMMARY], "next_cursor": None}]}
    )

    dead_letters: list[DeadLetterSummary] = Field(description="Dead letters of this page.")
    next_cursor: str | None = Field(
        description="Hand it back as `cursor` for the next page; null at the end."
    )

    @classmethod
    def of(cls, letters: Sequence[DeadLetter], end: Position | None) -> Self:
        """A page that ends at a place in the list, or with the list."""
        shown = [DeadLetterSummary.of(letter) for letter in letters]
        return cls(dead_letters=shown, next_cursor=end and end.cursor())


class DeadLetterGroup(BaseModel):
    """Dead letters whose failures look alike; what differs between them is the newest one's."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "examples": [
                {
                    "fingerprint": EXAMPLE_FINGERPRINT,
                    "count": 17,
                    "first_seen_at": "2026-11-22T10:15:00.300Z",
                    "last_seen_at": "2026-11-22T10:21:40Z",
                    **_EXAMPLE_FAILURE,
                    "sample_id": _EXAMPLE_ID,
                }
            ]
        },
    )

    fingerprint: str = Field(description="Names the group in `replay` and `discard`.")
    count: int = Field(description="How many there are.")
    first_seen_at: datetime = Field(description="When the oldest of them was archived.")
    last_seen_at: datetime = Field(description="When the newest of them was archived.")
    queue: str | None = Field(description="The queue they came from.")
    event_type: str | None = Field(description="The routing key under which they were published.")
    error_type: str = Field(description="Class of the error.")
    reason: str = Field(description="What was wrong with the newest.")
    sample_id: UUID = Field(description="The newest.")


class DeadLetterGroups(BaseModel):
    """All groups, the largest first."""

    groups: list[DeadLetterGroup] = Field(description="At most 200.")


def _shown(letter: DeadLetter) -> dict[str, Any]:
    names = set(DeadLetterSummary.model_fields) - {"dead_letter_id"}
    return {"dead_letter_id": letter.id, **letter.model_dump(include=names)}


def _whole_characters(cut: bytes) -> str:
    """The text in a body that was cut off somewhere.

    Raises:
        UnicodeDecodeError: it is no text.
    """
    return codecs.getincrementaldecoder("utf-8")().decode(cut)
