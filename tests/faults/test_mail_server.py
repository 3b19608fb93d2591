"""A mail server is gone, silent, hangs up, puts off or refuses: customers are told, or it is said why."""

import json

import pytest

from contracts import OrderCreated
from tests.faults.conftest import Scenario
from tests.faults.eventually import eventually
from tests.faults.load import Load, Placed, Publisher
from tests.faults.mail_server import MailServer
from tests.faults.retries import KEEPS, retry_tap
from tests.faults.system import System
from tests.faults.wiretap import Wiretap

SOME = 10
RETRY_DELAYS_SECONDS = (2, 4, 8, 16)
RETRIES = {"ORDERFLOW_RETRY_DELAYS_SECONDS": json.dumps(RETRY_DELAYS_SECONDS)}


@pytest.mark.faults(
    20, "an SMTP server that refuses connections, hangs, or sends all away with 421", "SMTP server"
)
async def test_mail_server_out_of_reach(scenario: Scenario) -> None:
    """Mails wait for a server that takes none at all: readiness is red, and no attempt is spent."""
    async with (
        MailServer() as mail_server,
        scenario.system(mail_server=mail_server) as system,
        await retry_tap(system) as retries,
    ):
        mail_server.leave()  # before the first mail: who is connected stays so
        async with system.load(rate=10, mail_share=1) as load:
            await turns_red(system)
            await mail_server.listen()
            await turns_green(system)

            mail_server.mood = "hangs"
            await turns_red(system)  # once it has waited for an answer in vain
            mail_server.release()
            await turns_green(system)

            mail_server.mood = "sends away"
            await turns_red(system)
            mail_server.release()
            await turns_green(system)
            await scenario.recovered(system, load)
        await scenario.passes(system, load, keeps=KEEPS)
        spent = await retries.heard()
    assert not spent, f"{len(spent)} attempts were spent on the mail server: {spent[:3]}"


@pytest.mark.faults(20, "an SMTP server that puts mails off with 4xx", "SMTP server")
async def test_mails_put_off(scenario: Scenario) -> None:
    """A mail that is put off is tried again later, and holds up no customer who is told by SMS."""
    async with (
        MailServer() as mail_server,
        scenario.system(mail_server=mail_server, settings=RETRIES) as system,
        await retry_tap(system) as retries,
    ):
        mail_server.mood = "4xx"
        async with system.load(orders=60, poison_share=0, mail_share=0.5) as load:
            await load.accepted(40)
            await eventually(lambda: put_off(retries), "mails put off")
            await eventually(lambda: told_by_sms(system, load), "customers told by SMS meanwhile")
            mail_server.mood = "takes"
        await scenario.passes(system, load, keeps=KEEPS)


@pytest.mark.faults(20, "an SMTP server that hangs up before it answers to a mail", "SMTP server")
async def test_answers_lost(scenario: Scenario) -> None:
    """A mail that may have been taken goes out once per attempt, and not over and over."""
    async with (
        MailServer() as mail_server,
        scenario.system(mail_server=mail_server, settings=RETRIES) as system,
        await retry_tap(system) as retries,
    ):
        mail_server.mood = "hangs up"
        async with system.load(orders=60, poison_share=0, mail_share=0.5) as load:
            await load.accepted(40)
            await eventually(lambda: put_off(retries), "mails put off")
            mail_server.mood = "takes"
        await scenario.passes(system, load, keeps=KEEPS)
    assert max(mail_server.mails.values()) <= 1 + len(RETRY_DELAYS_SECONDS)


@pytest.mark.faults(20, "an SMTP server that refuses mails with 5xx", "SMTP server, for ten orders")
async def test_mails_refused(scenario: Scenario) -> None:
    """A refused mail is a failed notification with its reason, and no dead letter; others are told by SMS."""
    async with MailServer() as mail_server, scenario.system(mail_server=mail_server) as system:
        mail_server.mood = "5xx"
        publisher = Publisher(system.rabbitmq_url)
        async with system.load(orders=40, http_share=0, poison_share=0, mail_share=0, units=1000) as load:
            await system.counted(load)
            refused = [await publish_order_with_mail(load, publisher) for _ in range(SOME)]
        await publisher.close()
        await scenario.passes(system, load)
        notifications = system.database("notifications")["notifications"]
        outcomes = {one["order_id"]: one["event"] async for one in notifications.find()}
        logged = system.log("notifications")
    assert not mail_server.mails
    for order in refused:
        outcome = outcomes[order.order_id]
        assert outcome["reason"] == "The mail server refuses the mail with code 550"
        assert str(order.customer.email) not in json.dumps(outcome) + logged


async def publish_order_with_mail(load: Load, publisher: Publisher) -> OrderCreated:
    """An order whose customer can only be told by mail."""
    order = load.order()
    customer = order.customer.model_copy(
        update={"email": f"refused-{order.order_id}@example.com", "phone": None}
    )
    order = order.model_copy(update={"customer": customer})
    content = order.model_dump(mode="json", exclude_none=True, exclude={"order_id", "placed_at"})
    load.placed[order.order_id] = Placed(order.order_id, content)
    load.refused.add(order.order_id)
    await publisher.confirmed(order.topic, order.model_dump_json().encode(), message_id=str(order.event_id))
    return order


async def put_off(retries: Wiretap) -> bool:
    return len(await retries.heard()) >= SOME


async def told_by_sms(system: System, load: Load) -> bool:
    """Whether most customers were told who have a phone only: how many those are is up to the seed."""
    customers = [order.content["customer"] for order in load.placed.values()]
    reachable = [customer for customer in customers if customer.get("phone") and not customer.get("email")]
    log = system.database("notifications")["notifications"]
    return bool(reachable) and await log.count_documents({"channel": "sms"}) > len(reachable) / 2


async def turns_red(system: System) -> None:
    async def is_red() -> bool:
        return (await system.checks("notifications")).get("dependencies", "ok") != "ok"

    await eventually(is_red, "notifications is not ready")


async def turns_green(system: System) -> None:
    async def is_green() -> bool:
        return (await system.checks("notifications")).get("dependencies") == "ok"

    await eventually(is_green, "notifications is ready")
