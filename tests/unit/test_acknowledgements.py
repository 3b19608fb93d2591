"""Many messages are acknowledged with few frames: each of them once, and none that is not done."""

import asyncio
from collections.abc import Iterator
from random import Random
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from apps.kit.acknowledgements import Acknowledgements


class Channel:
    """As RabbitMQ: a number that is told twice, or that it never gave out, ends the channel."""

    is_closed = False

    def __init__(self, deliveries: int) -> None:
        self.open = set(range(1, deliveries + 1))
        self.frames = 0

    async def basic_ack(self, tag: int, *, multiple: bool = False) -> None:
        self.frames += 1
        assert tag in self.open, f"unknown delivery tag {tag}"
        self.open -= {one for one in self.open if one <= tag} if multiple else {tag}
        await asyncio.sleep(0)

    def message(self, tag: int) -> Any:
        async def nack() -> None:
            assert tag in self.open
            self.open.remove(tag)
            await asyncio.sleep(0)

        return SimpleNamespace(delivery_tag=tag, channel=self, nack=nack)


def turns(random: Random) -> Iterator[int]:
    """How many turns of the loop each message takes."""
    while True:
        yield random.randrange(20)


@given(st.integers(1, 60), st.randoms(use_true_random=False))
async def test_each_message_is_settled_once_and_only_when_it_is_done(count: int, random: Random) -> None:
    """Whatever the order in which they end, some of them given back, and one that never ends."""
    channel, acknowledgements = Channel(count), Acknowledgements()
    stuck = random.randint(1, count)
    undone = set(channel.open)

    async def handle(tag: int, pause: int) -> None:
        for _ in range(pause):
            await asyncio.sleep(0)
            assert undone <= channel.open, "settled before it was done"
        undone.remove(tag)
        settle = acknowledgements.nack if random.random() < 0.1 else acknowledgements.ack
        await settle(cast("Any", channel.message(tag)))
        assert tag not in channel.open

    pauses = turns(random)
    async with asyncio.TaskGroup() as handlers:
        for tag in range(1, count + 1):
            if tag != stuck:
                handlers.create_task(handle(tag, next(pauses)))

    assert channel.open == {stuck}


async def test_those_that_are_done_together_take_one_frame() -> None:
    """A group commit ends fifty handlers at once; RabbitMQ hears of it in a single frame."""
    channel, acknowledgements = Channel(50), Acknowledgements()

    await asyncio.gather(*(acknowledgements.ack(channel.message(tag)) for tag in range(50, 0, -1)))

    assert (channel.open, channel.frames) == (set(), 1)


async def test_lost_channel_is_told_to_all_who_wait() -> None:
    """Nobody takes a message for acknowledged that RabbitMQ will deliver again."""

    class Lost(Channel):
        async def basic_ack(self, tag: int, *, multiple: bool = False) -> None:
            raise ConnectionError(f"{tag} {multiple}")

    channel, acknowledgements = Lost(2), Acknowledgements()
    outcomes = await asyncio.gather(
        *(acknowledgements.ack(channel.message(tag)) for tag in (1, 2)), return_exceptions=True
    )

    assert [type(outcome) for outcome in outcomes] == [ConnectionError, ConnectionError]


async def test_nothing_leaves_while_it_is_held() -> None:
    """A stop that cancels its consumers makes no room for messages which it would only give back."""
    channel, acknowledgements = Channel(2), Acknowledgements()
    with acknowledgements.held():
        acks = [asyncio.create_task(acknowledgements.ack(channel.message(tag))) for tag in (1, 2)]
        for _ in range(10):
            await asyncio.sleep(0)
        assert channel.frames == 0

    await asyncio.gather(*acks)

    assert (channel.open, channel.frames) == (set(), 1)
