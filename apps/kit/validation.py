"""What is wrong with a document and where, in words, and never with the customer's data."""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

MOST_PROBLEMS = 100
"""One document may hold a hundred thousand mistakes; nobody reads them, and no header has room for them."""


def field_problems(errors: Sequence[Any]) -> list[tuple[str, str]]:
    """Path and problem of the fields that pydantic found wrong: `("lines.0.quantity", "...")`.

    The path is empty where the document as a whole is wrong, or where more are wrong than are listed.

    Args:
        errors: as listed by a `ValidationError`.
    """
    # A list also counts as too short when its only item is wrong.
    parents = {error["loc"][:depth] for error in errors for depth in range(len(error["loc"]))}
    real = [error for error in errors if error["type"] != "too_short" or error["loc"] not in parents]
    problems = [
        (".".join(str(part) for part in error["loc"]), error["msg"].removeprefix("Value error, "))
        for error in real[:MOST_PROBLEMS]
    ]
    if left_out := len(real) - len(problems):
        problems.append(("", f"and {left_out:,} more"))
    return problems


def explain(error: ValidationError) -> str:
    """One sentence per problem, `field: problem`, or the problem alone where it is the whole document's."""
    problems = field_problems(error.errors(include_url=False, include_context=False, include_input=False))
    return "; ".join(f"{path}: {message}" if path else message for path, message in problems)
