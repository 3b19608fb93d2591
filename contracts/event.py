"""What every event has in common: a topic, a version, an example and an identity that repeats keep."""

from datetime import datetime
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple
from uuid import UUID, uuid5

from pydantic import BaseModel, BeforeValidator, ConfigDict

NAMESPACE = UUID("5b0c6ee1-5bb5-5f0e-8f55-3c1b8a0f8f6e")
"""Root of all derived ids, fixed for ever: changing it would make every repeat look new."""


MOST_ITEMS = 1000
"""Of any list in a message; the largest real order in our data has 593 lines."""


def _countable(items: Any) -> Any:
    if isinstance(items, list) and len(items) > MOST_ITEMS:
        raise ValueError(f"{len(items):,} are too many: {MOST_ITEMS:,} at the most")
    return items


Bounded = BeforeValidator(_countable)
"""Refuses a list that is too long before looking into it: telling a million mistakes would take minutes."""


class Contract(BaseModel):
    """A frozen part of a message; unknown fields are ignored, so that publishers may add some."""

    # An error must say where and why without repeating a customer's data into logs.
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class Change(NamedTuple):
    """What a release changed in an event, for those who publish it or receive it."""

    release: str
    change: str


@lru_cache(maxsize=1024)  # whoever handles an event asks several times
def _derived_id(topic: str, identity: Any) -> UUID:
    return uuid5(NAMESPACE, f"{topic}/{identity}")


class Event(Contract):
    """A fact, in the past tense, published once and perhaps delivered often."""

    topic: ClassVar[str]
    """Routing key and CloudEvents type, with the version at its end: `order.created.v1`."""
    version: ClassVar[int]
    owner: ClassVar[str]
    """The app that publishes it."""
    from_outside: ClassVar[bool] = False
    """Whether other systems may publish it too, straight to RabbitMQ."""
    example: ClassVar[dict[str, Any]]
    """A valid body, as JSON."""
    identity_field: ClassVar[str] = "order_id"
    """The natural key: two events of one topic with the same value are the same event."""
    time_field: ClassVar[str]
    """The field that says when it happened."""
    history: ClassVar[tuple[Change, ...]]
    """What became of this version of the event, the oldest first."""

    @property
    def event_id(self) -> UUID:
        """Derived from topic and natural key, so that a repeat is recognisable everywhere."""
        return _derived_id(self.topic, getattr(self, self.identity_field))

    @property
    def correlation_id(self) -> str:
        """The order that the event belongs to, else the event's own natural key."""
        return str(getattr(self, "order_id", None) or getattr(self, self.identity_field))

    @property
    def occurred_at(self) -> datetime:
        moment: datetime = getattr(self, self.time_field)
        return moment
