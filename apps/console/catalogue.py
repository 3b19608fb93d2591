"""The console's words in the languages that it speaks; English is what the templates say."""

from collections.abc import Mapping
from functools import cache
from gettext import NullTranslations
from importlib.resources import files

from babel.messages.pofile import read_po

from apps.kit.wording import Language


class _Catalogue(NullTranslations):
    """Translations as they are read from text, without a step that compiles them."""

    def __init__(self, texts: Mapping[str, str | tuple[str, ...]]) -> None:
        super().__init__()
        self._texts = texts

    def gettext(self, message: str) -> str:
        found = self._texts.get(message)
        return found if isinstance(found, str) and found else super().gettext(message)

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        found = self._texts.get(msgid1)
        if isinstance(found, tuple) and all(found):
            return found[0 if n == 1 else 1]
        return super().ngettext(msgid1, msgid2, n)


@cache
def translations(language: Language) -> NullTranslations:
    """The texts of a language: all its catalogues, one of each page, together."""
    folder = files("apps.console") / "locale" / language
    if language is Language.ENGLISH:
        return NullTranslations()
    texts: dict[str, str | tuple[str, ...]] = {}
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        with file.open("rb") as content:
            for message in read_po(content, locale=language):
                if message.id and message.string:
                    key = message.id if isinstance(message.id, str) else message.id[0]
                    texts[key] = message.string if isinstance(message.string, str) else tuple(message.string)
    return _Catalogue(texts)
