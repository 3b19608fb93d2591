"""Operators replay all dead letters, and all of them again: what can be handled now is, once."""

from collections import Counter
from typing import Any

import httpx
import pytest

from tests.faults.conftest import Scenario
from tests.faults.eventually import eventually
from tests.faults.load import Load
from tests.faults.mail_server import MailServer
from tests.faults.system import System

ACTOR = {"Orderflow-Actor": "scenario-21"}


@pytest.mark.faults(
    21, "every dead letter replayed, twice", "by HTTP, after a mail server that put off every mail"
)
async def test_all_dead_letters_replayed_twice(scenario: Scenario) -> None:
    """The first replay heals what can be healed, poison dies again; the second changes nothing for anyone."""
    async with MailServer() as mail_server, scenario.system(mail_server=mail_server) as system:
        mail_server.mood = "4xx"
        async with system.load(orders=60, poison_share=0.1, cancel_share=0) as load:
            pass
        expected = mailed(load) + poisoned(load)
        await eventually(lambda: has_open(system, expected), f"{expected} dead letters")
        assert poisoned(load)
        assert mailed(load)

        mail_server.mood = "takes"
        assert await replay_all_open(system) == expected
        await scenario.recovered(system, load)
        await system.settled(load)
        await eventually(lambda: has_open(system, poisoned(load)), "poison that has died again")

        mails = Counter(mail_server.mails)
        assert await replay_each_by_force(system) == expected
        await scenario.passes(system, load)
        assert system.mails() == mails, "somebody was told again"
        archive = system.database("recovery")["dead_letters"]
        histories = [one["history"] async for one in archive.find()]
    for history in histories:
        replays = [entry for entry in history if entry["action"] == "replayed"]
        assert [entry["actor"] for entry in replays] == [ACTOR["Orderflow-Actor"]] * 2


def mailed(load: Load) -> int:
    """Orders whose customers are told by mail, of an invoice or of a refusal."""
    return sum("email" in placed.content["customer"] for placed in load.placed.values())


def poisoned(load: Load) -> int:
    return sum(len(poison.queues) for poison in load.poison.values())


async def has_open(system: System, number: int) -> bool:
    """Whether there are exactly so many open dead letters, and none is on its way."""
    archive = system.database("recovery")["dead_letters"]
    in_queue = (await system.queue_sizes())["dead"]
    return not in_queue and await archive.count_documents({"state": "open"}) == number


async def replay_all_open(system: System) -> int:
    """Replay page by page until there is no other; returns how many were replayed."""
    replayed, cursor = 0, None
    async with system.operator as api:
        while True:
            body = {"all": True, "limit": 25, "cursor": cursor}
            answer = await api.post("/v1/dead-letters/replay", json=body, headers=ACTOR)
            assert answer.status_code == httpx.codes.OK, answer.text
            page: dict[str, Any] = answer.json()
            assert page["skipped"] == []
            replayed += page["replayed"]
            cursor = page["next_cursor"]
            if cursor is None:
                return replayed


async def replay_each_by_force(system: System) -> int:
    """Replay every dead letter, those that are closed too; returns how many were replayed."""
    archive = system.database("recovery")["dead_letters"]
    ids = [one["_id"] async for one in archive.find({}, {"_id": 1})]
    async with system.operator as api:
        for letter_id in ids:
            path = f"/v1/dead-letters/{letter_id}/replay"
            answer = await api.post(path, params={"force": True}, headers=ACTOR)
            assert answer.status_code == httpx.codes.OK, answer.text
    return len(ids)
