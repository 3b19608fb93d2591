"""What goes wrong on the user's own machine, told in words that say what to do."""

from collections import deque
from pathlib import Path


class LocalServiceError(Exception):
    """A local service or app could not be found, started or stopped."""


def last_lines(log: Path, count: int = 15) -> str:
    """The end of a log, indented to stand below an error, with the log's path."""
    if not log.exists() or log.stat().st_size == 0:
        return f"nothing was written to {log}"
    with log.open(errors="replace") as lines:
        end = "".join(f"  {line.rstrip()}\n" for line in deque(lines, maxlen=count))
    return f"last lines of {log}:\n{end.rstrip()}"
