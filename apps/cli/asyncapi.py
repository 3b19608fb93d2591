"""`orderflow asyncapi`: the documents by which other systems publish and subscribe."""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from apps.cli.asyncapi_diff import diff, schemas
from apps.cli.asyncapi_site import site
from apps.cli.errors import UsageError
from apps.cli.output import result

app = typer.Typer(help="Generate and check the AsyncAPI documents.", no_args_is_help=True)

DIRECTORY = Path("asyncapi")
_PACKAGES = ("@asyncapi/parser", "@stoplight/spectral-cli")


@app.callback()
def asyncapi() -> None:
    """Generate and check the AsyncAPI documents."""


for command in (diff, schemas, site):
    app.command()(command)


def generate() -> dict[str, str]:
    """Every document as YAML by its file name, from nothing but the code."""
    from apps.cli.system import documents  # noqa: PLC0415  # takes seconds to import

    return {f"{name}.yaml": document.to_specification().to_yaml() for name, document in documents().items()}


@app.command()
def build(
    output: Annotated[Path, typer.Option(help="Directory to write to.")] = DIRECTORY,
) -> None:
    """Write one document per app, and one for the whole system.

    Example: orderflow asyncapi build --output asyncapi
    """
    output.mkdir(parents=True, exist_ok=True)
    for name, text in generate().items():
        (output / name).write_text(text, encoding="utf-8")
        result.print(f"{output / name}")


@app.command()
def check() -> None:
    """Check that the documents are those of the code, valid, and keep our rules; exit code 1 if not.

    Needs Node, and what `npm install --prefix asyncapi` installs.

    Example: orderflow asyncapi check
    """
    if outdated := list(_differences(generate(), DIRECTORY)):
        for difference in outdated:
            typer.echo(difference)
        typer.echo("Renew them: orderflow asyncapi build")
        raise typer.Exit(1)
    documents = sorted(DIRECTORY.glob("*.yaml"))
    if not _are_valid(documents):
        raise typer.Exit(1)
    typer.echo(f"{len(documents)} documents are current and valid.")


def _differences(generated: dict[str, str], directory: Path) -> Iterator[str]:
    """One line for each document that is not as the code has it."""
    for name, text in generated.items():
        path = directory / name
        if not path.exists():
            yield f"{path} is missing"
        elif path.read_text(encoding="utf-8") != text:
            yield f"{path} is not what the code says"
    for path in sorted(directory.glob("*.yaml")):
        if path.name not in generated:
            yield f"{path} belongs to no app: delete it"


def _are_valid(documents: Sequence[Path]) -> bool:
    """Whether AsyncAPI's parser and Spectral, with our rules, find nothing; they print what they find.

    Raises:
        UsageError: one of them cannot be run.
    """
    if shutil.which("node") is None:
        raise UsageError("asyncapi check: Node is not installed")
    packages = DIRECTORY / "node_modules"
    if not all((packages / name).exists() for name in _PACKAGES):
        raise UsageError("asyncapi check: the checkers are not installed: npm install --prefix asyncapi")
    rules = ("--ruleset", DIRECTORY / ".spectral.yml", "--fail-severity", "hint")
    checkers: tuple[tuple[str | Path, ...], ...] = (
        ("node", DIRECTORY / "check.mjs"),
        ("node", packages / ".bin/spectral", "lint", "--quiet", *rules),
    )
    return all(subprocess.run([*checker, *documents], check=False).returncode == 0 for checker in checkers)
