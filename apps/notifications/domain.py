"""What a customer is told about, by which way, and under which lasting identity."""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias
from uuid import UUID, uuid5

from contracts import (
    Customer,
    InvoiceIssued,
    InvoiceVoided,
    OrderCancelled,
    OrderRejected,
    RejectionCode,
)
from contracts.event import NAMESPACE

News: TypeAlias = InvoiceIssued | InvoiceVoided | OrderRejected | OrderCancelled
"""What a customer is told about."""

Template: TypeAlias = Literal["invoice-issued", "invoice-voided", "order-rejected", "order-cancelled"]
"""The name of a message, as its files and events carry it."""

Route: TypeAlias = Literal["email-then-sms", "sms-then-email", "email", "sms", "none"]
"""The ways to a customer, in the order in which they are tried."""

Channel: TypeAlias = Literal["email", "sms"]

_CHANNELS: dict[Route, tuple[Channel, ...]] = {
    "email-then-sms": ("email", "sms"),
    "sms-then-email": ("sms", "email"),
    "email": ("email",),
    "sms": ("sms",),
    "none": (),
}
_LONG_NUMBER_DIGITS = 10


class MessageRefusedError(Exception):
    """This message will never be taken; says why without saying whose it was."""


@dataclass(frozen=True, slots=True)
class Contact:
    """One way in which a customer is reached."""

    channel: Channel
    address: str = field(repr=False)

    @property
    def masked(self) -> str:
        """Enough to recognise, not to use."""
        return mask_address(self.address) if self.channel == "email" else mask_number(self.address)


@dataclass(frozen=True, slots=True)
class Mail:
    """A written message, ready to be posted; who gets it and what it says stay out of its repr."""

    notification_id: UUID
    template: str
    address: str = field(repr=False)
    name: str | None = field(repr=False)
    subject: str = field(repr=False)
    text: str = field(repr=False)
    html: str = field(repr=False)


def contacts_of(customer: Customer, route: Route = "email-then-sms") -> list[Contact]:
    """The ways of the route that lead to this customer, those to be tried first in front."""
    known: dict[Channel, str | None] = {"email": customer.email, "sms": customer.phone}
    return [Contact(channel, address) for channel in _CHANNELS[route] if (address := known[channel])]


def template_of(news: News) -> Template:
    """The message that tells the news.

    A rejection because of a cancellation tells of the latter: the event that comes first is the one told.
    """
    match news:
        case InvoiceIssued():
            return "invoice-issued"
        case InvoiceVoided():
            return "invoice-voided"
        case OrderRejected() if not was_cancelled(news):
            return "order-rejected"
        case _:
            return "order-cancelled"


def was_cancelled(rejection: OrderRejected) -> bool:
    """Whether nothing but a cancellation stood in the way."""
    return all(reason.code is RejectionCode.CANCELLED for reason in rejection.reasons)


def notification_id(order_id: UUID, template: str) -> UUID:
    """One per order and template, the same in every process and on every repeat."""
    return uuid5(NAMESPACE, f"notification/{order_id}/{template}")


def mask_address(address: str) -> str:
    """`a***@example.com`: always three stars, so that the length stays unknown."""
    local, _, domain = address.rpartition("@")
    return f"{local[:1]}***@{domain}"


def mask_number(number: str) -> str:
    """`+55*******4321`; a short number shows two digits at its end, else little would be hidden."""
    digits = number.removeprefix("+")
    shown = 4 if len(digits) >= _LONG_NUMBER_DIGITS else 2
    return f"+{digits[:2]}{'*' * (len(digits) - 2 - shown)}{digits[-shown:]}"
