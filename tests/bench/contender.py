"""What the harness wants of every contender: how it is prepared, fed, started and audited.

The job, beside stock, invoice and notification: a read model that shows each order with its content, its
invoice number and the time of each step, and lists orders newest first as `LISTS` says.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import aio_pika

from contracts import OrderCreated

EVENTS = "events"
"""The topic exchange on which every contender announces that a customer was told."""
LISTS = {
    "newest": ("recorded_at",),
    "by_status": ("rank", "recorded_at"),
    "by_customer": ("customer_id", "recorded_at"),
    "by_reference": ("reference", "recorded_at"),
}
"""Fields of the read model by which orders are listed: each list has an index."""
TOLD = "notification.sent.v1"
"""The routing key of that; its message carries the order's id as `correlation_id`."""


@dataclass(frozen=True)
class Place:
    """One round's own virtual host and databases."""

    rabbitmq_url: str
    mongodb_url: str
    database: str
    """The name of the database, or what the names of several begin with."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """More variables for the contender's processes."""

    @property
    def environment(self) -> dict[str, str]:
        """What a contender's processes find in their environment."""
        return {
            "BENCH_RABBITMQ_URL": self.rabbitmq_url,
            "BENCH_MONGODB_URL": self.mongodb_url,
            "BENCH_DATABASE": self.database,
            **self.settings,
        }


@dataclass(frozen=True)
class Entry:
    """One order as it goes in."""

    exchange: str
    routing_key: str
    message: aio_pika.Message


@dataclass(frozen=True)
class Books:
    """What a contender has stored: the proof that it did the whole job, and did it once."""

    invoice_numbers: Sequence[int]
    """Of all invoices, in any order."""
    units_reserved: int
    """Units that are missing on the shelves."""
    notifications: int
    """Records of customers told."""
    notified: int
    """Orders that the read model shows as notified, with customer, lines and invoice number."""


def shown(notified: Mapping[str, Any]) -> dict[str, Any]:
    """The condition for an order that a read model shows in full; `notified` tells the status."""
    return {
        **notified,
        "customer_id": {"$type": "string"},
        "content.lines.0": {"$exists": True},
        "invoice_number": {"$exists": True},
        "recorded_at": {"$type": "date"},
    }


class Contender(Protocol):
    """A way to build an order pipeline."""

    name: str
    keeps_books: bool
    """False for a ceiling that stores nothing."""

    def commands(self, place: Place) -> Mapping[str, Sequence[str]]:
        """The command line of each worker process, by a name for the tables: `stock`."""

    def queues(self, place: Place) -> Sequence[str]:
        """Queues that have a consumer once every process is ready."""

    async def prepare(self, place: Place, stock: Mapping[str, int]) -> None:
        """Declare the topology and put so many units of each sku on the shelves, before processes start."""

    def entry(self, order: OrderCreated) -> Entry:
        """The message by which an order comes in; the same order twice is a repeat."""

    async def books(self, place: Place) -> Books:
        """Read what was stored."""
