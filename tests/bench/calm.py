"""Rounds on cores that the machine really had: on a shared one, others may take them away for seconds."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import psutil

MOST_STOLEN = 0.05
"""Of the time of all cores: more of it spent on others, and the round says little about whoever ran in it."""
TRIES = 4


async def calm(
    measure: Callable[[], Awaitable[Sequence[Mapping[str, Any]]]],
    say: Callable[[str], None],
    tries: int = TRIES,
) -> list[dict[str, Any]]:
    """Measure, again if the hypervisor took too much of the time away; the last try counts whatever it took.

    Only what was taken decides, never what was measured. Each record says it, as `stolen`.
    """
    for attempt in range(1, tries + 1):
        began, before = time.monotonic(), _stolen_seconds()
        records = await measure()
        stolen = (_stolen_seconds() - before) / (time.monotonic() - began) / (psutil.cpu_count() or 1)
        if stolen <= MOST_STOLEN:
            break
        say(f"{stolen:.0%} of the time went to others" + (": once more" if attempt < tries else ""))
    return [{**record, "stolen": round(stolen, 3)} for record in records]


def _stolen_seconds() -> float:
    """Of all cores together, since the machine started; 0 where nobody tells."""
    return float(getattr(psutil.cpu_times(), "steal", 0.0))
