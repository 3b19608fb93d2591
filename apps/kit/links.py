"""Links that customers open without an API key: their signature is the permission."""

import hmac
from base64 import urlsafe_b64encode

from apps.kit.secret_keys import derived_key
from apps.kit.settings import get_settings


def signed_url(path: str) -> str:
    """The public address of a path, which anybody who has it may open."""
    return f"{get_settings().public_url.rstrip('/')}{path}?signature={_signature(path)}"


def is_signature_of(signature: str, path: str) -> bool:
    """Whether a link to the path was made by `signed_url`."""
    return hmac.compare_digest(signature.encode(), _signature(path).encode())


def _signature(path: str) -> str:
    digest = hmac.digest(derived_key("signed links"), path.encode(), "sha256")
    return urlsafe_b64encode(digest).decode().rstrip("=")
