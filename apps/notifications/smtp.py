"""Mails over one kept SMTP connection, each under a Message-ID that a repeat has again."""

import asyncio
import email.policy
import re
import time
from contextlib import suppress
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import parseaddr
from typing import Any

from aiosmtplib import (
    SMTP,
    SMTPDataError,
    SMTPException,
    SMTPNotSupported,
    SMTPRecipientRefused,
    SMTPRecipientsRefused,
    SMTPResponse,
    SMTPResponseException,
    SMTPSenderRefused,
    SMTPServerDisconnected,
    SMTPStatus,
    SMTPTimeoutError,
)
from opentelemetry.trace import SpanKind

from apps.kit.clock import utc_now
from apps.kit.errors import DependencyUnavailable
from apps.kit.settings import Settings
from apps.kit.tracing import span
from apps.notifications.domain import Mail, MessageRefusedError

_POLICY = email.policy.SMTP.clone(cte_type="7bit")  # every server takes it, also one without 8BITMIME
_HOST = re.compile(r"[A-Za-z0-9.-]+|\[[0-9A-Fa-f.:]+\]")
_TIMEOUT_SECONDS = 20
_ANSWER_TIMEOUT_SECONDS = 120
"""For the answer to a mail's content, which many servers scan first. RFC 5321 grants ten minutes, but all
other mails wait meanwhile."""
_PERMANENT = 500
_ADDRESS_NOT_ALLOWED = 553


class MailRefused(MessageRefusedError):  # noqa: N818 (a fact, as MailDeferred is)
    """The server will never take this mail; it does not say whose it was, for errors end up in logs."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"The mail server refuses the mail with code {code}")


class MailDeferred(Exception):  # noqa: N818 (as above)
    """The server will take this mail later, and others now: greylisting, or a mailbox that is full."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"The mail server puts the mail off with code {code}")


class MailUnanswered(Exception):  # noqa: N818 (as above)
    """Whether the server took this mail is unknown: it may get it again, a few times."""


class MailServerUnavailable(DependencyUnavailable):
    """The mail server is out of reach, or takes no mail at all now."""

    dependency = "smtp"


class SmtpMailer:
    """Posts mails one after the other and connects when there is one to post.

    A mail whose answer was lost goes out again under the same Message-ID: at most once per attempt of the
    recovery policy, five times by default.
    """

    def __init__(self, settings: Settings, answer_timeout_seconds: float = _ANSWER_TIMEOUT_SECONDS) -> None:
        self._sender = _sender(settings.mail_from)
        password = settings.smtp_password
        self._client = _Client(
            answer_timeout_seconds,
            hostname=settings.smtp_host,
            port=settings.smtp_port,
            username=settings.smtp_username,
            password=password.get_secret_value() if password else None,
            use_tls=settings.smtp_security == "tls",
            start_tls=settings.smtp_security == "starttls",
            timeout=_TIMEOUT_SECONDS,
        )
        self._server: dict[str, str | int] = {
            "network.protocol.name": "smtp",
            "server.address": settings.smtp_host,
            "server.port": settings.smtp_port,
        }
        self._turn = asyncio.Lock()
        self._pause_seconds = 1 / settings.mails_per_second if settings.mails_per_second else 0.0
        self._next_at = 0.0

    async def send(self, mail: Mail) -> None:
        """Return once the server has taken the mail; where a rate is set, mails await their turn here.

        Raises:
            MailRefused: the server answered 5xx to the recipient or the content.
            MailDeferred: it answered 4xx to the recipient or the content.
            MailUnanswered: it got the content, or was about to, and did not answer.
            DependencyUnavailable: it is out of reach, or takes no mail at all now.
        """
        try:
            recipient = _address(mail.name, mail.address)
        except ValueError:
            raise MailRefused(_ADDRESS_NOT_ALLOWED) from None
        message = self._compose(mail, recipient)
        async with self._turn:
            await self._keep_to_the_rate()
            try:
                with span("SMTP send", SpanKind.CLIENT, self._server):
                    await self._post(message, recipient)
            except (SMTPException, OSError) as error:
                # The cause quotes the recipient, so it must not travel along into a log.
                raise self._failure(error) from None
            except ValueError:
                raise MailRefused(_ADDRESS_NOT_ALLOWED) from None
            except asyncio.CancelledError:
                # An answer may be under way that would be taken for the one to the next mail.
                self._client.close()
                raise

    async def _keep_to_the_rate(self) -> None:
        await asyncio.sleep(max(0.0, self._next_at - time.monotonic()))
        self._next_at = time.monotonic() + self._pause_seconds

    async def aclose(self) -> None:
        """Take leave of the server."""
        async with self._turn:
            if self._client.is_connected:
                with suppress(SMTPException, OSError):
                    await self._client.quit()
            self._client.close()

    def _compose(self, mail: Mail, recipient: Address) -> EmailMessage:
        message = EmailMessage(policy=_POLICY)
        message["From"] = self._sender
        message["To"] = recipient
        message["Subject"] = mail.subject
        message["Date"] = utc_now()
        message["Message-ID"] = f"<{mail.notification_id}@{self._sender.domain}>"
        message["List-Id"] = f"<{mail.template}.{self._sender.domain}>"  # by which people sort their mail
        message["Auto-Submitted"] = "auto-generated"  # keeps out-of-office replies away
        message.set_content(mail.text)
        message.add_alternative(mail.html, subtype="html")
        return message

    async def _post(self, message: EmailMessage, recipient: Address) -> None:
        if self._client.is_connected:
            # A server drops an idle connection when it likes; that says nothing about a new one.
            with suppress(SMTPServerDisconnected):
                await self._hand_over(message, recipient)
                return
        try:
            await self._client.connect()
        except SMTPResponseException as error:
            raise self._unavailable(f"answers {error.code} to the connection or the login") from None
        except (SMTPException, OSError) as error:
            raise self._unavailable(f"is out of reach: {error.__cause__ or error}") from None
        await self._hand_over(message, recipient)

    async def _hand_over(self, message: EmailMessage, recipient: Address) -> None:
        await self._client.send_message(
            message, sender=self._sender.addr_spec, recipients=[recipient.addr_spec]
        )

    def _failure(self, error: Exception) -> Exception:
        if isinstance(error, SMTPRecipientsRefused):
            error = error.recipients[0]
        match error:
            case SMTPRecipientRefused(code=code) | SMTPDataError(code=code) if code >= _PERMANENT:
                return MailRefused(code)
            case SMTPRecipientRefused(code=code) | SMTPDataError(code=code):
                return MailDeferred(code)
            case SMTPSenderRefused(code=SMTPStatus.storage_exceeded):
                return MailRefused(error.code)  # the mail is larger than the server takes
            case SMTPNotSupported():
                return MailRefused(_ADDRESS_NOT_ALLOWED)  # letters that this server cannot carry
            case SMTPResponseException(code=code):
                # A refused greeting or sender concerns every mail: waiting loses none of them.
                return self._unavailable(f"answers {code}")
            case _:
                return self._unavailable(f"is out of reach: {error}")

    def _unavailable(self, what: str) -> DependencyUnavailable:
        return MailServerUnavailable(f"Mail server {self._client.hostname}:{self._client.port} {what}")


class _Client(SMTP):
    """Tells the mail that a server may have taken from one that it cannot have."""

    def __init__(self, answer_timeout_seconds: float, **options: Any) -> None:
        super().__init__(**options)
        self._answer_timeout_seconds = answer_timeout_seconds

    async def data(self, message: str | bytes, /, **_: Any) -> SMTPResponse:
        try:
            return await super().data(message, timeout=self._answer_timeout_seconds)
        except (SMTPServerDisconnected, SMTPTimeoutError) as error:
            what = type(error).__name__
            raise MailUnanswered(f"The mail server did not answer to the mail: {what}") from None


def _sender(mail_from: str) -> Address:
    try:
        return _address(*parseaddr(mail_from))
    except ValueError:
        raise ValueError(
            f"ORDERFLOW_MAIL_FROM: {mail_from!r} is not an address such as 'Shop <orders@shop.example>'"
        ) from None


def _address(name: str | None, address: str) -> Address:
    local, _, domain = address.rpartition("@")
    host = domain.encode("idna").decode()
    if not local or not _HOST.fullmatch(host):
        raise ValueError("an address has a name before its @ and a host after it")
    return Address(name or "", local, host)
