"""Movements of stock that somebody types in: announced once, and what is announced is told so."""

from typing import Any
from uuid import uuid4

import pytest
from pymongo.errors import AutoReconnect

from apps.console import adjusting
from apps.console.adjusting import Wish, adjust


class ShelvesThatBreak:
    """Nothing was ever applied; MongoDB fails once something was announced."""

    def __init__(self, announced: list[Any]) -> None:
        self._announced = announced

    async def level(self, _sku: str) -> None:
        return None

    async def adjustment(self, _adjustment_id: object) -> None:
        if self._announced:
            raise AutoReconnect("away")


async def test_announced_movement_is_no_failure_when_mongodb_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Told that it had failed, somebody would type it in again, in a new form, and it would count twice."""
    announced: list[Any] = []

    async def publish(_broker: object, event: object) -> None:
        announced.append(event)

    monkeypatch.setattr(adjusting, "publish", publish)
    adjustment = Wish(uuid4(), "add", "10").adjustment("A-1", str)
    is_applied = await adjust(adjustment, None, ShelvesThatBreak(announced), str)  # type: ignore[arg-type]
    assert (is_applied, announced) == (False, [adjustment])
