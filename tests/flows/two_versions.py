"""A worked example for docs/EVENTS.md: `order.created.v2`, with decimal quantities and units, beside v1.

It lives in the tests only: no app publishes it.
"""

from typing import Any, ClassVar
from uuid import UUID

from pydantic import ConfigDict, Field

from apps.kit.broker import EventBroker
from apps.kit.topology import EVENTS, inbox
from contracts import Event, OrderCreated
from contracts.amounts import Timestamp
from contracts.event import Change, Contract
from contracts.orders import EXAMPLE_ORDER_ID, OrderId, Sku


class MeasuredLine(Contract):
    """A quantity of one article, in its unit."""

    sku: Sku
    quantity: str = Field(pattern=r"^\d{1,7}(\.\d{1,3})?$", description="How much, as a decimal.")
    unit: str = Field(max_length=8, description="UN/CEFACT code of the unit: `C62` is a piece.")


class OrderCreatedV2(Event):
    """A customer placed an order, by piece, weight or length."""

    topic: ClassVar[str] = "order.created.v2"
    version: ClassVar[int] = 2
    owner: ClassVar[str] = "orders"
    time_field: ClassVar[str] = "placed_at"
    history: ClassVar[tuple[Change, ...]] = (
        Change("0.2.0", "Introduced: `lines[].quantity` is a decimal string, with its `unit` beside it."),
    )
    example: ClassVar[dict[str, Any]] = {
        "order_id": EXAMPLE_ORDER_ID,
        "lines": [{"sku": "71053", "quantity": "1.5", "unit": "KGM"}],
        "placed_at": "2026-11-22T10:15:00Z",
    }
    model_config = ConfigDict(json_schema_extra={"examples": [example]})

    order_id: OrderId
    lines: tuple[MeasuredLine, ...] = Field(min_length=1, description="What was ordered.")
    placed_at: Timestamp = Field(description="When the customer placed it, RFC 3339.")

    @classmethod
    def upgraded(cls, order: OrderCreated) -> "OrderCreatedV2":
        """The same order, as a publisher of v2 would have told it."""
        lines = tuple(
            MeasuredLine(sku=line.sku, quantity=str(line.quantity), unit="C62") for line in order.lines
        )
        return cls(order_id=order.order_id, lines=lines, placed_at=order.placed_at)


class Packing:
    """A consumer of both versions: each has its own queue, and v1 is upgraded at the edge."""

    def __init__(self, rabbitmq_url: str | None = None) -> None:
        self.packed: dict[UUID, OrderCreatedV2] = {}
        """By order, so that the same order in both versions is packed once."""
        self.broker = EventBroker("packing", rabbitmq_url)

        @self.broker.subscriber(inbox("packing", OrderCreated), EVENTS)
        async def on_order_created(order: OrderCreated) -> None:
            self.pack(OrderCreatedV2.upgraded(order))

        @self.broker.subscriber(inbox("packing", OrderCreatedV2), EVENTS)
        async def on_order_created_v2(order: OrderCreatedV2) -> None:
            self.pack(order)

    def pack(self, order: OrderCreatedV2) -> None:
        self.packed.setdefault(order.order_id, order)
