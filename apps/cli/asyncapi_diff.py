"""`orderflow asyncapi diff` and `schemas`: no change breaks who publishes or consumes without being told."""

import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from apps.cli.errors import UsageError

PUBLISHED = Path("contracts/schemas")


def diff(
    old: Annotated[Path, typer.Argument(help="A document, a published schema, or a directory of them.")],
    new: Annotated[Path | None, typer.Argument(help="The same, as it is now.")] = None,
    against: Annotated[str | None, typer.Option(help="Compare with this git revision of the path.")] = None,
) -> None:
    """Tell every difference, and whether it breaks publishers or consumers; exit code 1 if one does.

    Example: orderflow asyncapi diff asyncapi --against v0.1.0
    """
    from apps.compatibility.interface import Interface, NotAnInterface, differences  # noqa: PLC0415  # slow

    if (new is None) == (against is None):
        raise UsageError("asyncapi diff: give two paths, or one path and --against REVISION")
    try:
        if new is not None:
            found = differences(Interface.read(old), Interface.read(new))
        else:
            with _at_revision(old, str(against)) as former:
                found = differences(Interface.read(former), Interface.read(old))
    except NotAnInterface as error:
        raise UsageError(str(error)) from None
    for difference in sorted(found, key=lambda difference: not difference.breaks):
        typer.echo(difference)
    broken = sum(bool(difference.breaks) for difference in found)
    typer.echo(f"{len(found)} differences, {broken} of them breaking.")
    raise typer.Exit(1 if broken else 0)


def schemas(
    output: Annotated[Path, typer.Option(help="Directory of the published schemas.")] = PUBLISHED,
) -> None:
    """Write the JSON Schema of every event; refuses if one breaks what is published, and then writes nothing.

    Example: orderflow asyncapi schemas
    """
    from apps.compatibility.interface import Interface, NotAnInterface, differences  # noqa: PLC0415  # slow
    from apps.compatibility.published import file_of, schema_of, text_of  # noqa: PLC0415  # as above
    from contracts import EVENTS  # noqa: PLC0415  # as above

    output.mkdir(parents=True, exist_ok=True)
    now = Interface({event.topic: schema_of(event) for event in EVENTS})
    try:
        published = Interface.read(output) if any(output.iterdir()) else Interface()
    except NotAnInterface as error:
        raise UsageError(str(error)) from None
    if broken := [difference for difference in differences(published, now) if difference.breaks]:
        for difference in broken:
            typer.echo(difference)
        typer.echo(
            "Nothing was written: a new version of the event goes beside the old one, see docs/EVENTS.md."
        )
        raise typer.Exit(1)
    for event in EVENTS:
        file_of(event, output).write_text(text_of(event))
    typer.echo(f"{len(EVENTS)} schemas are in {output}.")


@contextmanager
def _at_revision(path: Path, revision: str) -> Iterator[Path]:
    """The path as git has it at a revision, in a directory that is gone afterwards."""
    from apps.compatibility.interface import NotAnInterface  # noqa: PLC0415  # slow

    here = path.resolve()
    archive = subprocess.run(
        ["git", "-C", here.parent, "archive", "--format=tar", revision, "--", here.name],
        capture_output=True,
        check=False,
    )
    if archive.returncode:
        reason = archive.stderr.decode(errors="replace").strip().splitlines()
        raise UsageError(f"git: {reason[-1] if reason else f'cannot read {path} at {revision}'}")
    with tempfile.TemporaryDirectory() as directory, tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(directory, filter="data")
        try:
            yield Path(directory, here.name)
        except NotAnInterface as error:
            raise UsageError(str(error).replace(f"{directory}/", f"{revision}:")) from None
