"""What the log of a webhook endpoint comes to: how many arrived, and how fast it answers."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from statistics import median, quantiles
from uuid import UUID

from fastapi import Request

from apps.console.pages import gettext
from apps.console.soon import soon
from apps.webhooks.domain import State
from apps.webhooks.endpoints import MongoEndpoints
from apps.webhooks.mongo import Delivery
from apps.webhooks.views import DeliveryView

_LOOKED_AT = 100


@dataclass(frozen=True)
class Figures:
    """Of an endpoint's newest deliveries."""

    count: int
    states: Mapping[str, int]
    median_seconds: float | None
    """How long an attempt took; None without any."""
    p95_seconds: float | None


async def figures_of(endpoint_id: UUID, webhooks: MongoEndpoints) -> Figures:
    """Sum up the newest hundred."""
    newest = await webhooks.deliveries(endpoint_id, None, None, _LOOKED_AT)
    took = [attempt["duration_ms"] / 1000 for delivery in newest for attempt in delivery.attempts]
    states = Counter(str(delivery.state) for delivery in newest)
    if not took:
        return Figures(len(newest), states, None, None)
    p95 = quantiles(took, n=20, method="inclusive")[-1] if len(took) > 1 else took[0]
    return Figures(len(newest), states, median(took), p95)


async def attempted(
    request: Request, sent: DeliveryView, last: datetime | None, webhooks: MongoEndpoints
) -> str:
    """One sentence of what came of what was just sent, once it was attempted or a moment is over.

    Args:
        request: whose viewer is told.
        sent: the delivery.
        last: when it was attempted before.
        webhooks: the log.
    """
    _ = gettext(request)

    async def attempt() -> Delivery | None:
        delivery = await webhooks.delivery(sent.delivery_id)
        is_new = delivery is not None and delivery.attempts and delivery.attempts[-1]["at"] != last
        return delivery if is_new else None

    delivery = await soon(attempt)
    if delivery is None:
        return _("It is on its way; the log will say what came of it.")
    if delivery.state == State.DELIVERED:
        return _("Sent, and the endpoint has it.")
    return _("Sent, but not taken: the log says how the endpoint answered.")
