"""A person who reads the site, and whatever goes wrong in their browser."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from playwright.async_api import BrowserContext, Page, Request, Route


@dataclass
class Reader:
    """A browser with one page, and all that went wrong in it."""

    context: BrowserContext
    page: Page
    url: str
    troubles: list[str] = field(default_factory=list)

    async def open(self, path: str = "") -> Page:
        answer = await self.page.goto(self.url + path, wait_until="load")
        assert answer is None or answer.ok, f"{path}: {answer.status}"
        return self.page

    async def open_refused(self, path: str) -> Page:
        """Open what the server refuses, which the browser notes as an error: no other trouble is forgiven."""
        answer = await self.page.goto(self.url + path, wait_until="load")
        assert answer is not None
        assert answer.status >= 400, f"{path}: {answer.status}"
        self.troubles = [trouble for trouble in self.troubles if f"status of {answer.status}" not in trouble]
        return self.page

    async def allow_only_the_site(self, route: Route) -> None:
        if route.request.url.startswith(self.url):
            await route.continue_()
        else:
            self.troubles.append(f"asks for {route.request.url}")
            await route.abort()

    def note_failure(self, request: Request) -> None:
        """Keep what failed, but for what the browser itself gave up to open another page."""
        if request.failure != "net::ERR_ABORTED":
            self.troubles.append(f"failed: {request.url}: {request.failure}")


Readers = Callable[..., Any]
"""Makes readers, with options of their browser."""
