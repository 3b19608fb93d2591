"""The files that browsers get: a style sheet, scripts and libraries, each under an address of its content."""

import mimetypes
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files

from fastapi import APIRouter, HTTPException, Response

_SHARED = ("theme.js", "icon.svg")
"""Of the documentation of events, which looks the same."""
_KEPT = "public, max-age=31536000, immutable"

router = APIRouter()


@dataclass(frozen=True)
class Asset:
    """A file, and the beginning of its digest."""

    content: bytes
    media_type: str
    digest: str


@cache
def assets() -> dict[str, Asset]:
    """Every file by its name."""
    return {
        name: Asset(content, mimetypes.guess_type(name)[0] or "text/plain", sha256(content).hexdigest()[:16])
        for name, content in _files()
    }


def _files() -> Iterator[tuple[str, bytes]]:
    console, site = files("apps.console"), files("apps.site") / "static"
    for file in (console / "static").iterdir():
        if file.name != "console.css":
            yield file.name, file.read_bytes()
    for name in _SHARED:
        yield name, (site / name).read_bytes()
    parts = [
        site / "tokens.css",
        console / "static" / "uPlot.min.css",
        console / "static" / "console.css",
        *sorted((console / "styles").iterdir(), key=lambda file: file.name),
    ]
    yield "console.css", b"\n".join(part.read_bytes() for part in parts)


def address(root: str, name: str) -> str:
    """Where a file is; another content has another address, so that browsers may keep it for good."""
    return f"{root}/static/{name}?v={assets()[name].digest}"


@router.get("/static/{name}")
async def asset(name: str, v: str = "") -> Response:
    """A file for whoever asks: none of them tells anything of anybody."""
    if (found := assets().get(name)) is None:
        raise HTTPException(404, f"static/{name}: the console has no such file")
    kept = _KEPT if v == found.digest else "no-cache"
    return Response(found.content, media_type=found.media_type, headers={"Cache-Control": kept})
