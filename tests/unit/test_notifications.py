"""What a customer is told: by which way, in which words, and only once."""

import asyncio
import html
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

from apps.kit import wording
from apps.kit.errors import DependencyUnavailable
from apps.kit.settings import Settings
from apps.kit.wording import Language, language_of, one_line
from apps.notifications import gsm
from apps.notifications.application import Mailer, NotificationLog, Notifier, Outcome, Texter
from apps.notifications.domain import (
    News,
    Route,
    Template,
    contacts_of,
    mask_address,
    mask_number,
    notification_id,
    template_of,
)
from apps.notifications.messages import Messages
from apps.notifications.sms import LogTexter
from apps.notifications.smtp import SmtpMailer
from contracts import (
    Customer,
    InvoiceIssued,
    InvoiceVoided,
    NotificationFailed,
    NotificationSent,
    NotificationSkipped,
    OrderCancelled,
    OrderRejected,
)
from tests.flows.fakes import NotificationLogInMemory, PostedMails, SentTexts

ADDRESS = "ana.souza@example.com"
NUMBER = "+5511987654321"
OUT_OF_STOCK = {"code": "out_of_stock", "sku": "71053", "requested": 1200, "available": 2}
NONE_LEFT = {"code": "out_of_stock", "sku": "22423", "requested": 1, "available": 0}
UNCOUNTED = {"code": "out_of_stock", "sku": "84879"}
UNKNOWN = {"code": "unknown_sku", "sku": "99999X", "requested": 1}
CANCELLED = {"code": "cancelled"}
HOSTILE = "<script>alert(1)</script>"


def customer(**changes: str | None) -> Customer:
    known = {"id": "1", "name": "Ana Souza", "email": ADDRESS, "phone": NUMBER, "locale": "en-GB"}
    return Customer.model_validate(known | changes)


def invoice(**changes: object) -> InvoiceIssued:
    return InvoiceIssued.model_validate(InvoiceIssued.example | {"customer": customer()} | changes)


def invoice_of(
    *, quantity: int = 1, unit_price: str = "1.00", currency: str = "GBP", description: str = "", **whose: str
) -> InvoiceIssued:
    amount, no_tax = str(quantity * Decimal(unit_price)), str(0 * Decimal(unit_price))
    line = {
        "sku": "85123A",
        "description": description,
        "quantity": quantity,
        "unit_price": unit_price,
        "tax_rate": "0",
        "tax": no_tax,
    }
    sums = {"subtotal": amount, "tax": no_tax, "total": amount}
    return invoice(customer=customer(**whose), currency=currency, lines=[line], **sums)


def rejection(*reasons: Mapping[str, object], **changes: object) -> OrderRejected:
    body = {"customer": customer(), "reasons": reasons or (OUT_OF_STOCK,)}
    return OrderRejected.model_validate(OrderRejected.example | body | changes)


def voided(**changes: object) -> InvoiceVoided:
    return InvoiceVoided.model_validate(InvoiceVoided.example | {"customer": customer()} | changes)


def cancellation(**changes: object) -> OrderCancelled:
    return OrderCancelled.model_validate(OrderCancelled.example | {"customer": customer()} | changes)


VOIDED_AT_LENGTH = voided(
    **invoice_of(quantity=1_000_000, unit_price="1234.56", currency="INR").model_dump(exclude={"customer"})
    | {"reference": "R" * 128}
)


class Desk:
    """A notifier with all that it works with."""

    def __init__(self, routes: Mapping[Template, Route] | None = None, *, failures: int = 0) -> None:
        self.mailer = PostedMails(failures=failures)
        self.texter = SentTexts()
        self.log = NotificationLogInMemory()
        self.notifier = Notifier(Messages("Corner Shop"), self.mailer, self.texter, self.log, routes)


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture(scope="module")
def messages() -> Messages:
    return Messages("Corner Shop")


@pytest.mark.parametrize(
    ("email", "phone", "channels"),
    [
        (ADDRESS, NUMBER, ["email", "sms"]),
        (ADDRESS, None, ["email"]),
        (None, NUMBER, ["sms"]),
        (None, None, []),
    ],
)
def test_contacts(email: str | None, phone: str | None, channels: list[str]) -> None:
    """E-mail comes first, a phone is second best, and without either there is nobody to tell."""
    assert [contact.channel for contact in contacts_of(customer(email=email, phone=phone))] == channels


@pytest.mark.parametrize(
    ("route", "channels"),
    [
        ("email-then-sms", ["email", "sms"]),
        ("sms-then-email", ["sms", "email"]),
        ("email", ["email"]),
        ("sms", ["sms"]),
        ("none", []),
    ],
)
def test_route(route: Route, channels: list[str]) -> None:
    """The shop chooses the ways to its customers and which is tried first."""
    assert [contact.channel for contact in contacts_of(customer(), route)] == channels


@pytest.mark.parametrize(
    ("address", "masked"),
    [("ana@example.com", "a***@example.com"), ("a@b.io", "a***@b.io"), ('"a@b"@c.io', '"***@c.io')],
)
def test_masked_address(address: str, masked: str) -> None:
    """An address shows its first letter and domain, and not how long it is."""
    assert mask_address(address) == masked


@pytest.mark.parametrize(
    ("number", "masked"), [("+5511987654321", "+55*******4321"), ("+1234567", "+12***67")]
)
def test_masked_number(number: str, masked: str) -> None:
    """A number shows its ends, and a short one less of them."""
    assert mask_number(number) == masked


def test_personal_data_stays_out_of_reprs() -> None:
    """A contact or a mail in a log line or an assertion gives nobody away."""
    [contact, _] = contacts_of(customer())
    mail = Messages("Corner Shop").mail(invoice(), ADDRESS)
    for shown in (repr(contact), repr(mail)):
        assert ADDRESS not in shown
        assert "Ana" not in shown


def test_identity_is_one_per_order_and_template() -> None:
    """The id is the same in every process, and differs by order and by template."""
    order_id = UUID("7d2c2f3e-6e0a-5c1b-9a43-0f6a2b6a1c55")
    identity = notification_id(order_id, "invoice-issued")
    assert identity == UUID("4108de20-8b63-5574-b25d-53a8862bd412")
    assert identity != notification_id(order_id, "order-rejected")
    assert identity != notification_id(uuid4(), "invoice-issued")


@pytest.mark.parametrize(
    ("locale", "language"),
    [
        ("pt-BR", Language.BRAZILIAN_PORTUGUESE),
        ("PT_pt", Language.BRAZILIAN_PORTUGUESE),
        ("pt", Language.BRAZILIAN_PORTUGUESE),
        ("en-GB", Language.ENGLISH),
        ("de-DE", Language.ENGLISH),
        ("ptx", Language.ENGLISH),
        (None, Language.ENGLISH),
    ],
)
def test_language(locale: str | None, language: Language) -> None:
    """Portuguese of any country is answered in Brazilian Portuguese, all else in English."""
    assert language_of(locale) is language


@pytest.mark.parametrize(
    ("amount", "currency", "locale", "written"),
    [
        ("1234.56", "GBP", "en-GB", "£1,234.56"),
        ("1234.56", "BRL", "pt-BR", "R$\xa01.234,56"),
        ("1234.56", "EUR", "pt-PT", "1\xa0234,56\xa0€"),
        ("1234.56", "GBP", "de-DE", "£1,234.56"),
        ("1234.56", "GBP", "xx-YY", "£1,234.56"),
        ("1234.56", "GBP", None, "£1,234.56"),
        ("1234", "JPY", "pt-BR", "JP¥\xa01.234"),
        ("0.500", "IQD", "en-GB", "IQD\xa00.500"),
        ("99999999999999999999.99", "USD", "en-US", "$99,999,999,999,999,999,999.99"),
    ],
)
def test_money(amount: str, currency: str, locale: str | None, written: str) -> None:
    """Amounts follow the customer's country within the message's language, with every decimal there is."""
    assert wording.money(Decimal(amount), currency, wording.locale_of(locale)) == written


@pytest.mark.parametrize(
    ("locale", "written"),
    [("pt-BR", "22 de novembro de 2026"), ("en-US", "November 22, 2026"), (None, "22 November 2026")],
)
def test_date(locale: str | None, written: str) -> None:
    """Dates name the month, so that nobody takes it for the day."""
    assert wording.date(datetime(2026, 11, 22, 10, tzinfo=UTC), wording.locale_of(locale)) == written


@pytest.mark.parametrize(
    ("text", "spelt"),
    [
        ("não disponível é à ñ", "nao disponivel é à ñ"),
        ("R$\xa010 \u2013 it\u2019s", "R$ 10 - it's"),
        ("10 €", "10 €"),
        ("商店", "商店"),
    ],
)
def test_spelling_for_sms(text: str, spelt: str) -> None:
    """Only what the alphabet of SMS lacks is given up, and nothing that would leave a gap."""
    assert gsm.spell(text) == spelt


def test_one_line_has_no_way_to_start_another() -> None:
    """Line ends of every kind and marks that reverse the text turn into a space."""
    assert one_line("a\r\nb\u2028c\x85d\u202ee\tf\x00") == "a b c d e f "


@pytest.mark.parametrize("locale", ["en-GB", "pt-BR"])
@pytest.mark.parametrize(
    "news",
    [
        invoice(),
        rejection(OUT_OF_STOCK, NONE_LEFT, UNCOUNTED, UNKNOWN),
        rejection(CANCELLED),
        rejection(reference=None),
        voided(),
        cancellation(),
    ],
    ids=["invoice", "shortage", "cancelled", "no reference", "voided", "withdrawn"],
)
def test_every_template_renders(messages: Messages, news: News, locale: str) -> None:
    """Each message exists in both languages and all formats, also for a customer without a name."""
    for name in ("Ana Souza", None):
        addressed = news.model_copy(update={"customer": customer(locale=locale, name=name)})
        mail = messages.mail(addressed, ADDRESS)
        order = news.reference or str(news.order_id)
        for written in (mail.subject, mail.text, mail.html, messages.sms(addressed)):
            assert order in written
            assert "None" not in written
            assert "  \n" not in written
        assert ("Ana Souza" in mail.text and "Ana Souza" in mail.html) is (name is not None)
        assert f'<html lang="{"pt-BR" if locale == "pt-BR" else "en"}"' in mail.html


@pytest.mark.parametrize(
    ("locale", "currency", "total"), [("en-GB", "GBP", "£1,234.56"), ("pt-BR", "BRL", "R$\xa01.234,56")]
)
def test_invoice_mail_shows_the_bill(messages: Messages, locale: str, currency: str, total: str) -> None:
    """Quantity, article and amounts stand in both parts, as the customer's country writes them."""
    mail = messages.mail(invoice_of(unit_price="1234.56", currency=currency, locale=locale), ADDRESS)
    for part in (mail.text, html.unescape(mail.html)):
        assert part.count(total) >= 4  # unit price, amount, subtotal, total
        assert "85123A" in part
        assert "2026-000123" in part


def test_rejection_mail_gives_every_reason(messages: Messages) -> None:
    """Each article that stood in the way is named with what was wanted and what there was."""
    mail = messages.mail(rejection(OUT_OF_STOCK, NONE_LEFT, UNKNOWN), ADDRESS)
    for part in (mail.text, mail.html):
        assert "Article 71053: out of stock. You ordered 1,200, we have 2." in part
        assert "Article 22423: out of stock. You ordered 1, we have none." in part
        assert "Article 99999X: we do not sell it." in part


def test_cancellation_is_no_shortage(messages: Messages) -> None:
    """Who cancelled an order is told that it was cancelled, and nothing of stock."""
    mail = messages.mail(rejection(CANCELLED), ADDRESS)
    assert mail.subject == "Your order 536365 was cancelled"
    assert "sorry" not in mail.text + mail.html


def test_markup_from_outside_stays_text(messages: Messages) -> None:
    """What a customer or publisher wrote is escaped in HTML and left alone in text."""
    billed = messages.mail(invoice_of(description=HOSTILE, name=HOSTILE), ADDRESS)
    refused = messages.mail(rejection({"code": "unknown_sku", "sku": HOSTILE}), ADDRESS)
    assert billed.text.count(HOSTILE) == 2
    assert refused.text.count(HOSTILE) == 1
    for mail in (billed, refused):
        assert "<script" not in mail.html
        assert "&lt;script&gt;" in mail.html
        assert "&amp;lt;" not in mail.html


@pytest.mark.parametrize("news", [invoice(reference="1\r\nBcc: x@y.z\u2028"), rejection(reference="\n1\n")])
def test_subject_is_one_line(messages: Messages, news: News) -> None:
    """A reference with line ends cannot add a header."""
    assert len(messages.mail(news, ADDRESS).subject.splitlines()) == 1


@pytest.mark.parametrize("locale", ["en-GB", "pt-BR"])
@pytest.mark.parametrize(
    "news",
    [
        invoice_of(quantity=1_000_000, unit_price="1234.56", currency="INR"),
        invoice_of().model_copy(update={"reference": "R" * 128}),
        rejection({"code": "unknown_sku", "sku": "S" * 64}, reference=None),
        rejection(OUT_OF_STOCK, NONE_LEFT, reference=None),
        rejection(CANCELLED, reference=None),
        cancellation(reference="R" * 128),
        VOIDED_AT_LENGTH,
    ],
    ids=["amount", "reference", "article", "articles", "cancelled", "withdrawn", "voided"],
)
def test_sms_fits_one(messages: Messages, news: News, locale: str) -> None:
    """Long references, articles and amounts, accents and rare currencies still leave one plain SMS."""
    text = messages.sms(news.model_copy(update={"customer": customer(locale=locale)}))
    room = gsm.septets(text)
    assert room is not None
    assert room <= 160


async def test_mail_is_sent_and_recorded(desk: Desk) -> None:
    """A customer with an address gets one mail, and the outcome says so without giving it away."""
    outcome = await desk.notifier.tell(invoice())
    assert isinstance(outcome, NotificationSent)
    assert (outcome.channel, outcome.recipient) == ("email", "a***@example.com")
    assert [(mail.address, mail.notification_id) for mail in desk.mailer.mails] == [
        (ADDRESS, outcome.notification_id)
    ]
    assert desk.log.outcomes == {outcome.notification_id: outcome}


async def test_repeat_changes_nothing(desk: Desk) -> None:
    """An event that comes again returns the stored outcome, and the customer hears nothing more."""
    first = await desk.notifier.tell(rejection())
    assert await desk.notifier.tell(rejection()) == first
    assert len(desk.mailer.mails) == 1


async def test_rival_deliveries_send_once(desk: Desk) -> None:
    """Two deliveries of one event at the same time send one mail and agree on the outcome."""
    first, second = await asyncio.gather(desk.notifier.tell(invoice()), desk.notifier.tell(invoice()))
    assert first == second
    assert len(desk.mailer.mails) == 1


async def test_rival_processes_agree() -> None:
    """Two processes that handle one event at the same time may both send, and announce the same outcome."""
    log = NotificationLogInMemory()
    notifiers = [
        Notifier(Messages("Corner Shop"), PostedMails(), SentTexts(), log),
        Notifier(Messages("Corner Shop"), PostedMails(), SentTexts(), log),
    ]
    news = invoice()
    first, second = await asyncio.gather(*(notifier.tell(news) for notifier in notifiers))
    assert first is second
    assert list(log.outcomes.values()) == [first]


async def test_failure_is_not_recorded() -> None:
    """A mail that did not go out is sent when its event comes again, also to one that waited for it."""
    desk = Desk(failures=1)
    failed, told = await asyncio.gather(
        desk.notifier.tell(invoice()), desk.notifier.tell(invoice()), return_exceptions=True
    )
    assert isinstance(failed, DependencyUnavailable)
    assert isinstance(told, NotificationSent)
    assert len(desk.mailer.mails) == 1


async def test_phone_only_gets_sms(desk: Desk) -> None:
    """Without an address the phone is used, under the id by which a provider knows a repeat."""
    outcome = await desk.notifier.tell(invoice(customer=customer(email=None)))
    assert isinstance(outcome, NotificationSent)
    assert (outcome.channel, outcome.recipient) == ("sms", "+55*******4321")
    [(number, text, key)] = desk.texter.texts
    assert (number, key) == (NUMBER, outcome.notification_id)
    assert "2026-000123" in text
    assert not desk.mailer.mails


async def test_no_contact_is_skipped_once(desk: Desk) -> None:
    """An order without address and number is recorded as skipped, and stays so on a repeat."""
    news = invoice(customer=customer(email=None, phone=None))
    outcome = await desk.notifier.tell(news)
    assert isinstance(outcome, NotificationSkipped)
    assert (outcome.template, outcome.reason) == (template_of(news), "no_contact")
    assert await desk.notifier.tell(news) == outcome
    assert not desk.mailer.mails
    assert not desk.texter.texts


async def test_switched_off_message_is_skipped() -> None:
    """What the shop does not want to be sent is recorded as such, and all else goes out."""
    desk = Desk({"invoice-issued": "none"})
    outcome = await desk.notifier.tell(invoice())
    assert isinstance(outcome, NotificationSkipped)
    assert outcome.reason == "switched_off"
    assert isinstance(await desk.notifier.tell(voided()), NotificationSent)
    assert len(desk.mailer.mails) == 1


async def test_route_without_fallback_reaches_nobody_else() -> None:
    """A shop that sends invoices by mail alone skips who has only a phone."""
    desk = Desk({"invoice-issued": "email"})
    outcome = await desk.notifier.tell(invoice(customer=customer(email=None)))
    assert isinstance(outcome, NotificationSkipped)
    assert outcome.reason == "no_contact"
    assert not desk.texter.texts


async def test_refused_mail_is_an_outcome_and_not_tried_again(desk: Desk) -> None:
    """A refusal for good is recorded with its reason, masked, and a repeat finds it."""
    desk.mailer.refusals = 1
    news = invoice(customer=customer(phone=None))
    outcome = await desk.notifier.tell(news)
    assert isinstance(outcome, NotificationFailed)
    assert (outcome.channel, outcome.recipient) == ("email", "a***@example.com")
    assert outcome.reason == "The mail server refuses the mail with code 550"
    assert await desk.notifier.tell(news) == outcome
    assert not desk.mailer.mails


async def test_refused_mail_turns_into_an_sms(desk: Desk) -> None:
    """Where the route has a second way, an address that is refused for good is not the end of it."""
    desk.mailer.refusals = 1
    outcome = await desk.notifier.tell(invoice())
    assert isinstance(outcome, NotificationSent)
    assert outcome.channel == "sms"
    assert len(desk.texter.texts) == 1


@pytest.mark.parametrize("first", ["cancelled", "rejected"])
async def test_cancellation_is_told_once(desk: Desk, first: str) -> None:
    """Whichever event about a cancelled order comes first tells the customer, the other nothing."""
    news: list[News] = [cancellation(), rejection(CANCELLED)]
    outcomes = [await desk.notifier.tell(one) for one in (news if first == "cancelled" else news[::-1])]
    assert outcomes[0] == outcomes[1]
    assert outcomes[0].template == "order-cancelled"
    assert [mail.subject for mail in desk.mailer.mails] == ["Your order 536365 was cancelled"]


NOBODY = customer(email=None, phone=None)


@pytest.mark.parametrize("first", ["cancelled", "rejected"])
async def test_contact_that_comes_second_is_used(desk: Desk, first: str) -> None:
    """That nobody could be told is no last word: the other event about the order may bring an address."""
    news: list[News] = [cancellation(), rejection(CANCELLED)]
    unknown, known = news if first == "cancelled" else news[::-1]
    unknown = unknown.model_copy(update={"customer": NOBODY})
    assert isinstance(await desk.notifier.tell(unknown), NotificationSkipped)

    told = await desk.notifier.tell(known)

    assert isinstance(told, NotificationSent)
    assert desk.log.outcomes == {told.notification_id: told}
    assert [await desk.notifier.tell(one) for one in (unknown, known)] == [told, told]
    assert len(desk.mailer.mails) == 1


async def test_contact_that_comes_second_is_used_while_the_log_is_away() -> None:
    """An outcome that awaits its entry gives way to a better one just as an entry does."""
    mailer = PostedMails()
    notifier = Notifier(Messages("Corner Shop"), mailer, SentTexts(), LogThatFailsOnce())
    with pytest.raises(DependencyUnavailable):
        await notifier.tell(cancellation(customer=NOBODY))

    told = await notifier.tell(rejection(CANCELLED))

    assert isinstance(told, NotificationSent)
    assert await notifier.tell(cancellation(customer=NOBODY)) == told
    assert len(mailer.mails) == 1


async def test_refused_mail_is_not_tried_again_while_the_sms_waits(desk: Desk) -> None:
    """What was refused for good is remembered for as long as the second way is out of reach."""
    desk.mailer.refusals = 1
    desk.texter.failures = 2
    for _ in range(2):
        with pytest.raises(DependencyUnavailable):
            await desk.notifier.tell(invoice())

    outcome = await desk.notifier.tell(invoice())

    assert isinstance(outcome, NotificationSent)
    assert outcome.channel == "sms"
    assert not desk.mailer.mails


async def test_another_address_is_tried_after_a_refusal(desk: Desk) -> None:
    """A refusal concerns one address: the one in the other event may be right."""
    desk.mailer.refusals = 1
    desk.texter.failures = 1
    with pytest.raises(DependencyUnavailable):
        await desk.notifier.tell(cancellation(customer=customer(email="ana@old.example.com")))

    outcome = await desk.notifier.tell(rejection(CANCELLED))

    assert isinstance(outcome, NotificationSent)
    assert outcome.channel == "email"


async def test_without_a_texter_there_is_no_way_by_sms() -> None:
    """A refused mail stays refused, and who has only a number is not told: no SMS passes for sent."""
    mailer, log = PostedMails(), NotificationLogInMemory()
    notifier = Notifier(Messages("Corner Shop"), mailer, None, log, {"order-rejected": "sms"})
    mailer.refusals = 1

    failed = await notifier.tell(invoice())
    by_number = await notifier.tell(voided(customer=customer(email=None)))
    by_route = await notifier.tell(rejection())

    assert isinstance(failed, NotificationFailed)
    assert failed.channel == "email"
    for skipped in (by_number, by_route):
        assert isinstance(skipped, NotificationSkipped)
        assert skipped.reason == "no_contact"


async def test_logged_sms_names_nobody() -> None:
    """The stand-in for a provider logs that there was a text, not what it said or to whom."""
    with capture_logs() as lines:
        await LogTexter().send(NUMBER, "Hello Ana", uuid4())
    [line] = lines
    assert (line["recipient"], line["length"]) == ("+55*******4321", 9)
    assert not any(secret in str(line) for secret in (NUMBER, "Hello", "Ana"))


def test_adapters_and_fakes_fit_the_ports() -> None:
    """What the application is given in tests and in earnest has the shape that it asks for."""
    assert isinstance(SmtpMailer(Settings()), Mailer)
    assert isinstance(PostedMails(), Mailer)
    assert isinstance(LogTexter(), Texter)
    assert isinstance(NotificationLogInMemory(), NotificationLog)


@pytest.mark.parametrize("mail_from", ["Orderflow", "", "Orderflow <@shop.example>", "a@b..c"])
def test_sender_must_be_an_address(mail_from: str) -> None:
    """A sender that no mail could have is refused at start, by the name of its setting."""
    with pytest.raises(ValueError, match="ORDERFLOW_MAIL_FROM"):
        SmtpMailer(Settings(mail_from=mail_from))


class LogThatFailsOnce(NotificationLogInMemory):
    """Out of reach for the first entry."""

    has_failed = False

    async def record(self, outcome: Outcome) -> Outcome:
        if not self.has_failed:
            self.has_failed = True
            raise DependencyUnavailable("MongoDB is away")
        return await super().record(outcome)


async def test_mail_that_could_not_be_recorded_is_not_sent_again() -> None:
    """While a message waits for the log, only the entry is tried again, not the mail."""
    mailer, log = PostedMails(), LogThatFailsOnce()
    notifier = Notifier(Messages("Corner Shop"), mailer, SentTexts(), log)
    news = invoice()
    with pytest.raises(DependencyUnavailable):
        await notifier.tell(news)

    outcome = await notifier.tell(news)

    assert len(mailer.mails) == 1
    assert list(log.outcomes.values()) == [outcome]
