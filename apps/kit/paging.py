"""A page of a list begins just behind the last item of the page before, whatever came in between."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator


@dataclass(frozen=True)
class Position:
    """A place in a list: just behind one item."""

    at: datetime
    """The time by which the list is ordered."""
    id: UUID

    def cursor(self) -> str:
        """An opaque text for clients to hand back."""
        return urlsafe_b64encode(f"{self.at.isoformat()} {self.id}".encode()).decode()

    @classmethod
    def from_cursor(cls, cursor: str) -> "Position":
        """Read a text made by `cursor`.

        Raises:
            ValueError: it was not made by `cursor`.
        """
        try:
            at, item_id = urlsafe_b64decode(cursor).decode().split(" ")
            return cls(datetime.fromisoformat(at).astimezone(UTC), UUID(item_id))
        except (ValueError, OverflowError):  # the latter of a time outside the years 1 to 9999
            raise ValueError("is not a cursor that this API has given out") from None


def _readable(cursor: str) -> str:
    Position.from_cursor(cursor)
    return cursor


Cursor = Annotated[str, AfterValidator(_readable)]
"""A cursor in a request; one that was not given out is refused as any other field that is wrong."""
