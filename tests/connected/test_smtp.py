"""Mails reach a real SMTP server, repeats under the same id, and its refusals are told apart."""

import asyncio
import html
import ssl
import subprocess
import time
import traceback
from collections.abc import AsyncIterator
from dataclasses import replace
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from apps.kit.errors import DependencyUnavailable
from apps.kit.settings import Settings
from apps.notifications.messages import Messages
from apps.notifications.smtp import MailDeferred, MailRefused, MailUnanswered, SmtpMailer
from contracts import InvoiceIssued

pytestmark = pytest.mark.connected

ADDRESS = "ana.souza@example.com"
MAIL = Messages("Corner Shop").mail(InvoiceIssued.model_validate(InvoiceIssued.example), ADDRESS)
MESSAGE_ID = f"<{MAIL.notification_id}@shop.example>"


class MailServer:
    """An SMTP server in this process that keeps what it takes and answers as it is told to."""

    def __init__(self, **options: Any) -> None:
        self.mails: list[EmailMessage] = []
        self.recipients: list[str] = []
        self.answers: dict[str, str] = {}
        self.connections: list[SMTP] = []
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.after_the_content = "answers"
        """Or `hangs`, or `hangs up`."""
        self.port = 0
        self.tls: ssl.SSLContext | None = None
        self._options = options

    async def handle_RCPT(  # noqa: N802 (aiosmtpd finds it by this name)
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        self.asked.set()
        await self.may_answer.wait()
        if refusal := self.answers.get("RCPT"):
            return refusal
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        if refusal := self.answers.get("DATA"):
            return refusal
        assert isinstance(envelope.content, bytes)
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        self.recipients += envelope.rcpt_tos
        if self.after_the_content == "hangs":
            await asyncio.sleep(60)
        if self.after_the_content == "hangs up":
            self.drop_connections()
        return "250 OK"

    async def start(self) -> None:
        self._server = await asyncio.get_running_loop().create_server(
            self._connected, "127.0.0.1", self.port, ssl=self.tls
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        self.drop_connections()
        await self._server.wait_closed()

    def drop_connections(self) -> None:
        for connection in self.connections:
            if connection.transport is not None:
                connection.transport.close()

    def _connected(self) -> SMTP:
        connection = SMTP(self, hostname="mail.example", loop=asyncio.get_running_loop(), **self._options)
        self.connections.append(connection)
        return connection

    def settings(self, **changes: Any) -> Settings:
        return Settings.model_validate(
            {"smtp_port": self.port, "mail_from": "Corner Shop <orders@shop.example>"} | changes
        )


@pytest.fixture
async def server() -> AsyncIterator[MailServer]:
    server = MailServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def mailer(server: MailServer) -> AsyncIterator[SmtpMailer]:
    mailer = SmtpMailer(server.settings())
    yield mailer
    await mailer.aclose()


async def test_mail_arrives(server: MailServer, mailer: SmtpMailer) -> None:
    """The customer gets one mail with text and HTML, from the shop, to their name."""
    await mailer.send(MAIL)
    [mail] = server.mails
    assert server.recipients == [ADDRESS]
    assert mail["From"] == "Corner Shop <orders@shop.example>"
    assert mail["To"] == f"Ana Souza <{ADDRESS}>"
    assert mail["Subject"] == MAIL.subject
    assert mail["Message-ID"] == MESSAGE_ID
    assert mail["Date"].datetime.tzinfo is not None
    assert mail.get_content_type() == "multipart/alternative"
    assert mail["List-Id"] == "<invoice-issued.shop.example>"
    text, rich = mail.iter_parts()
    assert (text.get_content_type(), rich.get_content_type()) == ("text/plain", "text/html")
    assert "£\xa042,77" in text.get_content()
    assert "£\xa042,77" in html.unescape(rich.get_content())


async def test_repeat_has_the_same_id_on_the_same_connection(server: MailServer, mailer: SmtpMailer) -> None:
    """A mail sent twice can be recognised as one, and the connection is kept between them."""
    await mailer.send(MAIL)
    await mailer.send(MAIL)
    assert [mail["Message-ID"] for mail in server.mails] == [MESSAGE_ID] * 2
    assert len(server.connections) == 1


async def test_many_at_once_take_turns(server: MailServer, mailer: SmtpMailer) -> None:
    """Mails handed over together all arrive, each whole, over the one connection."""
    mails = [replace(MAIL, notification_id=UUID(int=number)) for number in range(20)]
    await asyncio.gather(*map(mailer.send, mails))
    assert {mail["Message-ID"] for mail in server.mails} == {
        f"<{UUID(int=n)}@shop.example>" for n in range(20)
    }
    assert len(server.connections) == 1


async def test_restarted_server_is_found_again(server: MailServer, mailer: SmtpMailer) -> None:
    """A server that was away is used again once it is back, by the same mailer."""
    await mailer.send(MAIL)
    await server.stop()
    with pytest.raises(DependencyUnavailable):
        await mailer.send(MAIL)
    await server.start()
    await mailer.send(MAIL)
    assert len(server.mails) == 2


async def test_dropped_connection_is_replaced(server: MailServer, mailer: SmtpMailer) -> None:
    """A kept connection that turns out to be closed costs nobody a failed attempt."""
    await mailer.send(MAIL)
    server.drop_connections()
    await mailer.send(MAIL)
    assert len(server.mails) == 2
    assert len(server.connections) == 2


async def test_cancelled_mail_does_not_confuse_the_next(server: MailServer, mailer: SmtpMailer) -> None:
    """A mail broken off halfway leaves no answer behind that the next one would take for its own."""
    server.may_answer.clear()
    broken_off = asyncio.create_task(mailer.send(MAIL))
    await server.asked.wait()
    broken_off.cancel()
    with pytest.raises(asyncio.CancelledError):
        await broken_off
    server.answers["RCPT"] = "550 no such user"
    server.may_answer.set()
    with pytest.raises(MailRefused):
        await mailer.send(MAIL)
    assert not server.mails


async def test_server_down(server: MailServer) -> None:
    """A server out of reach is a dependency to wait for, named with its address."""
    mailer = SmtpMailer(server.settings())
    await server.stop()
    with pytest.raises(
        DependencyUnavailable, match=rf"Mail server 127\.0\.0\.1:{server.port} is out of reach"
    ):
        await mailer.send(MAIL)


@pytest.mark.parametrize("command", ["RCPT", "DATA"])
async def test_permanent_refusal(server: MailServer, mailer: SmtpMailer, command: str) -> None:
    """A 5xx answer ends this mail with its code and without the address; the next one goes through."""
    server.answers[command] = f"550 no mailbox {ADDRESS}"
    with pytest.raises(MailRefused) as refused:
        await mailer.send(MAIL)
    assert refused.value.code == 550
    assert ADDRESS not in "".join(traceback.format_exception(refused.value))
    server.answers.clear()
    await mailer.send(MAIL)
    assert len(server.mails) == 1
    assert len(server.connections) == 1


@pytest.mark.parametrize("command", ["RCPT", "DATA"])
async def test_temporary_refusal(server: MailServer, mailer: SmtpMailer, command: str) -> None:
    """A 4xx answer puts off this mail and no other, and the error says nothing of the address either."""
    server.answers[command] = f"451 try again for {ADDRESS}"
    with pytest.raises(MailDeferred, match="code 451") as refused:
        await mailer.send(MAIL)
    assert ADDRESS not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize("fault", ["hangs", "hangs up"])
async def test_lost_answer(server: MailServer, fault: str) -> None:
    """A mail that may have been taken is no case for waiting, nor for another connection at once."""
    mailer = SmtpMailer(server.settings(), answer_timeout_seconds=0.2)
    await mailer.send(MAIL)
    server.after_the_content = fault
    with pytest.raises(MailUnanswered, match="did not answer") as unanswered:
        await mailer.send(MAIL)
    assert ADDRESS not in "".join(traceback.format_exception(unanswered.value))
    assert len(server.mails) == 2

    server.after_the_content = "answers"
    await mailer.send(MAIL)
    assert [mail["Message-ID"] for mail in server.mails] == [MESSAGE_ID] * 3
    await mailer.aclose()


@pytest.mark.parametrize(
    "address", ["ana@example..com", "<ana@example.com>", "anã@example.com", "@example.com"]
)
async def test_impossible_address(server: MailServer, mailer: SmtpMailer, address: str) -> None:
    """An address that SMTP or this server cannot carry is refused like an unknown one."""
    with pytest.raises(MailRefused) as refused:
        await mailer.send(replace(MAIL, address=address))
    assert address not in "".join(traceback.format_exception(refused.value))
    await mailer.send(MAIL)
    assert server.recipients == [ADDRESS]


async def test_letters_of_the_world(server: MailServer, mailer: SmtpMailer) -> None:
    """Names in any script arrive as they are, and a domain in the letters of DNS."""
    await mailer.send(replace(MAIL, name='Łucja "商" <Ñandú>', address="ana@exämple.com"))
    [mail] = server.mails
    [recipient] = mail["To"].addresses
    assert recipient.display_name == 'Łucja "商" <Ñandú>'
    assert server.recipients == ["ana@xn--exmple-cua.com"]


@pytest.mark.parametrize("field", ["subject", "name"])
async def test_no_header_can_be_slipped_in(server: MailServer, mailer: SmtpMailer, field: str) -> None:
    """A line end in what becomes a header stops the mail instead of adding a recipient."""
    headers: dict[str, Any] = {field: "x\r\nBcc: everyone@example.com"}
    with pytest.raises((ValueError, MailRefused)):
        await mailer.send(replace(MAIL, **headers))
    assert not server.connections


async def test_encryption_is_not_optional(server: MailServer) -> None:
    """Where STARTTLS is asked for and not offered, nothing is sent in the clear."""
    mailer = SmtpMailer(server.settings(smtp_security="starttls"))
    with pytest.raises(DependencyUnavailable, match="STARTTLS"):
        await mailer.send(MAIL)
    assert not server.mails


async def test_mails_keep_to_the_rate(server: MailServer) -> None:
    """No more mails leave in a second than the setting says, however many wait."""
    mailer = SmtpMailer(server.settings(mails_per_second=20))
    begin = time.monotonic()
    await asyncio.gather(*(mailer.send(MAIL) for _ in range(5)))
    assert time.monotonic() - begin >= 4 / 20
    assert len(server.mails) == 5
    await mailer.aclose()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """A certificate for 127.0.0.1 that nobody but its owner trusts, and a server's context with it."""
    folder = tmp_path_factory.mktemp("tls")
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "certificate.pem"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)  # noqa: S603
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return folder / "certificate.pem", context


async def test_starttls_and_login(
    certificate: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Login and mail travel encrypted, to a server whose certificate is trusted and to no other."""
    trusted, context = certificate
    logins: list[bytes] = []

    def authenticate(
        _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, login: object
    ) -> AuthResult:
        assert isinstance(login, LoginPassword)
        logins.append(login.password)
        return AuthResult(success=login.password == b"secret", handled=False)

    server = MailServer(
        tls_context=context, require_starttls=True, auth_required=True, authenticator=authenticate
    )
    await server.start()
    settings = server.settings(smtp_security="starttls", smtp_username="shop", smtp_password="secret")
    with pytest.raises(DependencyUnavailable, match="certificate verify failed"):
        await SmtpMailer(settings).send(MAIL)
    assert not logins

    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    mailer = SmtpMailer(settings)
    await mailer.send(MAIL)
    await mailer.send(MAIL)
    await mailer.aclose()
    await server.stop()
    assert logins == [b"secret"]  # once: the connection is kept
    assert len(server.mails) == 2


async def test_tls_from_the_first_byte(
    server: MailServer, certificate: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that speaks TLS only is reached, and one that does not is not spoken to in the clear."""
    trusted, context = certificate
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    encrypted = MailServer()
    encrypted.tls = context
    await encrypted.start()
    mailer = SmtpMailer(encrypted.settings(smtp_security="tls"))
    await mailer.send(MAIL)
    await mailer.aclose()
    await encrypted.stop()
    assert len(encrypted.mails) == 1

    with pytest.raises(DependencyUnavailable, match="is out of reach"):
        await SmtpMailer(server.settings(smtp_security="tls")).send(MAIL)
    assert not server.mails


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
async def test_login() -> None:
    """The right password is let in; a wrong one stops all mail, so mail waits and the error hides it."""

    def authenticate(
        _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, login: object
    ) -> AuthResult:
        assert isinstance(login, LoginPassword)
        return AuthResult(success=login.password == b"secret", handled=False)

    server = MailServer(auth_required=True, auth_require_tls=False, authenticator=authenticate)
    await server.start()
    right = SmtpMailer(server.settings(smtp_username="shop", smtp_password="secret"))
    wrong = SmtpMailer(server.settings(smtp_username="shop", smtp_password="guessed"))
    await right.send(MAIL)
    with pytest.raises(DependencyUnavailable, match="answers 535") as refused:
        await wrong.send(MAIL)
    assert "guessed" not in "".join(traceback.format_exception(refused.value))
    assert len(server.mails) == 1
    await right.aclose()
    await server.stop()
