"""What follows from a form comes a moment after it: a page waits for that, to show it without scripts too."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

_LOOKS = 40
_LOOK_AGAIN_SECONDS = 0.05

Found = TypeVar("Found")


async def soon(look: Callable[[], Awaitable[Found | None]]) -> Found | None:
    """What `look` finds within two seconds; None if it finds nothing."""
    for _ in range(_LOOKS):
        if (found := await look()) is not None:
            return found
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)
    return None
