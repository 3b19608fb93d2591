"""A publish is confirmed or failed, never silently neither."""

import asyncio

import pytest

from apps.kit.broker import EventBroker
from apps.kit.publishing import PublishFailed, publish
from contracts import OrderCreated

ORDER = OrderCreated.model_validate(OrderCreated.example)


class DyingConnection(EventBroker):
    """Its pending confirms are cancelled, as aiormq does when the connection is lost."""

    async def publish(self, *_arguments: object, **_options: object) -> None:  # type: ignore[override]
        raise asyncio.CancelledError


class SilentConnection(EventBroker):
    """Never confirms."""

    async def publish(self, *_arguments: object, **_options: object) -> None:  # type: ignore[override]
        await asyncio.Event().wait()


async def test_confirm_that_a_dying_connection_cancels_is_a_failed_publish() -> None:
    """The caller goes on and can publish again; it is not taken for a wish to stop it."""
    with pytest.raises(PublishFailed):
        await publish(DyingConnection("tests"), ORDER)


async def test_caller_that_is_cancelled_stays_cancelled() -> None:
    """A stop during a publish is a stop."""
    task = asyncio.create_task(publish(SilentConnection("tests"), ORDER))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
