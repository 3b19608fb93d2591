"""Templates come from the shop's folder, else from ours; of a broken one file and line are named."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jinja2 import (
    ChoiceLoader,
    Environment,
    FileSystemLoader,
    PackageLoader,
    StrictUndefined,
    TemplateSyntaxError,
    select_autoescape,
)

from apps.kit.wording import one_line

_FORMATS = ["html", "txt", "sms", "subject"]


def open_templates(directory: Path | None) -> Environment:
    """The templates of the folder, if there is one, and ours for whatever it has not.

    Raises:
        ValueError: there is no such folder.
    """
    if directory is not None and not directory.is_dir():
        raise ValueError(f"ORDERFLOW_TEMPLATES_DIRECTORY: {directory} is no folder")
    own = [] if directory is None else [FileSystemLoader(directory)]
    return Environment(
        loader=ChoiceLoader([*own, PackageLoader("apps.notifications")]),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        finalize=_on_one_line,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def compile_all(templates: Environment) -> None:
    """Compile also those that no example needs."""
    for name in templates.list_templates(extensions=_FORMATS):
        templates.get_template(name)


@contextmanager
def explained() -> Iterator[None]:
    """Turn what goes wrong in a template into an error that names its file and line.

    Raises:
        ValueError: a template cannot be compiled or rendered.
    """
    try:
        yield
    except Exception as error:
        raise ValueError(f"ORDERFLOW_TEMPLATES_DIRECTORY: {_place_of(error)}{error}") from error


def _place_of(error: Exception) -> str:
    if isinstance(error, TemplateSyntaxError):
        return f"{error.filename}, line {error.lineno}: "
    frames = traceback.extract_tb(error.__traceback__)
    # Jinja gives the frames of a template its own file and line.
    lines = [frame for frame in frames if not frame.filename.endswith(".py")]
    return f"{lines[-1].filename}, line {lines[-1].lineno}: " if lines else ""


def _on_one_line(value: object) -> object:
    """No value brings a line of its own into a message."""
    return one_line(value) if isinstance(value, str) else value
