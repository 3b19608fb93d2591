"""API keys: `of_<prefix>_<secret>`; the prefix names a key, and whoever has the secret may use it."""

import hashlib
import hmac
import re
import secrets
from base64 import b32encode

_FORMAT = re.compile(r"of_([a-z2-7]{8})_[A-Za-z0-9_-]{43}")


def new_key() -> str:
    """A key that nobody can guess: 40 bits that name it, and 256 that are secret."""
    prefix = b32encode(secrets.token_bytes(5)).decode().lower()
    return f"of_{prefix}_{secrets.token_urlsafe(32)}"


def prefix_of(key: str) -> str | None:
    """What names the key and may be shown; None if it is no key."""
    match = _FORMAT.fullmatch(key)
    return match and match[1]


def digest_of(key: str) -> str:
    """What is stored of a key.

    SHA-256, and no slow hash as for passwords: those are guessed from lists, 256 random bits are not, and
    the digest is taken for every request.
    """
    return hashlib.sha256(key.encode()).hexdigest()


def is_digest_of(digest: str, key: str) -> bool:
    """Whether the digest is this key's; takes as long for a near miss as for any other."""
    return hmac.compare_digest(digest, digest_of(key))
