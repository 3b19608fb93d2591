"""A publish is confirmed or failed, never silently neither."""

import asyncio
from collections.abc import Iterator

import pytest
from aio_pika.exceptions import AMQPConnectionError, ChannelNotFoundEntity
from faststream.rabbit.publisher.producer import AioPikaFastProducerImpl

from apps.kit.broker import EventBroker
from apps.kit.producer import RabbitUnavailable
from apps.kit.publishing import PublishFailed, publish
from apps.kit.settings import get_settings
from contracts import OrderCreated

ORDER = OrderCreated.model_validate(OrderCreated.example)


@pytest.fixture
def confirm(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[BaseException | None]]:
    """What becomes of a publish: the error in the list, or no answer at all."""
    outcomes: list[BaseException | None] = [None]
    monkeypatch.setenv("ORDERFLOW_PUBLISH_TIMEOUT_SECONDS", "0.05")
    get_settings.cache_clear()

    async def send(*_arguments: object) -> None:
        if outcomes[0] is None:
            await asyncio.Event().wait()
        else:
            raise outcomes[0]

    monkeypatch.setattr(AioPikaFastProducerImpl, "publish", send)
    yield outcomes
    get_settings.cache_clear()


@pytest.mark.parametrize(
    "outcome",
    [asyncio.CancelledError(), AMQPConnectionError("gone"), None],
    ids=["cancelled with its connection", "connection lost", "never confirmed"],
)
async def test_publish_that_was_not_confirmed_fails(
    confirm: list[BaseException | None], outcome: BaseException | None
) -> None:
    """The caller goes on and can publish again; a dying connection is not taken for a wish to stop it."""
    confirm[0] = outcome
    with pytest.raises(PublishFailed) as failure:
        await publish(EventBroker("tests"), ORDER)
    assert isinstance(failure.value.__cause__, RabbitUnavailable)


async def test_refused_publish_is_no_outage(confirm: list[BaseException | None]) -> None:
    """What RabbitMQ refuses fails as such: waiting would not help."""
    confirm[0] = ChannelNotFoundEntity("no such exchange")
    with pytest.raises(PublishFailed) as failure:
        await publish(EventBroker("tests"), ORDER)
    assert isinstance(failure.value.__cause__, ChannelNotFoundEntity)


async def test_caller_that_is_cancelled_stays_cancelled(confirm: list[BaseException | None]) -> None:
    """A stop during a publish is a stop."""
    confirm[0] = None
    task = asyncio.create_task(publish(EventBroker("tests"), ORDER))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
