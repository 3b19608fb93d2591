"""`orderflow asyncapi`: the documents by which other systems publish and subscribe."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import yaml

from apps.cli.output import result

if TYPE_CHECKING:  # takes seconds to import
    from faststream.specification.base import SpecificationFactory

app = typer.Typer(help="Generate the AsyncAPI documents.", no_args_is_help=True)

DIRECTORY = Path("asyncapi")


@app.callback()
def asyncapi() -> None:
    """Generate the AsyncAPI documents."""


def generate() -> dict[str, str]:
    """Every document as YAML by its file name, from nothing but the code.

    Raises:
        RuntimeWarning: two channels or schemas share a name, and one would be lost.
    """
    from apps.cli.system import documents  # noqa: PLC0415  # takes seconds to import

    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        return {f"{name}.yaml": _yaml(document) for name, document in documents().items()}


def _yaml(document: "SpecificationFactory") -> str:
    """The document with its names sorted: FastStream keeps publishers in sets, in any order."""
    content = document.to_specification().to_jsonable()
    components = content["components"]
    for holder in (content, components):
        for section in {"channels", "operations", "messages", "schemas"} & holder.keys():
            holder[section] = dict(sorted(holder[section].items()))
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


@app.command()
def build(
    output: Annotated[Path, typer.Option(help="Directory to write to.")] = DIRECTORY,
) -> None:
    """Write one document per app, and one for the whole system.

    Example: orderflow asyncapi build --output asyncapi
    """
    output.mkdir(parents=True, exist_ok=True)
    for name, text in generate().items():
        (output / name).write_text(text)
        result.print(f"{output / name}")
