"""Where the console is, as the browser sees it."""

from fastapi import Request

from apps.kit.settings import get_settings


def root_of(request: Request) -> str:
    """What comes before every path of the console."""
    root: str = request.scope.get("root_path", "")
    return root


def is_secure() -> bool:
    """Whether browsers reach it over https, so that cookies need not travel without it."""
    return get_settings().public_url.startswith("https://")
