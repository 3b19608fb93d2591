"""What a customer is told about, by which way, in which language, and under which lasting identity."""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, TypeAlias
from uuid import UUID, uuid5

from contracts import Customer, InvoiceIssued, OrderRejected
from contracts.event import NAMESPACE

News: TypeAlias = InvoiceIssued | OrderRejected
"""What a customer is told about."""

# Control characters, line separators and what reverses the direction of text: none belongs in a name.
_NOT_ON_ONE_LINE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]+")
_LONG_NUMBER_DIGITS = 10


class Language(StrEnum):
    """The languages that there are templates for."""

    ENGLISH = "en"
    BRAZILIAN_PORTUGUESE = "pt_BR"


@dataclass(frozen=True, slots=True)
class Contact:
    """The one way in which a customer is reached."""

    channel: Literal["email", "sms"]
    address: str = field(repr=False)

    @property
    def masked(self) -> str:
        """Enough to recognise, not to use."""
        return mask_address(self.address) if self.channel == "email" else mask_number(self.address)


@dataclass(frozen=True, slots=True)
class Mail:
    """A written message, ready to be posted; who gets it and what it says stay out of its repr."""

    notification_id: UUID
    address: str = field(repr=False)
    name: str | None = field(repr=False)
    subject: str = field(repr=False)
    text: str = field(repr=False)
    html: str = field(repr=False)


def contact_of(customer: Customer) -> Contact | None:
    """E-mail if there is an address, else SMS if there is a number, else nobody."""
    if customer.email:
        return Contact("email", customer.email)
    if customer.phone:
        return Contact("sms", customer.phone)
    return None


def template_of(news: News) -> str:
    """The name of the message, as its templates and events carry it."""
    return "invoice-issued" if isinstance(news, InvoiceIssued) else "order-rejected"


def notification_id(order_id: UUID, template: str) -> UUID:
    """One per order and template, the same in every process and on every repeat."""
    return uuid5(NAMESPACE, f"notification/{order_id}/{template}")


def language_of(locale: str | None) -> Language:
    """Brazilian Portuguese for every kind of Portuguese, English for all others."""
    primary = re.split("[-_]", locale or "")[0].lower()
    return Language.BRAZILIAN_PORTUGUESE if primary == "pt" else Language.ENGLISH


def one_line(text: str) -> str:
    """The text without anything that could start a line or turn one around."""
    return _NOT_ON_ONE_LINE.sub(" ", text)


def mask_address(address: str) -> str:
    """`a***@example.com`: always three stars, so that the length stays unknown."""
    local, _, domain = address.rpartition("@")
    return f"{local[:1]}***@{domain}"


def mask_number(number: str) -> str:
    """`+55*******4321`; a short number shows two digits at its end, else little would be hidden."""
    digits = number.removeprefix("+")
    shown = 4 if len(digits) >= _LONG_NUMBER_DIGITS else 2
    return f"+{digits[:2]}{'*' * (len(digits) - 2 - shown)}{digits[-shown:]}"
