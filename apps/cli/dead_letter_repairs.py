"""`orderflow dead-letters replay` and `discard`: one, several, a group or all, no faster than wanted."""

import getpass
import socket
import sys
import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.progress import MofNCompleteColumn, Progress

from apps.cli.api_client import ApiClient, path_of
from apps.cli.errors import UsageError
from apps.cli.output import progress, result

PATH = "/v1/dead-letters"
_MOST_PER_REQUEST = 100

LetterIds = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="These dead letters.")]


def replay(
    ids: LetterIds = None,
    group: Annotated[str | None, typer.Option(help="All open ones of this fingerprint.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All open ones.")] = False,
    rate: Annotated[float, typer.Option(min=0.1, help="Most per second.")] = 50,
    force: Annotated[
        bool, typer.Option("--force", help="Also if closed, or to queues that nobody consumes now.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before replaying all.")] = False,
) -> None:
    """Send dead letters to the queues they came from, as they were first published.

    Example: orderflow dead-letters replay --group 5f0c9f2d6f3a --rate 10
    """
    _one_of(ids, group, everything)
    api = ApiClient()
    if ids:
        for letter_id in ids:
            path = path_of(PATH, letter_id, "replay")
            api.post(f"{path}?force={str(force).lower()}", None, _actor())
            result.print(f"{letter_id} replayed")
        return
    if everything and not yes:
        _confirm("Replay all open dead letters?")
    chosen = {"fingerprint": group} if group else {"all": True}
    _many(api, "replay", {**chosen, "force": force}, rate)


def discard(
    reason: Annotated[str, typer.Option(help="Why; it is kept with them.")],
    ids: LetterIds = None,
    group: Annotated[str | None, typer.Option(help="All open ones of this fingerprint.")] = None,
) -> None:
    """Give dead letters up; they stay in the archive for a while.

    Example: orderflow dead-letters discard --group 5f0c9f2d6f3a --reason "test data"
    """
    _one_of(ids, group, False)
    api = ApiClient()
    if ids:
        for letter_id in ids:
            api.post(path_of(PATH, letter_id, "discard"), {"reason": reason}, _actor())
            result.print(f"{letter_id} discarded")
        return
    _many(api, "discard", {"fingerprint": group, "reason": reason})


def _many(api: ApiClient, action: str, body: Mapping[str, Any], rate: float | None = None) -> None:
    """Repair page by page, newest first, no faster than so many per second; tells what was left as it is."""
    limit = _MOST_PER_REQUEST if rate is None else max(1, min(_MOST_PER_REQUEST, int(rate)))
    columns = (*Progress.get_default_columns()[:-1], MofNCompleteColumn())
    done, skipped, cursor = 0, [], None
    with Progress(*columns, console=progress, disable=not progress.is_terminal) as bar:
        task = bar.add_task(action.capitalize(), total=None)
        while True:
            started = time.monotonic()
            answer = api.post(path_of(PATH, action), {**body, "limit": limit, "cursor": cursor}, _actor())
            done += answer[f"{action}ed"]
            skipped += answer["skipped"]
            handled = done + len(skipped)
            bar.update(task, completed=handled, total=handled + answer["remaining"])
            cursor = answer["next_cursor"]
            if cursor is None:
                break
            if rate is not None:
                time.sleep(max(0.0, started + limit / rate - time.monotonic()))
    for one in skipped:
        progress.print(f"{one['dead_letter_id']} left as it is: {one['why']}", markup=False, soft_wrap=True)
    result.print(f"{done:,} {action}ed, {len(skipped):,} left as they are")
    if skipped:
        raise typer.Exit(1)


def _one_of(ids: list[str] | None, group: str | None, everything: bool) -> None:
    if [bool(ids), bool(group), everything].count(True) != 1:
        raise UsageError("name either ids, or a --group, or, where there is such an option, --all")


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise UsageError("--all: nobody is there to be asked; give --yes")
    typer.confirm(question, abort=True, err=True)


def _actor() -> dict[str, str]:
    """Who does it, for the history."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # no such user, as in many containers
        user = "unknown"
    actor = f"{user}@{socket.gethostname()}"
    return {"Orderflow-Actor": actor.encode("ascii", "replace").decode()}
