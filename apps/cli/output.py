"""What commands share on the screen: one console each for results and for progress, and JSON on request."""

import json
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

result = Console()
"""Standard output: what the command was asked for."""
progress = Console(stderr=True)
"""Standard error: what happens meanwhile."""


def show_json(value: Any) -> None:
    """Print a JSON document."""
    typer.echo(json.dumps(value, indent=2, default=str))


def show_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows under their headings; what is not known stays empty."""
    table = Table()
    for position, name in enumerate(columns):
        # The first column identifies the row and is there to be copied, so it is never cut.
        table.add_column(name, no_wrap=position == 0, overflow="fold")
    for row in rows:
        # Data may hold what rich takes for markup.
        table.add_row(*("" if value is None else escape(str(value)) for value in row))
    result.print(table)
