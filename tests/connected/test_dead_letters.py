"""Dead letters: archived once, shown to people, sent again exactly as they were, and never lost."""

import asyncio
import json
import os
import signal
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue
from conftest import PREFIX, System, eventually, new_order
from test_commands import orderflow

from apps.kit.headers import is_passed_on
from apps.kit.mongo import Database
from apps.recovery.mongo import MongoArchive
from contracts import StockAdjusted

pytestmark = pytest.mark.connected


def write_off(sku: str, quantity: int = 5) -> StockAdjusted:
    """Units taken off an article, which fails while it has not been counted."""
    return StockAdjusted(
        adjustment_id=uuid4(), sku=sku, mode="add", quantity=-quantity, adjusted_at="2026-11-02T08:00:00Z"
    )


async def dead_order(system: System, **wrong: Any) -> tuple[str, list[dict[str, Any]]]:
    """An order that breaks its contract: its message id, and the letters of stock and of the read model."""
    body = json.loads(new_order(("any", 1)).model_dump_json()) | (wrong or {"currency": "GBX"})
    message_id = str(uuid4())
    await system.publish_raw("order.created.v1", json.dumps(body).encode(), message_id=message_id)
    return message_id, await system.dead_letters(message_id, 2)


async def state_of(system: System, letter: dict[str, Any]) -> str:
    found = await system.database("recovery")["dead_letters"].find_one({"_id": letter["_id"]})
    return str(found["state"])


async def post(system: System, letter: dict[str, Any], action: str, **request: Any) -> Any:
    return await system.api.post(f"/v1/dead-letters/{letter['_id']}/{action}", **request)


@asynccontextmanager
async def own_queue(system: System, name: str, **arguments: Any) -> AsyncIterator[AbstractQueue]:
    """A consumer's queue of the test's own, to which messages can be replayed, and which nobody consumes."""
    queue = await system.channel.declare_queue(
        name, durable=True, arguments={"x-queue-type": "quorum", **arguments}
    )
    await queue.bind("replay", name)
    try:
        yield queue
    finally:
        await queue.delete(if_unused=False, if_empty=False)


async def received(queue: AbstractQueue) -> AbstractIncomingMessage:
    """The next message in a queue, without what RabbitMQ itself writes on it."""

    async def check() -> AbstractIncomingMessage | None:
        return await queue.get(no_ack=True, fail=False)

    message: AbstractIncomingMessage = await eventually(check, f"message in {queue.name}")
    for name in [name for name in message.headers if not is_passed_on(name)]:
        del message.headers[name]
    return message


async def put_into_dead(system: System, message: aio_pika.Message) -> dict[str, Any]:
    """Hand a message to the archive as a worker does that gives it up."""
    dead = await system.channel.get_exchange("dead", ensure=False)
    message.message_id = message.message_id or str(uuid4())
    await dead.publish(message, "")
    return await system.dead_letter(message.message_id)


async def test_cause_that_is_mended_is_healed_by_a_replay(system: System) -> None:
    """A write-off that died before its count came is applied by a replay, once, and its letter is closed."""
    sku = f"sku-{uuid4().hex[:12]}"
    adjustment = write_off(sku)
    await system.publish(adjustment)
    letter = await system.dead_letter(str(adjustment.adjustment_id))
    assert (letter["state"], letter["attempts"]) == ("open", 5)
    await system.stock_up(20, [sku])

    answer = await post(system, letter, "replay", headers={"Orderflow-Actor": "ana@shop.example"})

    assert answer.status_code == 200, answer.text
    levels = system.database("stock")["levels"]

    async def applied() -> bool:
        return (await levels.find_one({"_id": sku}))["available"] == 15

    await eventually(applied, "the write-off is applied")
    shown = (await system.api.get(f"/v1/dead-letters/{letter['_id']}")).json()
    assert (shown["state"], shown["replays"]) == ("replayed", 1)
    assert [(entry["action"], entry["actor"]) for entry in shown["history"]] == [
        ("opened", "recovery"),
        ("replayed", "ana@shop.example"),
    ]
    again = await post(system, letter, "replay")
    assert (again.status_code, again.headers["content-type"]) == (409, "application/problem+json")
    assert "it is replayed since" in again.json()["detail"]
    assert (await post(system, letter, "replay?force=true")).status_code == 200
    await system.handled("stock", adjustment.adjustment_id, adjustment.topic, times=2)
    assert (await levels.find_one({"_id": sku}))["available"] == 15


async def test_replay_that_dies_again_opens_its_letter_again(system: System) -> None:
    """While the cause is there, a replay ends where it began: one letter, its deaths in its history."""
    adjustment = write_off(f"sku-{uuid4().hex[:12]}")
    await system.publish(adjustment)
    letter = await system.dead_letter(str(adjustment.adjustment_id))

    for number in (1, 2):
        answer = await post(system, letter, "replay")
        assert answer.status_code == 200, answer.text

        async def died_again(number: int = number) -> dict[str, Any] | None:
            found = (await system.api.get(f"/v1/dead-letters/{letter['_id']}")).json()
            actions = [entry["action"] for entry in found["history"]]
            return found if actions.count("died again") == number else None

        again = await eventually(died_again, f"death of replay {number}")
        assert (again["state"], again["replays"], again["attempts"]) == ("open", number, 5)
        assert (again["closed_at"], again["expires_at"]) == (None, None)
        # The attempts were counted anew.
        assert datetime.fromisoformat(again["first_failed_at"]) > letter["last_failed_at"]


async def test_older_death_that_is_delivered_again_changes_nothing(system: System) -> None:
    """What an operator did stands: a repeat of the death before it does not open the letter again."""
    queue = f"test.{uuid4().hex}"
    message_id = str(uuid4())

    def death() -> aio_pika.Message:
        return aio_pika.Message(b"x", message_id=message_id, headers={"orderflow-queue": queue})

    async with own_queue(system, queue) as inbox:
        letter = await put_into_dead(system, death())
        assert (await post(system, letter, "replay?force=true")).status_code == 200
        await received(inbox)

        await put_into_dead(system, death())
        # Behind it, so that once this one is archived the repeat has been handled too.
        await put_into_dead(system, aio_pika.Message(b"last"))

        assert await state_of(system, letter) == "replayed"
        replayed = aio_pika.Message(
            b"x", message_id=message_id, headers={"orderflow-queue": queue, "orderflow-replay": 1}
        )
        await put_into_dead(system, replayed)

        async def is_open() -> bool:
            return await state_of(system, letter) == "open"

        await eventually(is_open, "the death of the replay opens it")


async def test_replay_waits_for_a_consumer_unless_forced(system: System) -> None:
    """To a queue that nobody consumes nothing is sent, unless it is forced; to one that is gone, never."""
    queue = f"test.{uuid4().hex}"
    async with own_queue(system, queue) as inbox:
        letter = await put_into_dead(system, aio_pika.Message(b"x", headers={"orderflow-queue": queue}))

        refused = await post(system, letter, "replay")
        assert refused.status_code == 409
        assert f"nobody consumes {queue} now" in refused.json()["detail"]
        assert await state_of(system, letter) == "open"
        assert (await post(system, letter, "replay?force=true")).status_code == 200
        assert (await received(inbox)).body == b"x"

    gone = await post(system, letter, "replay?force=true")
    assert gone.status_code == 409
    assert f"there is no queue {queue}" in gone.json()["detail"]
    assert await state_of(system, letter) == "replayed"


async def test_queue_with_an_impossible_name_is_as_good_as_gone(system: System) -> None:
    """What a header calls a queue may be no name that can be sent: it is refused, and nothing fails."""
    queue = f"<b>{uuid4().hex}</b>"
    letter = await put_into_dead(system, aio_pika.Message(b"x", headers={"orderflow-queue": queue}))

    refused = await post(system, letter, "replay?force=true")
    many = await system.api.post("/v1/dead-letters/replay", json={"fingerprint": letter["fingerprint"]})

    assert (refused.status_code, refused.json()["detail"]) == (409, f"there is no queue {queue}")
    assert [one["why"] for one in many.json()["skipped"]] == [f"there is no queue {queue}"]


async def test_queue_that_replays_do_not_reach_leaves_the_letter_open(system: System) -> None:
    """A replay that RabbitMQ returns certainly did not arrive: the letter says so and stays open."""
    queue = f"test.{uuid4().hex}"
    async with own_queue(system, queue) as inbox:
        await inbox.unbind("replay", queue)
        letter = await put_into_dead(system, aio_pika.Message(b"x", headers={"orderflow-queue": queue}))

        answer = await post(system, letter, "replay?force=true")

        assert answer.status_code == 409
        assert queue in answer.json()["detail"]
        shown = (await system.api.get(f"/v1/dead-letters/{letter['_id']}")).json()
        assert shown["state"] == "open"
        assert [entry["action"] for entry in shown["history"]] == ["opened", "replayed", "not replayed"]


async def test_message_comes_back_exactly_as_it_was_published(system: System) -> None:
    """Body, ids and the publisher's own headers survive death and replay; marks of the failure do not."""
    queue = f"test.{uuid4().hex}"
    own = {
        "a.b": "dots",
        "$set": "dollars",
        "": "no name",
        "x-tenant": "shop-7",
        "cloudEvents:id": "e-1",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "table": {"inner.dots": [1, "two", {"$three": None}]},
        "time": datetime(2026, 11, 22, 10, 15, tzinfo=UTC),
        "price": Decimal("12.50"),
        "ratio": 0.5,
        "large": 2**62,
        "bytes": bytearray(b"\xff\xfe"),
        "yes": True,
    }
    marks = {
        "CC": ["stock.order-created"],
        "x-delivery-count": 3,
        "orderflow-queue": queue,
        "orderflow-attempt": 5,
        "orderflow-reason": "it failed",
        "orderflow-first-failed-at": "2026-11-22T10:15:00+00:00",
        "orderflow-routing-key": "order.packed.v1",
    }
    original = aio_pika.Message(
        b"\x00\xff no text",
        headers=own | marks,
        message_id=str(uuid4()),
        correlation_id="c-1",
        content_type="application/x-thing",
        content_encoding="gzip",
        timestamp=datetime(2026, 11, 22, 10, 15, tzinfo=UTC),
        type="order.packed.v1",
        app_id="shop.packing",
    )
    async with own_queue(system, queue) as inbox:
        letter = await put_into_dead(system, original)
        shown = (await system.api.get(f"/v1/dead-letters/{letter['_id']}")).json()
        await post(system, letter, "replay?force=true")
        back = await received(inbox)

    assert shown["event_type"] == "order.packed.v1"
    assert shown["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert shown["headers"]["table"] == {"inner.dots": [1, "two", {"$three": None}]}
    assert (shown["body_encoding"], b64decode(shown["body"])) == ("base64", original.body)
    assert back.headers == own | {"orderflow-replay": 1, "orderflow-routing-key": "order.packed.v1"}
    assert (back.body, back.delivery_mode) == (original.body, aio_pika.DeliveryMode.PERSISTENT)
    kept = ("message_id", "correlation_id", "content_type", "content_encoding", "timestamp", "type", "app_id")
    assert [getattr(back, name) for name in kept] == [getattr(original, name) for name in kept]


async def test_large_body_is_kept_shown_in_part_and_sent_again_whole(system: System) -> None:
    """A body beyond what one document holds comes back byte for byte."""
    queue = f"test.{uuid4().hex}"
    body = b'{"text": "' + os.urandom(7 * 1024 * 1024).hex().encode() + b'"}'
    async with own_queue(system, queue) as inbox:
        letter = await put_into_dead(system, aio_pika.Message(body, headers={"orderflow-queue": queue}))
        assert letter["body"] is None
        shown = (await system.api.get(f"/v1/dead-letters/{letter['_id']}")).json()
        assert (shown["body_bytes"], shown["body_is_cut"]) == (len(body), True)
        assert shown["body"] == body[: 1024 * 1024].decode()
        whole = await system.api.get(f"/v1/dead-letters/{letter['_id']}/body")
        assert whole.content == body
        assert whole.headers["content-type"] == "application/octet-stream"

        assert (await post(system, letter, "replay?force=true")).status_code == 200

        assert (await received(inbox)).body == body


@pytest.mark.parametrize(
    "body",
    [b"[" * 200_000, b'{"order_id":' * 50_000, b'{"order_id": {"a": 1}}', b'{"order_id": "x\\u0000"}', b""],
    ids=["brackets", "objects", "object as id", "null character", "empty"],
)
async def test_hostile_body_is_archived_and_shown(system: System, body: bytes) -> None:
    """Nothing in a body can keep it out of the archive, or break the page that shows it."""
    letter = await put_into_dead(system, aio_pika.Message(body))

    shown = await system.api.get(f"/v1/dead-letters/{letter['_id']}")

    assert shown.status_code == 200
    assert (shown.json()["body"], shown.json()["order_id"]) == (body.decode(), None)


async def test_what_rabbitmq_gave_up_is_archived_with_its_queue(system: System) -> None:
    """A message that took part in too many crashes has no header of ours; RabbitMQ's own tells its queue."""
    name = f"test.{uuid4().hex}"
    order = new_order(("any", 1))
    limits = {
        "x-delivery-limit": 2,
        "x-dead-letter-exchange": "dead",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
    async with own_queue(system, name, **limits) as queue:
        await queue.bind("events", "test.crashing.v1")
        message_id = str(uuid4())
        body = order.model_dump_json().encode()
        await system.publish_raw("test.crashing.v1", body, message_id=message_id)

        async def given_up() -> bool:
            message = await queue.get(fail=False)
            if message is not None:
                await message.nack(requeue=True)
            letters = system.database("recovery")["dead_letters"]
            return await letters.count_documents({"message_id": message_id}) == 1

        await eventually(given_up, "given up by RabbitMQ")
        letter = await system.dead_letter(message_id)
        assert (letter["queue"], letter["event_type"]) == (name, "test.crashing.v1")
        assert (letter["error_type"], letter["order_id"]) == ("DeliveryLimitExceeded", order.order_id)
        assert letter["last_failed_at"] is not None

        assert (await post(system, letter, "replay?force=true")).status_code == 200

        back = await received(queue)
        assert back.body == body
        assert back.headers == {"orderflow-replay": 1, "orderflow-routing-key": "test.crashing.v1"}


async def test_unrouted_message_goes_where_its_key_leads_once_a_queue_is_bound(system: System) -> None:
    """Replayed too early it comes back and is open again; after the queue is bound, it arrives there."""
    key, message_id = f"test.{uuid4().hex}.v1", str(uuid4())
    await system.publish_raw(key, b"{}", message_id=message_id, headers={"mine": 1})
    letter = await system.dead_letter(message_id)
    assert (letter["source"], letter["queue"], letter["event_type"]) == ("unrouted", None, key)

    assert (await post(system, letter, "replay")).status_code == 200

    async def is_back() -> bool:
        found = await system.dead_letter(message_id)
        return [entry["action"] for entry in found["history"]] == ["opened", "replayed", "died again"]

    await eventually(is_back, "the replay that no queue wanted")
    assert await state_of(system, letter) == "open"
    async with own_queue(system, f"test.{uuid4().hex}") as queue:
        await queue.bind("events", key)

        assert (await post(system, letter, "replay")).status_code == 200

        back = await received(queue)
        assert (back.routing_key, back.message_id, back.headers["mine"]) == (key, message_id, 1)
        assert await state_of(system, letter) == "replayed"


async def test_order_hears_of_its_dead_letters_and_of_their_end(system: System) -> None:
    """Each death is announced with an id of its own, and its end under the same id, also after a replay."""
    order = new_order(("any", 1))
    async with own_queue(system, f"test.{uuid4().hex}") as heard:
        await heard.bind("events", "dead-letter.*.v1")

        async def next_about_the_order() -> tuple[str, dict[str, Any]]:
            while True:
                message = await received(heard)
                if message.correlation_id == str(order.order_id):
                    return str(message.type), json.loads(message.body)

        async def shows_open(count: int) -> None:
            async def check() -> bool:
                shown = await system.order(order.order_id)
                return shown is not None and shown["open_dead_letters"] == count

            await eventually(check, f"the order shows {count} open dead letters")

        name = f"test.{uuid4().hex}"
        async with own_queue(system, name) as inbox:
            death = aio_pika.Message(
                order.model_dump_json().encode(),
                headers={"orderflow-queue": name, "orderflow-routing-key": order.topic},
            )
            letter = await put_into_dead(system, death)
            opened = await next_about_the_order()
            await shows_open(1)
            await post(system, letter, "replay?force=true")
            closed = await next_about_the_order()
            await shows_open(0)
            replayed = await received(inbox)
            await put_into_dead(
                system,
                aio_pika.Message(
                    replayed.body,
                    message_id=replayed.message_id,
                    headers={**replayed.headers, "orderflow-queue": name},
                ),
            )
            opened_again = await next_about_the_order()
            await shows_open(1)
            await post(system, letter, "discard", json={"reason": "a test"})
            closed_again = await next_about_the_order()
            await shows_open(0)

    assert [kind for kind, _ in (opened, closed, opened_again, closed_again)] == [
        "dead-letter.opened.v1",
        "dead-letter.closed.v1",
    ] * 2
    assert opened[1]["occurrence_id"] == closed[1]["occurrence_id"]
    assert opened_again[1]["occurrence_id"] == closed_again[1]["occurrence_id"] != opened[1]["occurrence_id"]
    assert {event["dead_letter_id"] for _, event in (opened, closed, opened_again, closed_again)} == {
        str(letter["_id"])
    }
    assert (closed[1]["resolution"], closed_again[1]["resolution"]) == ("replayed", "discarded")
    assert opened[1]["event_type"] == order.topic


async def test_dead_announcement_makes_no_further_one(system: System) -> None:
    """A DeadLetterOpened that itself cannot be handled is archived, and not announced again."""
    order_id = uuid4()
    async with own_queue(system, f"test.{uuid4().hex}") as heard:
        await heard.bind("events", "dead-letter.opened.v1")
        body = json.dumps({"order_id": str(order_id)}).encode()  # breaks its contract
        message_id = str(uuid4())
        await system.publish_raw("dead-letter.opened.v1", body, message_id=message_id)
        letter = await system.dead_letter(message_id)
        _, letters = await dead_order(system)

        topics = set()
        while letters:
            message = await received(heard)
            content = json.loads(message.body)
            topics.add((message.message_id, content["order_id"]))
            letters = [one for one in letters if str(one["_id"]) != content.get("dead_letter_id")]

    assert letter["order_id"] == order_id
    assert [one for one, about in topics if about == str(order_id)] == [message_id]


async def test_nothing_is_lost_when_the_archive_is_killed(system: System) -> None:
    """Kill -9 of the recovery worker amid a flood: each dead letter is archived once, and `dead` is empty."""
    supervisor = system.stack.supervisor
    restarts = supervisor.restarts("recovery")
    ids = [str(uuid4()) for _ in range(300)]
    dead = await system.channel.get_exchange("dead", ensure=False)
    letters = system.database("recovery")["dead_letters"]
    flood = {"message_id": {"$in": ids}}

    async def at_work() -> bool:
        return await letters.count_documents(flood) >= 1

    for message_id in ids:
        await dead.publish(aio_pika.Message(b"flood", message_id=message_id), "")
    await eventually(at_work, "the archive is at work")
    os.kill(supervisor.pid("recovery"), signal.SIGKILL)

    async def archived() -> bool:
        return await letters.count_documents(flood) == len(ids)

    await eventually(archived, "all archived")
    assert supervisor.restarts("recovery") == restarts + 1
    await supervisor.wait_ready(30)

    async def is_drained() -> bool:
        queue = await system.channel.declare_queue("dead", passive=True)
        return queue.declaration_result.message_count == 0

    await eventually(is_drained, "dead is empty")
    assert await letters.count_documents(flood) == len(ids)
    await letters.delete_many(flood)


async def test_replay_while_rabbitmq_is_away_is_refused_and_harmless(system: System) -> None:
    """Without RabbitMQ the answer is 503, and the letter can be replayed once it is back."""
    adjustment = write_off(f"sku-{uuid4().hex[:12]}")
    await system.publish(adjustment)
    letter = await system.dead_letter(str(adjustment.adjustment_id))
    await asyncio.to_thread(system.stack.rabbitmq.ctl, "stop_app")
    try:
        answer = await post(system, letter, "replay")
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert await state_of(system, letter) == "open"
    finally:
        await asyncio.to_thread(system.stack.rabbitmq.ctl, "start_app")

    async def replayed() -> bool:
        return (await post(system, letter, "replay")).status_code == 200

    await eventually(replayed, "replayed once RabbitMQ is back")
    await system.stack.supervisor.wait_ready(60)


async def test_letter_whose_replay_broke_off_is_open_and_can_be_replayed(system: System) -> None:
    """Killed between taking a letter and sending it, the ingress leaves it `replaying`: it counts as open."""
    queue = f"test.{uuid4().hex}"
    async with own_queue(system, queue) as inbox:
        letter = await put_into_dead(system, aio_pika.Message(b"x", headers={"orderflow-queue": queue}))
        await system.database("recovery")["dead_letters"].update_one(
            {"_id": letter["_id"]}, {"$set": {"state": "replaying", "replays": 1}}
        )
        page = (await system.api.get("/v1/dead-letters", params={"queue": queue})).json()
        assert [one["state"] for one in page["dead_letters"]] == ["replaying"]

        await asyncio.gather(*(post(system, letter, "replay?force=true") for _ in range(3)))

        assert await state_of(system, letter) == "replayed"
        assert (await received(inbox)).headers["orderflow-replay"] >= 2


async def test_closed_letter_expires_and_an_open_one_never(system: System) -> None:
    """MongoDB itself deletes what was closed for thirty days; reopened, it stays."""
    _, (letter, other) = await dead_order(system)
    assert letter["expires_at"] is None

    assert (await post(system, letter, "discard", json={"reason": "a test"})).status_code == 200

    letters = system.database("recovery")["dead_letters"]
    closed = await letters.find_one({"_id": letter["_id"]})
    assert closed["expires_at"] - closed["closed_at"] == timedelta(days=30)
    assert (await letters.index_information())["expiry"]["expireAfterSeconds"] == 0
    refused = await post(system, letter, "discard", json={"reason": "again"})
    assert (refused.status_code, await state_of(system, other)) == (409, "open")


async def test_parts_of_a_body_go_when_its_letter_has_gone(system: System) -> None:
    """The sweep deletes what an expired letter left behind, and neither kept parts nor arriving ones."""
    letter = await put_into_dead(system, aio_pika.Message(b"x"))
    parts = system.database("recovery")["body_parts"]
    now = datetime.now(UTC)
    long_ago = now - timedelta(hours=2)
    for key, owner, stored_at in (
        ("kept", letter["_id"], long_ago),
        ("left behind", uuid4(), long_ago),
        ("arriving", uuid4(), now),
    ):
        await parts.insert_one({"_id": key, "letter_id": owner, "bytes": b"x", "stored_at": stored_at})

    assert await MongoArchive(Database(system.mongo, f"{PREFIX}_recovery")).sweep() >= 1

    assert {part["_id"] async for part in parts.find({"bytes": b"x"})} == {"kept", "arriving"}


async def test_list_pages_filters_and_groups(system: System) -> None:
    """Pages hold each letter once, newest first; filters narrow them; alike failures are counted together."""
    queue = f"test.{uuid4().hex}"
    for number in range(5):
        failure = {
            "orderflow-queue": queue,
            "orderflow-error-type": "OddError" if number % 2 else "EvenError",
            "orderflow-reason": f"order {uuid4()} has {number} lines",
        }
        await put_into_dead(system, aio_pika.Message(b"x", headers=failure))

    met, cursor = [], None
    while True:
        parameters = {"queue": queue, "limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await system.api.get("/v1/dead-letters", params=parameters)).json()
        met += [letter["reason"].split(" ")[3] for letter in page["dead_letters"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    groups = (await system.api.get("/v1/dead-letters/groups", params={"queue": queue})).json()["groups"]
    odd = {"queue": queue, "error_type": "OddError"}
    few = (await system.api.get("/v1/dead-letters", params=odd)).json()["dead_letters"]

    assert met == ["4", "3", "2", "1", "0"]
    assert [(group["error_type"], group["count"]) for group in groups] == [("EvenError", 3), ("OddError", 2)]
    assert groups[0]["reason"].endswith("has 4 lines")
    assert {letter["fingerprint"] for letter in few} == {groups[1]["fingerprint"]}
    bad = await system.api.get("/v1/dead-letters", params={"cursor": "x"})
    assert (bad.status_code, bad.json()["errors"][0]["field"]) == (422, "cursor")


async def test_dead_letters_are_repaired_from_the_command_line(system: System, tmp_path: Path) -> None:
    """An operator lists, groups, looks, replays, discards and exports, and every step has their name."""
    queue = f"test.{uuid4().hex}"
    reasons = ["quantity 7 is not 8", "quantity 12 is not 13", "no such thing"]
    async with own_queue(system, queue) as inbox:
        letters = [
            await put_into_dead(
                system,
                aio_pika.Message(
                    f"body {reason}".encode(), headers={"orderflow-queue": queue, "orderflow-reason": reason}
                ),
            )
            for reason in reasons
        ]
        ids = [str(letter["_id"]) for letter in letters]

        listed = await orderflow(system, "dead-letters", "list", "--queue", queue, "--limit", "2")
        assert (listed.code, ids[2] in listed.out, ids[0] in listed.out) == (0, True, False)
        assert "more: --cursor " in listed.err
        grouped = json.loads(
            (await orderflow(system, "dead-letters", "groups", "--queue", queue, "--json")).out
        )
        quantities, other = grouped["groups"]
        assert (quantities["count"], other["count"]) == (2, 1)
        shown = await orderflow(system, "dead-letters", "show", ids[0])
        assert reasons[0] in shown.out
        assert f"body {reasons[0]}" in shown.out

        refused = await orderflow(system, "dead-letters", "replay", ids[0])
        assert (refused.code, refused.out) == (2, "")
        assert refused.err == f"orderflow: nobody consumes {queue} now; forced, it would wait there\n"
        group = quantities["fingerprint"]
        skipped = await orderflow(system, "dead-letters", "replay", "--group", group)
        assert (skipped.code, skipped.out) == (1, "0 replayed, 2 left as they are\n")
        replayed = await orderflow(
            system, "dead-letters", "replay", "--group", group, "--force", "--rate", "1"
        )
        assert (replayed.code, replayed.out) == (0, "2 replayed, 0 left as they are\n")
        assert {(await received(inbox)).body for _ in range(2)} == {
            f"body {reason}".encode() for reason in reasons[:2]
        }
        discarded = await orderflow(system, "dead-letters", "discard", ids[2], "--reason", "a test")
        assert (discarded.code, discarded.out) == (0, f"{ids[2]} discarded\n")

        output = tmp_path / "letters.jsonl"
        exported = await orderflow(
            system, "dead-letters", "export", "--queue", queue, "--output", str(output)
        )
        assert exported.code == 0
        lines = [json.loads(line) for line in output.read_text().splitlines()]
        assert [(line["dead_letter_id"], line["state"]) for line in lines] == [
            (ids[2], "discarded"),
            (ids[1], "replayed"),
            (ids[0], "replayed"),
        ]
        assert [b64decode(line["body_base64"]).decode() for line in lines] == [
            f"body {reason}" for reason in reversed(reasons)
        ]
        actors = {entry["actor"] for line in lines for entry in line["history"]} - {"recovery"}
        assert len(actors) == 1
        assert "@" in actors.pop()


async def test_replay_of_all_meets_each_letter_once(system: System) -> None:
    """Letters that die again at once are not met a second time by the same run, so it ends."""
    skus = [f"sku-{uuid4().hex[:12]}" for _ in range(4)]
    adjustments = [write_off(sku) for sku in skus]
    for adjustment in adjustments:
        await system.publish(adjustment)
    before = [await system.dead_letter(str(adjustment.adjustment_id)) for adjustment in adjustments]

    ran = await orderflow(system, "dead-letters", "replay", "--all", "--yes", "--rate", "4", "--force")

    assert ran.code in {0, 1}  # other tests leave letters whose queue is gone
    for letter in before:
        found = await system.database("recovery")["dead_letters"].find_one({"_id": letter["_id"]})
        assert found["replays"] == letter["replays"] + 1
    unasked = await orderflow(system, "dead-letters", "replay", "--all")
    assert (unasked.code, "give --yes" in unasked.err) == (2, True)


async def test_unknown_letter_is_not_found(system: System) -> None:
    """Every way to act on a letter that is not there answers 404."""
    nobody = {"_id": UUID(int=1)}

    shown = await system.api.get(f"/v1/dead-letters/{nobody['_id']}")
    answers = [
        shown,
        await post(system, nobody, "replay"),
        await post(system, nobody, "discard", json={"reason": "x"}),
    ]

    assert [answer.status_code for answer in answers] == [404, 404, 404]
