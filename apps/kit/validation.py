"""What is wrong with a document and where, in words, and never with the customer's data."""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError


def field_problems(errors: Sequence[Any]) -> list[tuple[str, str]]:
    """Path and problem of every field that pydantic found wrong: `("lines.0.quantity", "...")`.

    The path is empty where the document as a whole is wrong.

    Args:
        errors: as listed by a `ValidationError`.
    """
    locations = [error["loc"] for error in errors]

    def is_echo(error: Any) -> bool:
        """A list also counts as too short when its only item is wrong."""
        inner = any(
            len(place) > len(error["loc"]) and place[: len(error["loc"])] == error["loc"]
            for place in locations
        )
        return error["type"] == "too_short" and inner

    return [
        (".".join(str(part) for part in error["loc"]), error["msg"].removeprefix("Value error, "))
        for error in errors
        if not is_echo(error)
    ]


def explain(error: ValidationError) -> str:
    """One sentence per problem, `field: problem`, or the problem alone where it is the whole document's."""
    problems = field_problems(error.errors(include_url=False, include_context=False, include_input=False))
    return "; ".join(f"{path}: {message}" if path else message for path, message in problems)
