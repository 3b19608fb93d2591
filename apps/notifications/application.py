"""A customer is told each thing once, by e-mail or SMS, and what was done about it is kept."""

import asyncio
from collections.abc import Mapping
from typing import Protocol, TypeAlias, runtime_checkable
from uuid import UUID
from weakref import WeakValueDictionary

import structlog

from apps.kit.clock import utc_now
from apps.notifications.domain import (
    Contact,
    Mail,
    MessageRefusedError,
    News,
    Route,
    Template,
    contacts_of,
    notification_id,
    template_of,
)
from apps.notifications.messages import Messages
from contracts import NotificationFailed, NotificationSent, NotificationSkipped

Outcome: TypeAlias = NotificationSent | NotificationSkipped | NotificationFailed

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@runtime_checkable
class Mailer(Protocol):
    """Posts mails; a repeat carries the same Message-ID."""

    async def send(self, mail: Mail) -> None:
        """Return once the mail server has taken the mail.

        Raises:
            MessageRefusedError: it never will.
        """


@runtime_checkable
class Texter(Protocol):
    """Sends SMS; a provider that has a way to know a repeat knows it by its key."""

    async def send(self, number: str, text: str, idempotency_key: UUID) -> None:
        """Return once the provider has taken the text.

        Raises:
            MessageRefusedError: it never will.
        """


@runtime_checkable
class NotificationLog(Protocol):
    """What customers were told, by notification id."""

    async def find(self, notification_id: UUID) -> Outcome | None:
        """The outcome that was recorded, if any."""

    async def record(self, outcome: Outcome) -> Outcome:
        """Keep an outcome; where its id has one already, that one stays. Returns the one that is kept."""


class Notifier:
    """Tells customers what happened to their orders."""

    def __init__(
        self,
        messages: Messages,
        mailer: Mailer,
        texter: Texter,
        log: NotificationLog,
        routes: Mapping[Template, Route] | None = None,
    ) -> None:
        self._messages = messages
        self._mailer = mailer
        self._texter = texter
        self._log = log
        self._routes = routes or {}  # e-mail, then SMS, for what is not in it
        # What was sent and could not be recorded: a message that waits for the log must not be sent again.
        self._unrecorded: dict[UUID, Outcome] = {}
        # A lock lives as long as someone holds or awaits it.
        self._turns: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()

    async def tell(self, news: News) -> Outcome:
        """Send and record; what was told already is not told again, and its outcome is returned again.

        A crash between sending and recording sends once more: the message then carries the same id.
        """
        identity = notification_id(news.order_id, template_of(news))
        async with self._turns.setdefault(identity, asyncio.Lock()):
            if known := await self._log.find(identity):
                return known
            outcome = self._unrecorded.get(identity) or await self._send(news, identity)
            self._unrecorded[identity] = outcome
            # Another process may have been faster: all announce the same then.
            kept = await self._log.record(outcome)
            del self._unrecorded[identity]
            return kept

    async def _send(self, news: News, identity: UUID) -> Outcome:
        """Try one way after the other, until one takes the message or all have refused it for good."""
        about = {
            "notification_id": identity,
            "order_id": news.order_id,
            "template": template_of(news),
        }
        route = self._routes.get(template_of(news), "email-then-sms")
        outcome: Outcome = NotificationSkipped(
            **about, reason="switched_off" if route == "none" else "no_contact", skipped_at=utc_now()
        )
        for contact in contacts_of(news.customer, route):
            told = {**about, "channel": contact.channel, "recipient": contact.masked}
            try:
                await self._hand_over(news, contact, identity)
            except MessageRefusedError as refusal:
                log.warning("refused", channel=contact.channel, reason=str(refusal))
                outcome = NotificationFailed(**told, reason=str(refusal), failed_at=utc_now())
            else:
                return NotificationSent(**told, sent_at=utc_now())
        return outcome

    async def _hand_over(self, news: News, contact: Contact, identity: UUID) -> None:
        if contact.channel == "email":
            await self._mailer.send(self._messages.mail(news, contact.address))
        else:
            await self._texter.send(contact.address, self._messages.sms(news), identity)
