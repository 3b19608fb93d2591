"""What a viewer looks for among the orders: any number that a customer may name, a status, a time."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from enum import StrEnum
from typing import Self
from urllib.parse import urlencode
from uuid import UUID
from zoneinfo import ZoneInfo

from starlette.datastructures import QueryParams, State

from apps.billing.statements import MongoStatements
from apps.kit.access import Caller
from apps.kit.paging import Position
from apps.kit.problems import invalid
from apps.orders.application import OrderFilter
from apps.orders.domain import Status
from apps.orders.mongo import MongoOrderBook

_NUMBER = re.compile(r"(CN-)?[0-9]{4}-[0-9]{6,15}", re.IGNORECASE)
"""Of an invoice or a credit note."""
_LONGEST_TEXT = 128


class Kind(StrEnum):
    """What a text may be the name of, of several orders."""

    REFERENCE = "reference"
    CUSTOMER = "customer"


@dataclass(frozen=True, kw_only=True)
class Search:
    """The search form as it was sent; what was left empty is None."""

    text: str | None = None
    kind: Kind | None = None
    """What the text is, if the viewer said so."""
    status: Status | None = None
    since: str | None = None
    until: str | None = None
    zone: str = "UTC"
    """Whose clock the times are read from: the browser's, or UTC if that runs no scripts."""
    stuck: bool = False
    cursor: str | None = None

    @classmethod
    def of(cls, params: QueryParams) -> Self:
        """Read an address.

        Raises:
            ProblemError: 422, no page of ours has made it.
        """
        given = {name: value.strip() for name, value in params.items() if value.strip()}
        kind, status = given.get("kind"), given.get("status")
        if kind is not None and kind not in set(Kind):
            raise invalid("kind", "is neither reference nor customer")
        if status is not None and status not in set(Status):
            raise invalid("status", "is no status of an order")
        if cursor := given.get("cursor"):
            try:
                Position.from_cursor(cursor)
            except ValueError as error:
                raise invalid("cursor", str(error)) from error
        search = cls(
            text=given.get("q", "")[:_LONGEST_TEXT] or None,
            kind=Kind(kind) if kind else None,
            status=Status(status) if status else None,
            since=given.get("since"),
            until=given.get("until"),
            zone=given.get("zone", "UTC"),
            stuck="stuck" in given,
            cursor=cursor,
        )
        search.filter(None)
        return search

    @property
    def is_everything(self) -> bool:
        """Whether it is the first page of all orders."""
        return self == Search(zone=self.zone)

    def of_kind(self, kinds: Sequence[Kind]) -> Self:
        """The search for the text as one of these; as the viewer said, if it is that."""
        kind = self.kind if self.kind in kinds else next(iter(kinds), None)
        return replace(self, kind=kind)

    def filter(self, client: str | None) -> OrderFilter:
        """The orders to list."""
        return OrderFilter(
            status=self.status,
            customer_id=self.text if self.kind is Kind.CUSTOMER else None,
            reference=self.text if self.kind is Kind.REFERENCE else None,
            client=client,
            since=self._moment("since", self.since),
            until=self._moment("until", self.until),
        )

    def query(self, **changes: str | None) -> str:
        """The address of this search, with another page or kind; as what follows the question mark."""
        other = replace(self, **{"cursor": None, **changes})  # type: ignore[arg-type]  # its own fields
        is_timed = other.since or other.until
        given = {
            "q": other.text,
            "kind": other.kind,
            "status": other.status,
            "since": other.since,
            "until": other.until,
            "zone": other.zone if is_timed else None,
            "stuck": "1" if other.stuck else None,
            "cursor": other.cursor,
        }
        return urlencode({name: value for name, value in given.items() if value is not None})

    def _moment(self, field: str, text: str | None) -> datetime | None:
        if text is None:
            return None
        try:
            return datetime.fromisoformat(text).replace(tzinfo=_zone(self.zone)).astimezone(UTC)
        except (ValueError, OverflowError) as error:
            raise invalid(field, "is no date and time such as 2026-11-22T10:15") from error


@dataclass(frozen=True)
class Hits:
    """What a text is the name of."""

    order_id: UUID | None
    """The one order whose id it is, or that of its invoice or credit note."""
    kinds: tuple[Kind, ...]
    """What else it is, of one order at least."""

    @property
    def only_order(self) -> UUID | None:
        """The one that can be meant, if there is no other."""
        return None if self.kinds else self.order_id


async def hits_of(text: str, caller: Caller, state: State) -> Hits:
    """Find out what a text is, among the orders that the caller may see."""
    orders: MongoOrderBook = state.orders
    order_id = _order_id(text)
    if order_id is None and _NUMBER.fullmatch(text):
        order_id = await MongoStatements(state.billing).order_of(text.upper())
    if order_id is not None and not await _is_seen(order_id, caller, orders):
        order_id = None
    wanted: dict[Kind, OrderFilter] = {
        Kind.REFERENCE: OrderFilter(reference=text, client=caller.client),
        Kind.CUSTOMER: OrderFilter(customer_id=text, client=caller.client),
    }
    kinds = tuple([kind for kind, one in wanted.items() if await orders.list(one, None, 1)])
    return Hits(order_id, kinds)


async def _is_seen(order_id: UUID, caller: Caller, orders: MongoOrderBook) -> bool:
    order = await orders.find(order_id)
    return order is not None and caller.sees(order.client)


def _order_id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):  # no such zone, no such name, or a folder of zones
        return UTC
