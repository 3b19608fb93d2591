"""What the ingress takes to repair dead letters, and what came of it, in JSON."""

from typing import Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from apps.kit.paging import Cursor
from apps.recovery.views import EXAMPLE_FINGERPRINT

BULK_LIMIT = 100


class Many(BaseModel):
    """Which open dead letters a request is about."""

    model_config = ConfigDict(extra="forbid")

    fingerprint: str | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="Those of one group.",
        examples=[EXAMPLE_FINGERPRINT],
    )
    all: bool = Field(default=False, strict=True, description="All; instead of a fingerprint.")
    limit: int = Field(default=BULK_LIMIT, ge=1, le=BULK_LIMIT, description="Most in one request.")
    cursor: Cursor | None = Field(default=None, description="`next_cursor` of the answer before.")

    @model_validator(mode="after")
    def _one_choice(self) -> Self:
        if (self.fingerprint is None) == (not self.all):
            raise ValueError("name either a fingerprint or all: true")
        return self


class ReplayMany(Many):
    """A request to replay many."""

    force: bool = Field(default=False, strict=True, description="Also to queues that nobody consumes now.")


class Discard(BaseModel):
    """A request to give a dead letter up."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(
        min_length=1, max_length=500, description="Why; it is kept.", examples=["test data of 22 November"]
    )


class DiscardMany(Many, Discard):
    """A request to give many up."""


class Skipped(BaseModel):
    """A dead letter that was left as it is."""

    dead_letter_id: UUID = Field(description="Which.")
    why: str = Field(description="Why.", examples=["nobody consumes billing.order-validated now"])


class _Done(BaseModel):
    """What came of a request about many; go on with `next_cursor`, newest first, until it is null."""

    skipped: list[Skipped] = Field(description="What was left as it is.")
    remaining: int = Field(description="How many lie behind this page.", examples=[0])
    next_cursor: str | None = Field(description="Where to go on; null at the end.")


class Replayed(_Done):
    """What was replayed."""

    replayed: int = Field(description="How many.", examples=[17])


class Discarded(_Done):
    """What was discarded."""

    discarded: int = Field(description="How many.", examples=[17])
