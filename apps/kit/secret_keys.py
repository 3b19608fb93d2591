"""Keys for one purpose each, derived from the one secret of the settings."""

import hashlib
import hmac

from apps.kit.settings import get_settings


def derived_key(purpose: str) -> bytes:
    """32 bytes that nobody without the secret can tell, the same in every process.

    Args:
        purpose: what the key is for; another purpose has another key.
    """
    secret = get_settings().secret_key.get_secret_value()
    return hmac.digest(secret.encode(), purpose.encode(), hashlib.sha256)
