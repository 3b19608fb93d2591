"""Texts in the alphabet of SMS, so that 160 characters fit where one foreign letter would leave 70."""

import unicodedata

_BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENDED = "^{}\\[~]|€"
_ALPHABET = frozenset(_BASIC + _EXTENDED)
# Dashes and curly quotes, which no decomposition leads back to plain ones.
_LOOKALIKES = str.maketrans("\u2013\u2014\u2018\u2019\u201c\u201d", "--''\"\"")


def septets(text: str) -> int | None:
    """Room that a text takes of the 160 of one SMS; None if it is not in the alphabet."""
    if not _ALPHABET.issuperset(text):
        return None
    return len(text) + sum(character in _EXTENDED for character in text)


def parts(text: str) -> int:
    """SMS that a text takes: one for 160 septets or 70 UTF-16 units, else less room in each of several."""
    room = septets(text)
    units, alone, joined = (len(text.encode("utf-16-le")) // 2, 70, 67) if room is None else (room, 160, 153)
    return 1 if units <= alone else -(-units // joined)


def spell(text: str) -> str:
    """The text with accents and typography given up where the alphabet lacks them, and only there."""
    return "".join(map(_spell_character, text.translate(_LOOKALIKES)))


def _spell_character(character: str) -> str:
    if character in _ALPHABET:
        return character
    decomposed = unicodedata.normalize("NFKD", character)
    plain = "".join(part for part in decomposed if not unicodedata.combining(part))
    return plain if _ALPHABET.issuperset(plain) else character
