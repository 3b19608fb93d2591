"""English names of countries, as shops write them, to ISO 3166-1 alpha-2 codes."""

from functools import cache

from babel import Locale

# Regions, reserved codes and test locales that CLDR lists beside the countries.
_NOT_ISO = {"AC", "CP", "CQ", "DG", "EA", "EU", "EZ", "IC", "QO", "TA", "UN", "XA", "XB", "XK", "ZZ"}
_OTHER_SPELLINGS = {
    "CZECH REPUBLIC": "CZ",
    "EIRE": "IE",
    "HONG KONG": "HK",
    "KOREA": "KR",
    "RSA": "ZA",
    "TURKEY": "TR",
    "UK": "GB",
    "USA": "US",
}


@cache
def _codes_by_name() -> dict[str, str]:
    names = {
        code: name
        for code, name in Locale("en").territories.items()
        if len(code) == 2 and code.isalpha() and code not in _NOT_ISO  # noqa: PLR2004
    }
    return {
        **{name.upper(): code for code, name in names.items()},
        **{code: code for code in names},
        **_OTHER_SPELLINGS,
    }


def country_code(name: str) -> str | None:
    """The code of a country given by name or code, None where there is none ("Channel Islands")."""
    return _codes_by_name().get(name.strip().upper())
