"""A JSON Schema as the rows of a table: one per field, those of nested objects below their parent."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from apps.site.documents import Document, follow

Schema = Mapping[str, Any]

_RANGES = (
    ("minimum", "maximum", ""),
    ("minLength", "maxLength", " characters"),
    ("minItems", "maxItems", " items"),
)
_AS_CODE = {"pattern": "matches", "default": "default", "const": "always"}


@dataclass(frozen=True)
class Fact:
    """One thing that a schema demands, with the part of it that is code."""

    text: str
    code: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """One field of a message."""

    path: str
    """From the top of the message, as a reader names it: `lines[].sku`."""
    name: str
    depth: int
    type: str
    required: bool
    description: str
    facts: tuple[Fact, ...]
    examples: tuple[str, ...]


def rows(document: Document, schema: Schema, parent: str = "", depth: int = 0) -> Iterator[Row]:
    """Every field of an object, depth first, in the order of its declaration."""
    schema = follow(document, schema)
    required = schema.get("required", ())
    for name, declared in schema.get("properties", {}).items():
        path = f"{parent}{name}"
        field, nullable = _without_null(document, declared)
        inner, suffix = _innermost(document, field)
        yield Row(
            path,
            name,
            depth,
            _type(document, field) + (" or null" if nullable else ""),
            name in required,
            declared.get("description") or field.get("description", ""),
            tuple(_facts(declared, field)),
            tuple(_code(example) for example in declared.get("examples") or field.get("examples", ())),
        )
        yield from rows(document, inner, f"{path}{suffix}.", depth + 1)


def _without_null(document: Document, schema: Schema) -> tuple[Schema, bool]:
    """What a field is when it is not null, and whether it may be."""
    alternatives = [follow(document, option) for option in schema.get("anyOf", ())]
    others = [option for option in alternatives if option.get("type") != "null"]
    if len(others) == 1:
        return others[0], len(others) < len(alternatives)
    return follow(document, schema), len(others) < len(alternatives)


def _innermost(document: Document, schema: Schema) -> tuple[Schema, str]:
    """What an array holds, through all its levels, and how a path says so."""
    suffix = ""
    while "items" in schema:
        schema, suffix = follow(document, schema["items"]), f"{suffix}[]"
    return schema, suffix


def _type(document: Document, schema: Schema) -> str:
    if "items" in schema:
        return f"array of {_type(document, follow(document, schema['items']))}"
    if alternatives := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(_type(document, follow(document, option)) for option in alternatives)
    kind = schema.get("type", "any")
    name = schema.get("format") or (schema.get("title") if kind == "object" else None)
    return f"{kind} ({name})" if name else " or ".join(kind) if isinstance(kind, list) else str(kind)


def _facts(*schemas: Schema) -> Iterator[Fact]:
    """What the field demands; `schemas` are its own and that without null."""
    seen: dict[str, Any] = {}
    for schema in reversed(schemas):
        seen |= schema
    if "enum" in seen:
        yield Fact("one of", tuple(_code(value) for value in seen["enum"]))
    for least, most, unit in _RANGES:
        if least in seen and most in seen:
            yield Fact(f"{seen[least]:,} to {seen[most]:,}{unit}")
        elif least in seen:
            yield Fact(f"at least {seen[least]:,}{unit}")
        elif most in seen:
            yield Fact(f"at most {seen[most]:,}{unit}")
    for key, word in _AS_CODE.items():
        if seen.get(key) is not None:
            yield Fact(word, (_code(seen[key]),))


def _code(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
