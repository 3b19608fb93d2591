"""A mail server that does what a scenario wants: take, refuse, put off, hang, hang up or be gone."""

import asyncio
from collections import Counter
from email.parser import BytesHeaderParser
from typing import Any, Literal, Self

from aiosmtpd.smtp import SMTP

from apps.cli.local.ports import LOOPBACK, free_port

Mood = Literal["takes", "hangs", "hangs up", "4xx", "5xx", "sends away"]


class MailServer:
    """Listens on a port of its own while the context is open; `mails` counts what it took by Message-ID."""

    def __init__(self) -> None:
        self.port = free_port()
        self.mails: Counter[str] = Counter()
        self.mood: Mood = "takes"
        """`hangs` greets nobody and answers no MAIL, as a frozen server does; `sends away` greets with 421.

        `4xx` and `5xx` answer to the content; `hangs up` takes it and drops the connection before it says so.
        """
        self._server: asyncio.Server | None = None
        self._released = asyncio.Event()

    @property
    def settings(self) -> dict[str, str]:
        """By which the notifications app finds it."""
        return {"ORDERFLOW_SMTP_HOST": LOOPBACK, "ORDERFLOW_SMTP_PORT": str(self.port)}

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release()
        self.leave()

    async def listen(self) -> None:
        """Take connections, again after `leave`."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Session(self, self, enable_SMTPUTF8=True, loop=loop), LOOPBACK, self.port
        )

    def leave(self) -> None:
        """Listen no more: new connections are refused. Those that are open stay so."""
        assert self._server is not None
        self._server.close()

    def release(self) -> None:
        """Answer those who hang, and take mails from now on."""
        self.mood = "takes"
        self._released.set()
        self._released = asyncio.Event()

    async def wake_up(self) -> None:
        """Return at once, or when it is released from hanging."""
        if self.mood == "hangs":
            await self._released.wait()

    async def handle_MAIL(  # noqa: N802  # aiosmtpd's
        self, _server: Any, _session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        await self.wake_up()
        if self.mood == "sends away":
            return "421 4.3.2 Not now"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 OK"

    async def handle_DATA(self, server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802  # aiosmtpd's
        if self.mood == "4xx":
            return "451 4.3.2 Try again later"
        if self.mood == "5xx":
            return "550 5.7.1 Never"
        headers = BytesHeaderParser().parsebytes(envelope.original_content or b"")
        self.mails[str(headers["Message-ID"])] += 1
        if self.mood == "hangs up":
            server.transport.close()
        return "250 2.0.0 Taken"


class _Session(SMTP):
    def __init__(self, server: MailServer, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._mail_server = server

    async def push(self, status: Any) -> None:
        if str(status).startswith("220"):
            await self._mail_server.wake_up()
            if self._mail_server.mood == "sends away":
                status = "421 4.3.2 Not now"
        await super().push(status)
