"""Counts and movements of stock that somebody types in: each is announced once, however often it is sent."""

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID, uuid4

from pymongo.errors import PyMongoError
from starlette.datastructures import FormData

from apps.console.soon import soon
from apps.kit.broker import EventBroker
from apps.kit.clock import utc_now
from apps.kit.publishing import publish
from apps.stock.document import StockLevel
from apps.stock.shelves import MongoShelves
from contracts import StockAdjusted

KINDS = ("count", "add", "remove", "unlimited")
_MOST = 1_000_000_000
_UNITS = re.compile(r"[0-9]{1,10}")

Gettext = Callable[[str], str]


class RefusedError(Exception):
    """It cannot be, and nothing was announced; says why in the viewer's language."""


@dataclass(frozen=True)
class Wish:
    """What was typed."""

    adjustment_id: UUID
    """Made with the form, so that a second click is no second adjustment."""
    kind: str = "count"
    quantity: str = ""

    @classmethod
    def of(cls, form: FormData) -> Self:
        try:
            adjustment_id = UUID(str(form.get("adjustment_id")))
        except ValueError:
            adjustment_id = uuid4()
        return cls(adjustment_id, str(form.get("kind")), str(form.get("quantity", "")).strip())

    def adjustment(self, sku: str, _: Gettext) -> StockAdjusted:
        """The event that it comes to.

        Raises:
            RefusedError: it is none.
        """
        if self.kind not in KINDS:
            raise RefusedError(_("Choose what has happened."))
        content: dict[str, Any] = {"mode": "set", "unlimited": True}
        if self.kind != "unlimited":
            units = int(self.quantity) if _UNITS.fullmatch(self.quantity) else -1
            if not (0 if self.kind == "count" else 1) <= units <= _MOST:
                raise RefusedError(_("Say how many units, as a whole number."))
            content = {
                "mode": "set" if self.kind == "count" else "add",
                "quantity": -units if self.kind == "remove" else units,
            }
        return StockAdjusted(adjustment_id=self.adjustment_id, sku=sku, adjusted_at=utc_now(), **content)


async def adjust(adjustment: StockAdjusted, broker: EventBroker, shelves: MongoShelves, _: Gettext) -> bool:
    """Announce it, and wait a moment; tells whether stock has applied it yet.

    Raises:
        RefusedError: stock could not apply it, or its form was sent before with something else in it.
        PublishFailed: RabbitMQ has not confirmed it.
    """
    # In this order: once it is applied, the level says nothing of whether it could be.
    level = await shelves.level(adjustment.sku)
    applied = await shelves.adjustment(adjustment.adjustment_id)
    if applied is None:
        _check(adjustment, level, _)
        await publish(broker, adjustment)
        with suppress(PyMongoError):  # it is on its way: nobody must be led to send it in another form
            applied = await soon(lambda: shelves.adjustment(adjustment.adjustment_id))
    if applied is None:
        return False
    if (applied.sku, applied.mode, applied.quantity) != (
        adjustment.sku,
        adjustment.mode,
        adjustment.quantity,
    ):
        raise RefusedError(
            _("This form was sent before, with something else. Look at the level, then send it again.")
        )
    return True


def _check(adjustment: StockAdjusted, level: StockLevel | None, _: Gettext) -> None:
    """Refuse what would only end as a dead letter, or change nothing."""
    if adjustment.mode == "set":
        return
    available = level.available if level else 0
    if available is None:
        raise RefusedError(_("This article has no limit. Count it, and it has one."))
    if available + (adjustment.quantity or 0) < 0:
        raise RefusedError(_("Only %(n)s are available. Count them instead.") % {"n": available})
