"""Two JSON Schemas of one event: every place where they differ, and whom that breaks.

Whether one schema admits all that another admits is decided by jsonschema-rs; the walk only finds the place.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema_rs
from jsonschema_rs.canonical import Containment

from apps.compatibility.difference import CONSUMERS, EVERYBODY, NOBODY, PUBLISHERS, Difference, Side

Schema = Mapping[str, Any]
Part = Schema | bool

_WORDS = ("title", "description", "examples")
_ASIDE = {"$schema", "$id", "$defs", "default", "deprecated", *_WORDS}
"""What says nothing about a value, or is told by itself."""
_OF_OBJECTS = {"properties", "required", "additionalProperties"}
_OF_ARRAYS = {"items"}
_NULL = {"type": "null"}
_MEANING = {
    NOBODY: "",
    PUBLISHERS: ", so what was valid before may be refused now",
    CONSUMERS: ", so consumers may receive what never was valid",
    EVERYBODY: ", so what was valid before may be refused now, and consumers may receive what never was",
}


def compare(subject: str, old: Schema, new: Schema) -> list[Difference]:
    """Every difference between two schemas of one event.

    A message is taken to hold declared fields only: a field may be added, although a schema that ignores
    unknown fields admits anything under its name.
    """
    old, new = jsonschema_rs.dereference(dict(old)), jsonschema_rs.dereference(dict(new))
    found = [Difference(subject, what, breaks, field) for field, what, breaks in _differences("", old, new)]
    # Should the walk overlook something, the whole still tells.
    overlooked = _broken_by(old, new).difference(*(difference.breaks for difference in found))
    if overlooked:
        found.append(Difference(subject, "changed in a way that is not known to be compatible", overlooked))
    return found


_Found = tuple[str, str, frozenset[Side]]


def _differences(field: str, old: Part, new: Part) -> Iterator[_Found]:
    if old == new:
        return
    before, was_nullable = _without_null(old)
    after, is_nullable = _without_null(new)
    if was_nullable != is_nullable:
        yield (
            (field, "may now be null", CONSUMERS)
            if is_nullable
            else (field, "may no longer be null", PUBLISHERS)
        )
    yield from _annotations(field, before, after)
    walked: set[str] = set()
    if "properties" in before and "properties" in after:
        walked = _OF_OBJECTS
        yield from _properties(field, before, after)
        others = (schema.get("additionalProperties", True) for schema in (before, after))
        yield from _differences(_join(field, "*"), *others)
    elif "items" in before and "items" in after:
        walked = _OF_ARRAYS
        yield from _differences(f"{field}[]", before["items"], after["items"])
    yield from _rules(
        field,
        *(
            {rule: value for rule, value in schema.items() if rule not in _ASIDE | walked}
            for schema in (before, after)
        ),
    )


def _annotations(field: str, old: Schema, new: Schema) -> Iterator[_Found]:
    if reworded := [word for word in _WORDS if old.get(word) != new.get(word)]:
        yield field, f"has another {' and '.join(reworded)}", NOBODY
    if old.get("deprecated", False) != new.get("deprecated", False):
        yield field, "is now deprecated" if new.get("deprecated") else "is no longer deprecated", NOBODY


def _properties(field: str, old: Schema, new: Schema) -> Iterator[_Found]:
    before, after = old["properties"], new["properties"]
    were_required, are_required = set(old.get("required", ())), set(new.get("required", ()))
    for name in [*before, *(name for name in after if name not in before)]:
        inner = _join(field, name)
        if name not in after:
            yield inner, "is gone, so consumers that read it miss it", CONSUMERS
        elif name not in before:
            if name in are_required:
                yield inner, "is new and required, so messages without it are refused", PUBLISHERS
            else:
                yield inner, "is new and optional", NOBODY
        else:
            if name in are_required - were_required:
                yield inner, "is now required, so messages without it are refused", PUBLISHERS
            elif name in were_required - are_required:
                yield inner, "is no longer required, so consumers may miss it", CONSUMERS
            elif before[name].get("default") != after[name].get("default"):
                was, now = before[name].get("default"), after[name].get("default")
                yield inner, f"left out meant {was!r} and now means {now!r}", EVERYBODY
            yield from _differences(inner, before[name], after[name])


def _rules(field: str, old: Schema, new: Schema) -> Iterator[_Found]:
    """What a value itself must be, its parts aside."""
    changed = sorted(rule for rule in {*old, *new} if old.get(rule) != new.get(rule))
    if changed:
        breaks = _broken_by(old, new)
        what = " and ".join(_told(rule, old.get(rule), new.get(rule)) for rule in changed)
        yield field, what + _MEANING[breaks], breaks


def _join(field: str, name: str) -> str:
    return f"{field}.{name}" if field else name


def _told(rule: str, old: Any, new: Any) -> str:
    if rule == "enum" and old is not None and new is not None:
        gone, added = (
            [value for value in old if value not in new],
            [value for value in new if value not in old],
        )
        told = [f"no longer allows {value!r}" for value in gone] + [
            f"now allows {value!r}" for value in added
        ]
        return " and ".join(told) or "lists its values in another order"
    if isinstance(old or new, dict | list):
        return f"has another {rule}"
    if old is None:
        return f"now has {rule} {new!r}"
    if new is None:
        return f"no longer has {rule} {old!r}"
    return f"{rule} was {old!r} and is {new!r}"


def _broken_by(old: Schema, new: Schema) -> frozenset[Side]:
    """Publishers need the new schema to admit all that was valid, consumers the old one all that is."""
    return (NOBODY if _admits(new, old) else PUBLISHERS) | (NOBODY if _admits(old, new) else CONSUMERS)


def _admits(schema: Schema, messages: Schema) -> bool:
    """Whether it is proven that the schema admits all messages; what cannot be decided counts as no."""
    wide, narrow = (
        jsonschema_rs.canonicalize(each, draft=jsonschema_rs.Draft202012, validate_formats=True)
        for each in (dict(schema), _declared_only(messages))
    )
    return wide.covers(narrow) is Containment.YES


def _declared_only(schema: Any) -> Any:
    """The schema of messages that hold no field but the declared ones."""
    if not isinstance(schema, Mapping):
        return schema
    closed = dict(schema)
    if "properties" in schema:
        closed["properties"] = {name: _declared_only(part) for name, part in schema["properties"].items()}
        closed.setdefault("additionalProperties", False)
    if "items" in schema:
        closed["items"] = _declared_only(schema["items"])
    for union in {"anyOf", "oneOf"} & schema.keys():
        closed[union] = [_declared_only(part) for part in schema[union]]
    return closed


def _without_null(schema: Part) -> tuple[Schema, bool]:
    """What a value is when it is not null, and whether it may be null."""
    if isinstance(schema, bool):
        return ({} if schema else {"not": {}}), False
    parts = schema.get("anyOf", [])
    if _NULL not in parts:
        return schema, False
    others = [part for part in parts if part != _NULL]
    around = {name: value for name, value in schema.items() if name != "anyOf"}
    return ({**others[0], **around} if len(others) == 1 else {**around, "anyOf": others}), True
