"""What the ingress and the read model share: an accepted order, and a filter."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

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
    trace: dict[str, str] | None = None
    """The headers of the request's trace, in which it is published whenever that succeeds."""


@dataclass(frozen=True)
class OrderFilter:
    """Which orders a list holds; None means any."""

    status: Status | None = None
    customer_id: str | None = None
    reference: str | None = None
    client: str | None = None
    """The client whose key placed it."""
    since: datetime | None = None
    """When Orderflow first knew of it: then, or later."""
    until: datetime | None = None
    """Before that."""


@runtime_checkable
class ReadModel(Protocol):
    """Where every order is."""

    async def record(self, event: Event) -> None:
        """Write down what an event tells of its order; repeats and any order of arrival end the same."""
