"""What webhooks do with an event: keep a delivery for every endpoint that wants it, and nothing else."""

from typing import Protocol, runtime_checkable

from contracts import Event


@runtime_checkable
class Outbox(Protocol):
    """Keeps what is to be delivered."""

    async def add(self, event: Event) -> None:
        """Store one delivery per endpoint that wants the event; a repeat changes nothing."""
