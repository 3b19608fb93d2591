"""Texts reach a server that answers as Twilio's documentation says, and its refusals are told apart."""

import json
import threading
import traceback
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qsl
from uuid import UUID

import pytest
from conftest import System

from apps.cli.local.ports import LOOPBACK, free_port
from apps.kit.errors import DependencyUnavailable
from apps.kit.settings import Settings, get_settings
from apps.notifications.app import adapters
from apps.notifications.application import Outcome, Texter
from apps.notifications.twilio import TextDeferred, TextRefused, TwilioTexter
from contracts import InvoiceIssued, InvoiceVoided, NotificationFailed, NotificationSent, NotificationSkipped

pytestmark = pytest.mark.connected

NUMBER = "+5511987654321"
TEXT = "Corner Shop: não, £ 1 & 2"
KEY = UUID(int=1)
SID = "AC00000000000000000000000000000000"


class Request(NamedTuple):
    """What the provider was sent."""

    path: str
    authorization: str | None
    form: dict[str, str]


class Provider(ThreadingHTTPServer):
    """Plays the Messages resource on real sockets, and answers as it is told to."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__((LOOPBACK, 0), _Session)
        self.requests: list[Request] = []
        self.status = 201
        self.answer: Any = {"sid": "SM0", "status": "queued", "error_code": None}
        self.hangs_up = False

    def refuse(self, status: int, code: int) -> None:
        """Answer like the API does to what it does not take: in words that quote the number."""
        self.status = status
        self.answer = {"code": code, "message": f"The number {NUMBER} is wrong", "status": status}

    def settings(self, **changes: Any) -> Settings:
        return Settings.model_validate(
            {
                "twilio_account_sid": SID,
                "twilio_auth_token": "secret-token",
                "twilio_from": "+15005550006",
                "twilio_url": f"http://{LOOPBACK}:{self.server_port}",
            }
            | changes
        )


class _Session(BaseHTTPRequestHandler):
    server: Provider
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:  # http.server finds it by this name
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        request = Request(self.path, self.headers["Authorization"], dict(parse_qsl(body)))
        self.server.requests.append(request)
        if self.server.hangs_up:
            self.close_connection = True
            return
        answer = self.server.answer
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Keep the output of the tests to themselves."""


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as provider:
        thread = threading.Thread(target=provider.serve_forever)
        thread.start()
        yield provider
        provider.shutdown()
        thread.join()


@pytest.fixture
async def texter(provider: Provider) -> AsyncIterator[TwilioTexter]:
    async with TwilioTexter(provider.settings()) as texter:
        yield texter


async def test_text_is_taken(provider: Provider, texter: TwilioTexter) -> None:
    """A text arrives whole, from the shop's number, under the account's credentials."""
    await texter.send(NUMBER, TEXT, KEY)
    assert isinstance(texter, Texter)
    assert provider.requests == [
        Request(
            f"/2010-04-01/Accounts/{SID}/Messages.json",
            f"Basic {b64encode(f'{SID}:secret-token'.encode()).decode()}",
            {"To": NUMBER, "From": "+15005550006", "Body": TEXT},
        )
    ]


async def test_text_by_a_messaging_service(provider: Provider) -> None:
    """A sender that is a messaging service is named as such."""
    async with TwilioTexter(provider.settings(twilio_from="MG0")) as texter:
        await texter.send(NUMBER, TEXT, KEY)
    assert provider.requests[0].form == {"To": NUMBER, "MessagingServiceSid": "MG0", "Body": TEXT}


@pytest.mark.parametrize("code", [21211, 21610, 21614, 21635])
async def test_permanent_refusal(provider: Provider, texter: TwilioTexter, code: int) -> None:
    """A number that can get no text is refused with the provider's code, and without the number."""
    provider.refuse(400, code)
    with pytest.raises(TextRefused, match=f"code {code}") as refused:
        await texter.send(NUMBER, TEXT, KEY)
    assert_tells_nothing(refused.value)


@pytest.mark.parametrize(
    ("status", "code"), [(401, 20003), (404, 20404), (429, 20429), (500, 20500), (503, 0)]
)
async def test_provider_that_takes_nothing(
    provider: Provider, texter: TwilioTexter, status: int, code: int
) -> None:
    """What concerns every text is waited out: wrong credentials, too many requests, an outage."""
    provider.refuse(status, code)
    with pytest.raises(DependencyUnavailable, match=f"answers {status}") as unavailable:
        await texter.send(NUMBER, TEXT, KEY)
    assert_tells_nothing(unavailable.value)


@pytest.mark.parametrize("code", [21212, 21603, 21606, 21659, 21660])
async def test_wrong_sender(provider: Provider, texter: TwilioTexter, code: int) -> None:
    """A sender that is not the account's concerns every text, so they wait for it to be corrected."""
    provider.refuse(400, code)
    with pytest.raises(DependencyUnavailable, match=f"code {code}"):
        await texter.send(NUMBER, TEXT, KEY)


async def test_short_code_of_another_country(provider: Provider) -> None:
    """A short code serves one country: that it cannot reach this number says nothing of the others."""
    provider.refuse(400, 21606)
    async with TwilioTexter(provider.settings(twilio_from="54321")) as texter:
        with pytest.raises(TextDeferred, match="code 21606"):
            await texter.send(NUMBER, TEXT, KEY)


@pytest.mark.parametrize("answer", [{"code": 21999}, {"code": "x"}, [], b"<html>"])
async def test_unknown_refusal(provider: Provider, texter: TwilioTexter, answer: Any) -> None:
    """A refusal that nobody foresaw is tried again a few times and then left to operators."""
    provider.status, provider.answer = 400, answer
    with pytest.raises(TextDeferred, match="answers 400"):
        await texter.send(NUMBER, TEXT, KEY)


async def test_lost_answer(provider: Provider, texter: TwilioTexter) -> None:
    """A text whose answer is lost may have been taken, so it is not repeated without an end."""
    provider.hangs_up = True
    with pytest.raises(TextDeferred, match="RemoteProtocolError") as deferred:
        await texter.send(NUMBER, TEXT, KEY)
    assert_tells_nothing(deferred.value)
    assert len(provider.requests) == 1


async def test_provider_out_of_reach(provider: Provider) -> None:
    """Where nobody listens, nothing was taken: the text waits."""
    async with TwilioTexter(provider.settings(twilio_url=f"http://{LOOPBACK}:{free_port()}")) as texter:
        with pytest.raises(DependencyUnavailable, match="is out of reach: ConnectError"):
            await texter.send(NUMBER, TEXT, KEY)


async def test_worker_with_an_account_sends_texts(
    provider: Provider, system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an account in the settings SMS go to the provider, and a refused one is kept as failed."""
    settings = provider.settings()
    monkeypatch.setenv("ORDERFLOW_MONGODB_URL", system.stack.mongodb_url)
    monkeypatch.setenv("ORDERFLOW_DATABASE_PREFIX", "orderflow_texts")
    monkeypatch.setenv("ORDERFLOW_TWILIO_ACCOUNT_SID", SID)
    monkeypatch.setenv("ORDERFLOW_TWILIO_AUTH_TOKEN", "secret-token")
    monkeypatch.setenv("ORDERFLOW_TWILIO_FROM", "+15005550006")
    monkeypatch.setenv("ORDERFLOW_TWILIO_URL", settings.twilio_url)
    get_settings.cache_clear()
    customer = {"id": "1", "phone": NUMBER}
    invoice = InvoiceIssued.model_validate(InvoiceIssued.example | {"customer": customer})
    voided = InvoiceVoided.model_validate(InvoiceVoided.example | {"customer": customer})
    try:
        async with adapters() as provided:
            told = await provided["notifier"].tell(invoice)
            provider.refuse(400, 21614)
            failed = await provided["notifier"].tell(voided)
            again = await provided["notifier"].tell(voided)
    finally:
        get_settings.cache_clear()
    assert isinstance(told, NotificationSent)
    assert (told.channel, told.recipient) == ("sms", "+55*******4321")
    assert isinstance(failed, NotificationFailed)
    assert failed.reason == "The SMS provider refuses the text with code 21614"
    assert again == failed
    assert ["Invoice 2026-000123" in request.form["Body"] for request in provider.requests] == [True, False]


async def test_production_without_an_account_pretends_nothing(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has only a number is told nothing there, and the outcome says so; in development it is logged."""
    for name, value in {
        "RABBITMQ_URL": "amqps://shop:s3cret@rabbitmq.example/",
        "MONGODB_URL": system.stack.mongodb_url,
        "DATABASE_PREFIX": "orderflow_no_texts",
        "SECRET_KEY": "k" * 32,
        "PUBLIC_URL": "https://shop.example",
    }.items():
        monkeypatch.setenv(f"ORDERFLOW_{name}", value)
    customer = {"customer": {"id": "1", "phone": NUMBER}}
    outcomes: list[Outcome] = []
    for environment, news in (("production", InvoiceIssued), ("development", InvoiceVoided)):
        monkeypatch.setenv("ORDERFLOW_ENVIRONMENT", environment)
        get_settings.cache_clear()
        try:
            async with adapters() as provided:
                outcomes.append(await provided["notifier"].tell(news.model_validate(news.example | customer)))
        finally:
            get_settings.cache_clear()
    skipped, sent = outcomes
    assert isinstance(skipped, NotificationSkipped)
    assert skipped.reason == "no_contact"
    assert isinstance(sent, NotificationSent)


def assert_tells_nothing(error: Exception) -> None:
    """Errors end up in logs and dead letters: neither number, text nor token belongs there."""
    told = "".join(traceback.format_exception(error))
    assert NUMBER not in told
    assert TEXT not in told
    assert "secret-token" not in told
