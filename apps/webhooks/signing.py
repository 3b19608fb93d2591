"""Secrets of endpoints, encrypted wherever they are stored, and the signatures made with them."""

import secrets
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from cryptography.fernet import Fernet, InvalidToken
from standardwebhooks import Webhook

from apps.kit.secret_keys import derived_key

SECRET_BYTES = 32
OLD_SECRET_VALID = timedelta(hours=24)


class UnreadableSecretError(Exception):
    """A secret was encrypted with another key than that of the settings."""

    def __init__(self) -> None:
        super().__init__("the secret cannot be read: ORDERFLOW_SECRET_KEY has changed; rotate the secret")


def new_secret() -> str:
    """A secret as Standard Webhooks writes it."""
    return f"whsec_{b64encode(secrets.token_bytes(SECRET_BYTES)).decode()}"


def first_secret(secret: str) -> list[dict[str, Any]]:
    """What is stored of an endpoint's only secret."""
    return [{"sealed": _cipher().encrypt(secret.encode()), "expires_at": None}]


def rotated(stored: Sequence[dict[str, Any]], secret: str, now: datetime) -> list[dict[str, Any]]:
    """What is stored once a new secret is in force; the one before stays valid for a day."""
    return [*first_secret(secret), {**stored[0], "expires_at": now + OLD_SECRET_VALID}]


def signed_headers(
    webhook_id: str, body: bytes, stored: Sequence[dict[str, Any]], now: datetime
) -> dict[str, str]:
    """The headers of one attempt: id, its time in Unix seconds, and a signature by each valid secret.

    An older secret that cannot be decrypted signs no more, so that a rotation is the cure for a changed key.

    Raises:
        UnreadableSecretError: the present secret cannot be decrypted.
    """
    valid = [one["sealed"] for one in stored if one["expires_at"] is None or one["expires_at"] > now]
    present, *older = map(_opened, valid)
    if present is None:
        raise UnreadableSecretError
    opened = [present, *filter(None, older)]
    return {
        "content-type": "application/json",
        "user-agent": "Orderflow",
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(
            Webhook(secret).sign(webhook_id, now, body.decode()) for secret in opened
        ),
    }


def _opened(sealed: bytes) -> str | None:
    """The secret; None if it was encrypted with another key than that of the settings."""
    try:
        return _cipher().decrypt(sealed).decode()
    except InvalidToken:
        return None


def _cipher() -> Fernet:
    return Fernet(urlsafe_b64encode(derived_key("webhook secrets")))
