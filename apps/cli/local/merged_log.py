"""One log of many processes: `name | line`, with a colour of its own for each name."""

from itertools import cycle

from rich.console import Console
from rich.text import Text

COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "bright_red", "bright_cyan")


class MergedLog:
    """A sink of the supervisor; names are padded so that the lines stand below each other."""

    def __init__(self, console: Console, *, width: int = 13) -> None:
        self._console = console
        self._width = width
        self._fresh_colours = cycle(COLOURS)
        self._colours: dict[str, str] = {}

    def __call__(self, name: str, line: str) -> None:
        """Print one line; colours that the process chose itself are kept."""
        colour = self._colours.setdefault(name, "") or next(self._fresh_colours)
        self._colours[name] = colour
        prefix = Text(f"{name:<{self._width}} | ", style=colour)
        self._console.print(prefix.append_text(Text.from_ansi(line)), soft_wrap=True)
