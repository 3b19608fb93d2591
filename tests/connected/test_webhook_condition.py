"""When an endpoint is disabled for its failures, and that nobody fails to hear of it."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from conftest import System

from apps.kit.mongo import Database
from apps.webhooks.condition import MongoCondition
from apps.webhooks.domain import Attempt
from apps.webhooks.endpoints import MongoEndpoints

pytestmark = pytest.mark.connected

MONDAY = datetime(2026, 11, 16, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def failure(at: datetime, status: int = 503) -> Attempt:
    return Attempt(at=at, duration_ms=1, status=status)


@pytest.fixture
async def database(system: System) -> AsyncIterator[Database]:
    """A database that no worker looks into."""
    name = f"condition_{uuid4().hex}"
    yield Database(system.mongo, name)
    await system.mongo.drop_database(name)


@pytest.fixture
def endpoints(database: Database) -> MongoEndpoints:
    return MongoEndpoints(database)


@pytest.fixture
def condition(database: Database) -> MongoCondition:
    return MongoCondition(database)


async def registered(endpoints: MongoEndpoints) -> Any:
    endpoint, _ = await endpoints.add("https://shop.example/hook", [], None)
    return endpoint


async def test_five_days_of_failures_without_a_day_of_silence_disable(
    endpoints: MongoEndpoints, condition: MongoCondition
) -> None:
    """Attempts that are half a day apart, the longest pause of the schedule, are one run of failures."""
    endpoint = await registered(endpoints)
    halves_of_days = [await condition.failed(endpoint, failure(MONDAY + n * 12 * HOUR)) for n in range(11)]

    assert halves_of_days == [False] * 10 + [True]
    found = await endpoints.find(endpoint.id)
    assert found is not None
    assert (found.enabled, found.disabled_reason, found.failing_since) == (False, "failing", MONDAY)


async def test_silence_is_no_failure(endpoints: MongoEndpoints, condition: MongoCondition) -> None:
    """A failed test, five quiet days and one 503: it has failed for a moment, twice, and stays enabled."""
    endpoint = await registered(endpoints)
    assert not await condition.failed(endpoint, failure(MONDAY))

    assert not await condition.failed(endpoint, failure(MONDAY + 5 * DAY))

    found = await endpoints.find(endpoint.id)
    assert found is not None
    assert (found.enabled, found.failing_since) == (True, MONDAY + 5 * DAY)


async def test_success_ends_a_run_that_began_while_it_was_under_way(
    endpoints: MongoEndpoints, condition: MongoCondition
) -> None:
    """Read before another attempt failed, the endpoint looked well; that it has taken something counts."""
    read_before = await registered(endpoints)
    await condition.failed(read_before, failure(MONDAY))

    await condition.succeeded(read_before)

    found = await endpoints.find(read_before.id)
    assert found is not None
    assert (found.failing_since, found.last_error) == (None, None)


async def test_each_disabling_is_announced(endpoints: MongoEndpoints, condition: MongoCondition) -> None:
    """Enabled and gone again while RabbitMQ was away: both announcements wait, and leave one by one."""
    endpoint = await registered(endpoints)
    for _ in range(2):
        assert await condition.failed(endpoint, failure(MONDAY, 410))
        await endpoints.change(endpoint.id, {"enabled": True})

    first, second = await condition.unannounced()

    assert first.disabling_id != second.disabling_id
    await condition.announced(first)
    assert await condition.unannounced() == [second]
    await condition.announced(second)
    assert await condition.unannounced() == []
