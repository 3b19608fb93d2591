"""What the ingress and the read model share: an accepted order, a filter, a place in a list."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, runtime_checkable
from uuid import UUID

from apps.orders.domain import Status
from contracts import Event, OrderCancelled, OrderCreated

Announcement = OrderCreated | OrderCancelled
"""What the ingress accepts and the relay publishes."""


@dataclass(frozen=True)
class AcceptedOrder:
    """An order that the ingress has taken, with what makes its request repeatable."""

    event: OrderCreated
    publish_at: datetime
    """From when on the relay may publish it, should its first publish not come back."""
    idempotency_key: str | None = None
    fingerprint: str | None = None
    """SHA-256 of the request."""
    client: str | None = None
    """The client that the caller's key is bound to, and whose order it is."""


@dataclass(frozen=True)
class OrderFilter:
    """Which orders a list holds; None means any."""

    status: Status | None = None
    customer_id: str | None = None
    reference: str | None = None
    client: str | None = None
    """The client whose key placed it."""


@dataclass(frozen=True)
class Position:
    """A place in a list of orders: just behind one order."""

    at: datetime
    """The time by which the list is ordered."""
    order_id: UUID

    def cursor(self) -> str:
        """An opaque text for clients to hand back."""
        return urlsafe_b64encode(f"{self.at.isoformat()} {self.order_id}".encode()).decode()

    @classmethod
    def from_cursor(cls, cursor: str) -> "Position":
        """Read a text made by `cursor`.

        Raises:
            ValueError: it was not made by `cursor`.
        """
        at, order_id = urlsafe_b64decode(cursor).decode().split(" ")
        try:
            return cls(datetime.fromisoformat(at).astimezone(UTC), UUID(order_id))
        except OverflowError:
            raise ValueError("the time in it lies outside the years 1 to 9999") from None


@runtime_checkable
class ReadModel(Protocol):
    """Where every order is."""

    async def record(self, event: Event) -> None:
        """Write down what an event tells of its order; repeats and any order of arrival end the same."""
