"""The committed AsyncAPI documents, found beside the packages in a clone and in an installed wheel alike."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

DIRECTORY = Path(__file__).parents[2] / "asyncapi"
SYSTEM = "system"
"""The document of all apps together."""

Document = Mapping[str, Any]


class DocumentsMissingError(Exception):
    """There is nothing to draw the site from."""

    def __init__(self, directory: Path) -> None:
        super().__init__(f"{directory / SYSTEM}.yaml: no such document; `orderflow asyncapi build` writes it")


def read(directory: Path = DIRECTORY) -> dict[str, str]:
    """The text of every document by its name.

    Raises:
        DocumentsMissingError: that of the system is not among them.
    """
    texts = {path.stem: path.read_text(encoding="utf-8") for path in sorted(directory.glob("[a-z]*.yaml"))}
    if SYSTEM not in texts:
        raise DocumentsMissingError(directory)
    return texts


def parse(text: str) -> Document:
    """The document that a text holds, by libyaml: ten times faster than PyYAML's own parser."""
    document: Document = yaml.load(text, Loader=yaml.CSafeLoader)
    return document


def follow(document: Document, node: Mapping[str, Any]) -> Mapping[str, Any]:
    """The node, or what it refers to, which may be a reference again."""
    while "$ref" in node:
        target: Any = document
        for step in node["$ref"].removeprefix("#/").split("/"):
            target = target[step.replace("~1", "/").replace("~0", "~")]
        node = target
    return node
