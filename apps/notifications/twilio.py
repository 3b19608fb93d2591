"""Texts by Twilio's REST API or one like it, each handed over until it is taken or refused for good."""

from typing import Self
from uuid import UUID

import httpx

from apps.kit.errors import DependencyUnavailable
from apps.kit.settings import Settings
from apps.kit.tracing.http import answered, sent_request
from apps.notifications.domain import MessageRefusedError

_TIMEOUT_SECONDS = 20
_MESSAGING_SERVICE = "MG"
_UNSURE = (
    httpx.ReadTimeout,
    httpx.ReadError,
    httpx.WriteTimeout,
    httpx.WriteError,
    httpx.RemoteProtocolError,
)

# What is wrong with one recipient or one text, by the provider's error dictionary: another try cannot help.
_PERMANENT = frozenset(
    {
        21211,  # no valid number
        21214,  # a number that cannot be reached
        21217,  # a number that does not look valid
        21265,  # a short code
        21408,  # a country that the account may not text
        21610,  # unsubscribed
        21612,  # no way from this sender to this number
        21614,  # no mobile number
        21617,  # too long
        21635,  # a landline
    }
)
# Credentials, account and address of the API: they concern every text, and waiting loses none.
_CONCERNS_ALL = frozenset({401, 403, 404, 429})
# So does a sender that is no number, is missing, or is not the account's.
_WRONG_SENDER = frozenset({21212, 21603, 21660})
# So does a number that cannot send, or is not the provider's; a short code is merely another country's.
_WRONG_NUMBER = frozenset({21606, 21659})
_SERVER_ERROR = 500


class TextRefused(MessageRefusedError):  # noqa: N818 (a fact, as MailRefused is)
    """The provider will never take this text; it does not say whose it was, for errors end up in logs."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"The SMS provider refuses the text with code {code}")


class TextDeferred(Exception):  # noqa: N818 (as above)
    """Whether the provider took this text is unknown, or nobody foresaw its answer: try it a few times."""


class SmsProviderUnavailable(DependencyUnavailable):
    """The SMS provider is out of reach, or takes no text at all now."""

    dependency = "sms"


class TwilioTexter:
    """Hands texts over, to be queued by the provider.

    The API has no idempotency key for messages. So a text whose answer was lost may go out again: at most
    once per attempt of the recovery policy, five times by default.
    """

    def __init__(self, settings: Settings) -> None:
        sid, token, sender = settings.twilio_account_sid, settings.twilio_auth_token, settings.twilio_from
        if not (sid and token and sender):
            raise ValueError("ORDERFLOW_TWILIO_ACCOUNT_SID is not set")
        by = "MessagingServiceSid" if sender.startswith(_MESSAGING_SERVICE) else "From"
        self._wrong_sender = _WRONG_SENDER | _WRONG_NUMBER if sender.startswith("+") else _WRONG_SENDER
        self._sender = {by: sender}
        self._path = f"/2010-04-01/Accounts/{sid}/Messages.json"
        self._client = httpx.AsyncClient(
            base_url=settings.twilio_url,
            auth=(sid, token.get_secret_value()),
            timeout=_TIMEOUT_SECONDS,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def send(self, number: str, text: str, idempotency_key: UUID) -> None:  # noqa: ARG002  # it has none
        """Return once the provider has taken the text.

        Raises:
            TextRefused: the number can get no text, does not want any, or the text cannot be sent.
            TextDeferred: it is unknown whether the text was taken, or why not.
            DependencyUnavailable: the provider is out of reach, or takes no text at all now.
        """
        try:
            with sent_request("POST", str(self._client.base_url)) as request:
                answer = await self._client.post(
                    self._path, data={"To": number, "Body": text, **self._sender}
                )
                answered(request, answer.status_code)
        except _UNSURE as error:
            raise TextDeferred(f"The SMS provider did not answer: {type(error).__name__}") from None
        except httpx.TransportError as error:
            raise self._unavailable(f"is out of reach: {type(error).__name__}") from None
        if answer.is_success:
            return
        code = _code_of(answer)
        if code in _PERMANENT:
            raise TextRefused(code)
        if (
            answer.status_code in _CONCERNS_ALL
            or answer.status_code >= _SERVER_ERROR
            or code in self._wrong_sender
        ):
            raise self._unavailable(f"answers {answer.status_code}, code {code}")
        raise TextDeferred(f"The SMS provider answers {answer.status_code}, code {code}")

    def _unavailable(self, what: str) -> DependencyUnavailable:
        return SmsProviderUnavailable(f"SMS provider {self._client.base_url.host} {what}")


def _code_of(answer: httpx.Response) -> int:
    """The provider's own code, which is more telling than HTTP's; its words quote the number."""
    try:
        code = answer.json()["code"]
    except (ValueError, TypeError, KeyError):
        return answer.status_code
    return code if isinstance(code, int) else answer.status_code
