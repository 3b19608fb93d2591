"""`orderflow dead-letters`: what could not be handled, and what to do about it, over HTTP."""

import json
import sys
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from apps.cli.api_client import ApiClient, path_of
from apps.cli.dead_letter_repairs import PATH, discard, replay
from apps.cli.output import AsJson, progress, result, show_json, show_table

app = typer.Typer(help="List, replay and discard what could not be handled.", no_args_is_help=True)
for command in (replay, discard):
    app.command()(command)

_EXPORT_PAGE = 200

State = Annotated[str, typer.Option(help="open, closed or all.")]
Queue = Annotated[str | None, typer.Option(help="Only those from this queue.")]
EventType = Annotated[str | None, typer.Option(help="Only those with this routing key.")]
ErrorType = Annotated[str | None, typer.Option(help="Only those with this class of error.")]
Group = Annotated[str | None, typer.Option(help="Only those of the group with this fingerprint.")]
Order = Annotated[str | None, typer.Option(help="Only those about this order.")]
Source = Annotated[str | None, typer.Option(help="Only those from dead, or only those from unrouted.")]


@app.command(name="list")
def list_dead_letters(
    state: State = "open",
    queue: Queue = None,
    event_type: EventType = None,
    error_type: ErrorType = None,
    group: Group = None,
    order: Order = None,
    source: Source = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="Most dead letters to list.")] = 20,
    cursor: Annotated[str | None, typer.Option(help="Go on behind the page that gave this.")] = None,
    as_json: AsJson = False,
) -> None:
    """List dead letters, newest first.

    Example: orderflow dead-letters list --queue billing.order-validated
    """
    chosen = _filter(state, queue, event_type, error_type, group, order, source)
    page = ApiClient().get(PATH, **chosen, limit=limit, cursor=cursor)
    if as_json:
        show_json(page)
        return
    names = ("dead_letter_id", "state", "opened_at", "queue", "event_type", "error_type", "reason")
    show_table(
        [name.replace("_", " ") for name in names],
        [[letter[name] for name in names] for letter in page["dead_letters"]],
    )
    if page["next_cursor"]:
        progress.print(f"more: --cursor {page['next_cursor']}", soft_wrap=True)


@app.command()
def groups(
    state: State = "open",
    queue: Queue = None,
    event_type: EventType = None,
    error_type: ErrorType = None,
    order: Order = None,
    source: Source = None,
    as_json: AsJson = False,
) -> None:
    """Show dead letters whose failures look alike together, the largest group first.

    Example: orderflow dead-letters groups
    """
    chosen = _filter(state, queue, event_type, error_type, None, order, source)
    found = ApiClient().get(path_of(PATH, "groups"), **chosen)
    if as_json:
        show_json(found)
        return
    names = ("fingerprint", "count", "first_seen_at", "last_seen_at", "queue", "error_type", "reason")
    show_table(
        [name.replace("_", " ") for name in names],
        [[group[name] for name in names] for group in found["groups"]],
    )


@app.command()
def show(
    dead_letter_id: Annotated[str, typer.Argument(metavar="ID", help="The dead letter's id.")],
    as_json: AsJson = False,
) -> None:
    """Show one dead letter: why it died, what was done about it, its headers and its body.

    Example: orderflow dead-letters show b8f1f9c2-52a4-5a63-9a0d-0c7f4a6f2e77
    """
    letter = ApiClient().get(path_of(PATH, dead_letter_id))
    if as_json:
        show_json(letter)
        return
    result.print(f"[bold]{letter['state']}[/bold]", end="  ")
    result.print(f"{letter['error_type']}: {letter['reason']}", markup=False)
    facts = {name: value for name, value in letter.items() if name not in _SHOWN_APART and value is not None}
    show_table(("", ""), [(name.replace("_", " "), value) for name, value in facts.items()])
    show_table(("header", "value"), letter["headers"].items())
    show_table(
        ("at", "action", "actor", "detail"),
        [(entry["at"], entry["action"], entry["actor"], entry["detail"]) for entry in letter["history"]],
    )
    if letter["traceback"]:
        result.print(letter["traceback"], markup=False, highlight=False)
    cut = ", cut" if letter["body_is_cut"] else ""
    result.print(f"[bold]body[/bold]  {letter['body_bytes']:,} bytes, {letter['body_encoding']}{cut}")
    result.print(letter["body"], markup=False, highlight=False, soft_wrap=True)


_SHOWN_APART = frozenset(
    {
        "state",
        "error_type",
        "reason",
        "headers",
        "history",
        "traceback",
        "body",
        "body_bytes",
        "body_encoding",
        "body_is_cut",
    }
)


@app.command()
def export(
    output: Annotated[Path | None, typer.Option(help="File to write; standard output if not given.")] = None,
    state: State = "all",
    queue: Queue = None,
    event_type: EventType = None,
    error_type: ErrorType = None,
    group: Group = None,
    order: Order = None,
    source: Source = None,
) -> None:
    """Write dead letters as JSON lines, newest first, each with its whole body in base64.

    Example: orderflow dead-letters export --output dead-letters.jsonl
    """
    api = ApiClient()
    chosen = _filter(state, queue, event_type, error_type, group, order, source)
    count = 0
    with _opened(output) as lines:
        for summary in _all(api, chosen):
            letter = api.get(f"{PATH}/{summary['dead_letter_id']}")
            letter["body_base64"] = b64encode(_body(api, letter)).decode()
            for name in ("body", "body_encoding", "body_is_cut"):
                del letter[name]
            lines.write(json.dumps(letter) + "\n")
            count += 1
    if output:
        result.print(f"{count:,} dead letters in {output}")


def _all(api: ApiClient, chosen: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    cursor = None
    while True:
        page = api.get(PATH, **chosen, limit=_EXPORT_PAGE, cursor=cursor)
        yield from page["dead_letters"]
        cursor = page["next_cursor"]
        if cursor is None:
            return


def _body(api: ApiClient, letter: Mapping[str, Any]) -> bytes:
    if letter["body_is_cut"]:
        return api.download(path_of(PATH, letter["dead_letter_id"], "body"))
    shown: str = letter["body"]
    return b64decode(shown) if letter["body_encoding"] == "base64" else shown.encode()


@contextmanager
def _opened(output: Path | None) -> Iterator[IO[str]]:
    if output is None:
        yield sys.stdout
    else:
        with output.open("w", encoding="utf-8") as lines:
            yield lines


def _filter(
    state: str,
    queue: str | None,
    event_type: str | None,
    error_type: str | None,
    group: str | None,
    order: str | None,
    source: str | None,
) -> dict[str, str | None]:
    return {
        "state": state,
        "queue": queue,
        "event_type": event_type,
        "error_type": error_type,
        "fingerprint": group,
        "order_id": order,
        "source": source,
    }
