"""A customer is told each thing once, by e-mail or SMS, and what was done about it is kept."""

import asyncio
from typing import Protocol, TypeAlias, runtime_checkable
from uuid import UUID
from weakref import WeakValueDictionary

from apps.kit.clock import utc_now
from apps.notifications.domain import Mail, News, contact_of, notification_id, template_of
from apps.notifications.messages import Messages
from contracts import NotificationSent, NotificationSkipped

Outcome: TypeAlias = NotificationSent | NotificationSkipped


@runtime_checkable
class Mailer(Protocol):
    """Posts mails; a repeat carries the same Message-ID."""

    async def send(self, mail: Mail) -> None:
        """Return once the mail server has taken the mail."""


@runtime_checkable
class Texter(Protocol):
    """Sends SMS; the provider knows a repeat by its key."""

    async def send(self, number: str, text: str, idempotency_key: UUID) -> None:
        """Return once the provider has taken the text."""


@runtime_checkable
class NotificationLog(Protocol):
    """What customers were told, by notification id."""

    async def find(self, notification_id: UUID) -> Outcome | None:
        """The outcome that was recorded, if any."""

    async def record(self, outcome: Outcome) -> Outcome:
        """Keep an outcome; where its id has one already, that one stays. Returns the one that is kept."""


class Notifier:
    """Tells customers what happened to their orders."""

    def __init__(self, messages: Messages, mailer: Mailer, texter: Texter, log: NotificationLog) -> None:
        self._messages = messages
        self._mailer = mailer
        self._texter = texter
        self._log = log
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
        template = template_of(news)
        contact = contact_of(news.customer)
        if contact is None:
            return NotificationSkipped(
                notification_id=identity,
                order_id=news.order_id,
                template=template,
                reason="no_contact",
                skipped_at=utc_now(),
            )
        if contact.channel == "email":
            await self._mailer.send(self._messages.mail(news, contact.address))
        else:
            await self._texter.send(contact.address, self._messages.sms(news), identity)
        return NotificationSent(
            notification_id=identity,
            order_id=news.order_id,
            template=template,
            channel=contact.channel,
            recipient=contact.masked,
            sent_at=utc_now(),
        )
