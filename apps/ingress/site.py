"""The documentation of all events under `/asyncapi`, for everybody who reaches the ingress."""

import asyncio
import mimetypes
from dataclasses import dataclass
from hashlib import sha256

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import RedirectResponse

from apps.site.pages import build

# The pages bring all their scripts and styles as files, so nothing inline is obeyed.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_MEDIA_TYPES = {".yaml": "application/yaml", ".js": "text/javascript", ".json": "application/json"}


@dataclass(frozen=True)
class _File:
    content: bytes
    media_type: str
    etag: str


class Site:
    """Drawn when it is first asked for, and kept: drawing takes a second or two."""

    def __init__(self) -> None:
        self._drawing: asyncio.Task[dict[str, _File]] | None = None

    async def file(self, path: str) -> _File | None:
        """The file of that path; none if the site has no such file."""
        if self._drawing is None or (self._drawing.done() and self._drawing.exception()):
            self._drawing = asyncio.create_task(asyncio.to_thread(_draw))
        # One reader who goes away does not take the pages from the others.
        return (await asyncio.shield(self._drawing)).get(path)


def _draw() -> dict[str, _File]:
    return {
        path: _File(content, _media_type(path), f'"{sha256(content).hexdigest()[:32]}"')
        for path, content in build().items()
    }


def _media_type(path: str) -> str:
    for suffix, media_type in _MEDIA_TYPES.items():
        if path.endswith(suffix):
            return media_type
    return mimetypes.guess_type(path)[0] or "application/octet-stream"


router = APIRouter(prefix="/asyncapi", include_in_schema=False)
_site = Site()


@router.api_route("", methods=["GET", "HEAD"])
async def to_first_page() -> RedirectResponse:
    # Relative, so that it holds behind a proxy that adds a path.
    return RedirectResponse("asyncapi/", status_code=308)


@router.api_route("/{path:path}", methods=["GET", "HEAD"])
async def page(path: str, request: Request) -> Response:
    """A file of the site, which a browser may keep but has to ask for again."""
    file = await _site.file(path or "index.html")
    if file is None:
        raise HTTPException(404, f"/asyncapi/{path}: the site has no such page")
    headers = {"ETag": file.etag, "Cache-Control": "no-cache", "Content-Security-Policy": _POLICY}
    if file.etag in request.headers.get("If-None-Match", ""):
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)
