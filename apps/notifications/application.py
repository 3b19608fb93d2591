"""A customer is told each thing once, by e-mail or SMS, and what was done about it is kept."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias, runtime_checkable
from uuid import UUID
from weakref import WeakValueDictionary

import structlog

from apps.kit.clock import utc_now
from apps.kit.metrics import NOTIFICATIONS
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

_RESULTS = {"email": ("sent", "failed"), "sms": ("sent", "failed"), "none": ("skipped",)}
"""What may come of telling a customer, by channel."""
_MOST_REFUSALS = 1000
"""That a process remembers, the latest; whatever it has forgotten is tried and refused once more."""

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
        """Keep an outcome and return the one that is kept.

        Where its id has one already, that one stays, unless it `lacked_contact` and this one did not.
        """


def lacked_contact(outcome: Outcome) -> bool:
    """Whether there was no way to the customer, so that another event may yet bring one."""
    return isinstance(outcome, NotificationSkipped) and outcome.reason == "no_contact"


class Notifier:
    """Tells customers what happened to their orders; without a texter there is no way by SMS."""

    def __init__(
        self,
        messages: Messages,
        mailer: Mailer,
        texter: Texter | None,
        log: NotificationLog,
        routes: Mapping[Template, Route] | None = None,
    ) -> None:
        for channel, results in _RESULTS.items():
            for result in results:  # as 0: Prometheus sees no increase in what begins at 1
                NOTIFICATIONS.labels(channel, result)
        self._messages = messages
        self._mailer = mailer
        self._texter = texter
        self._log = log
        self._routes = routes or {}  # e-mail, then SMS, for what is not in it
        # What was sent and could not be recorded: a message that waits for the log must not be sent again.
        self._unrecorded: dict[UUID, Outcome] = {}
        # Likewise, a message that waits for the second way must not try the first again and again.
        self._refusals: dict[tuple[UUID, Contact], NotificationFailed] = {}
        # A lock lives as long as someone holds or awaits it.
        self._turns: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()

    async def tell(self, news: News) -> Outcome:
        """Send and record; what was told already is not told again, and its outcome is returned again.

        A crash between sending and recording sends once more: the message then carries the same id.
        """
        identity = notification_id(news.order_id, template_of(news))
        contacts = self._contacts(news)
        async with self._turns.setdefault(identity, asyncio.Lock()):
            known = await self._log.find(identity)
            if known and not (contacts and lacked_contact(known)):
                return known
            outcome = self._unrecorded.get(identity)
            if outcome is None or (contacts and lacked_contact(outcome)):
                outcome = await self._send(news, contacts, identity)
            self._unrecorded[identity] = outcome
            # Another process may have been faster: all announce the same then.
            kept = await self._log.record(outcome)
            del self._unrecorded[identity]
            return kept

    def _contacts(self, news: News) -> list[Contact]:
        contacts = contacts_of(news.customer, self._route(news))
        return [contact for contact in contacts if contact.channel == "email" or self._texter]

    def _route(self, news: News) -> Route:
        return self._routes.get(template_of(news), "email-then-sms")

    async def _send(self, news: News, contacts: Sequence[Contact], identity: UUID) -> Outcome:
        """Try one way after the other, until one takes the message or all have refused it for good."""
        outcome: Outcome = NotificationSkipped(
            notification_id=identity,
            order_id=news.order_id,
            template=template_of(news),
            reason="switched_off" if self._route(news) == "none" else "no_contact",
            skipped_at=utc_now(),
        )
        for contact in contacts:
            outcome = self._refusals.get((identity, contact)) or await self._try(news, contact, identity)
            if isinstance(outcome, NotificationSent):
                break
        if isinstance(outcome, NotificationSkipped):
            NOTIFICATIONS.labels("none", "skipped").inc()
        return outcome

    async def _try(
        self, news: News, contact: Contact, identity: UUID
    ) -> NotificationSent | NotificationFailed:
        told = {
            "notification_id": identity,
            "order_id": news.order_id,
            "template": template_of(news),
            "channel": contact.channel,
            "recipient": contact.masked,
        }
        try:
            await self._hand_over(news, contact, identity)
        except MessageRefusedError as refusal:
            NOTIFICATIONS.labels(contact.channel, "failed").inc()
            log.warning("refused", channel=contact.channel, reason=str(refusal))
            failed = NotificationFailed(**told, reason=str(refusal), failed_at=utc_now())
            while len(self._refusals) >= _MOST_REFUSALS:
                del self._refusals[next(iter(self._refusals))]
            self._refusals[identity, contact] = failed
            return failed
        NOTIFICATIONS.labels(contact.channel, "sent").inc()
        return NotificationSent(**told, sent_at=utc_now())

    async def _hand_over(self, news: News, contact: Contact, identity: UUID) -> None:
        if contact.channel == "email":
            await self._mailer.send(self._messages.mail(news, contact.address))
        elif self._texter is not None:
            await self._texter.send(contact.address, self._messages.sms(news), identity)
        else:
            raise LookupError("no contact is an SMS number where there is no texter")
