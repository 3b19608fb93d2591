"""Cancellation: whatever overtakes whatever, nothing stays reserved and nothing stays invoiced."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from apps.billing import app as billing
from apps.orders.domain import Status
from apps.stock import app as stock
from apps.stock.domain import Level
from contracts import Event, InvoiceIssued, InvoiceVoided, OrderCancelled, OrderCreated, OrderValidated
from tests.flows.fakes import InvoiceBookInMemory, ReadModelInMemory, WarehouseInMemory

ORDER_IDS = (UUID(int=1), UUID(int=2))
ENOUGH_FOR_ONE = 6
LEVELS = {"85123A": Level(ENOUGH_FOR_ONE), "71053": Level(None)}
MOST_REPEATS = 4
Handler = Callable[[Any], Awaitable[Event | None]]


class Choreography:
    """Stock, billing and the read model, with every delivery still to be made."""

    def __init__(self) -> None:
        self.warehouse = WarehouseInMemory()
        self.warehouse.levels = dict(LEVELS)
        self.invoice_book = InvoiceBookInMemory()
        self.read_model = ReadModelInMemory()
        self.published: dict[UUID, Event] = {}
        self.waiting: list[tuple[Handler, Event]] = []
        self.handlers: dict[type[Event], list[Handler]] = {
            OrderCreated: [lambda event: stock.on_order_created(event, self.warehouse)],
            OrderValidated: [lambda event: billing.on_order_validated(event, self.invoice_book)],
            OrderCancelled: [
                lambda event: stock.on_order_cancelled(event, self.warehouse),
                lambda event: billing.on_order_cancelled(event, self.invoice_book),
            ],
        }

    def publish(self, event: Event) -> None:
        """Put the event into each queue that it belongs to."""
        assert self.published.setdefault(event.event_id, event) == event, "one event id says two things"
        handlers = [*self.handlers.get(type(event), []), self.read_model.record]
        self.waiting += [(handler, event) for handler in handlers]

    async def deliver(self, position: int, *, again: bool) -> None:
        """Make one delivery, and leave it to be made again or not."""
        handler, event = self.waiting[position] if again else self.waiting.pop(position)
        if outcome := await handler(event):
            self.publish(outcome)

    def of_order(self, order_id: UUID) -> set[str]:
        """The names of all that was published about an order."""
        about = [event for event in self.published.values() if event.correlation_id == str(order_id)]
        return {type(event).__name__ for event in about}


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_every_interleaving_ends_consistent(data: st.DataObject) -> None:
    """Two cancelled orders of which stock serves one: any order of deliveries, any of them repeated."""
    system = Choreography()

    async def run() -> None:
        repeats = 0
        while system.waiting:
            position = data.draw(st.integers(0, len(system.waiting) - 1))
            again = repeats < MOST_REPEATS and data.draw(st.booleans())
            repeats += again
            await system.deliver(position, again=again)

    for order_id in ORDER_IDS:
        about = {"order_id": order_id}
        system.publish(OrderCreated.model_validate(OrderCreated.example | about))
        system.publish(OrderCancelled.model_validate(OrderCancelled.example | about))
    asyncio.run(run())

    assert system.warehouse.levels == LEVELS
    assert system.invoice_book.credit_notes.keys() == system.invoice_book.invoices.keys()
    for kind, numbers in (
        (InvoiceIssued, [one.number for one in system.invoice_book.invoices.values()]),
        (InvoiceVoided, [one.credit_note_number for one in system.invoice_book.credit_notes.values()]),
    ):
        assert [int(number[-6:]) for number in numbers] == list(range(1, len(numbers) + 1))
        assert sum(isinstance(event, kind) for event in system.published.values()) == len(numbers)
    for order_id in ORDER_IDS:
        order = system.read_model.order(order_id)
        assert Status.of_rank(order.rank) is Status.CANCELLED
        assert list(order.awaits) == ["notification"]
        decided = {"OrderValidated", "OrderRejected"} & system.of_order(order_id)
        assert len(decided) == 1, "stock decides once"
        note = system.invoice_book.credit_notes.get(order_id)
        assert order.credit_note_number == (note and note.credit_note_number)
