"""What messages hold, as the console shows it: readable, and nothing about it made up."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.console.bodies import hex_dump, indented

LEAVES = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text()
JSON = st.recursive(
    LEAVES.filter(lambda leaf: leaf not in (float("inf"), float("-inf"))),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON)
def test_json_is_laid_out_as_python_does_it(value: Any) -> None:
    """Whatever is in it, one field stands in one line, two spaces deeper than what holds it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    assert indented(text) == json.dumps(value, ensure_ascii=False, indent=2)


def test_values_stay_as_they_were_sent() -> None:
    """Numbers keep their digits, escapes stay escapes, and of two fields with one name both are seen."""
    assert indented(
        '{"a": 12.500, "a": 1e2, "b": "\\u0041\\n{\\"x\\": 1}", "c": 123456789012345678901234567890}'
    ) == (
        "{\n"
        '  "a": 12.500,\n'
        '  "a": 1e2,\n'
        '  "b": "\\u0041\\n{\\"x\\": 1}",\n'
        '  "c": 123456789012345678901234567890\n'
        "}"
    )


@pytest.mark.parametrize(
    "text",
    ["", "hello", "{", '{"a": }', "NaN", "[" * 200_000, "[" * 33 + "]" * 33, "[" + "0," * 40_000 + "0]"],
    ids=["empty", "words", "cut off", "no value", "no number", "hostile", "deep", "large"],
)
def test_what_is_no_json_or_too_much_of_it_is_left_alone(text: str) -> None:
    """It is shown as it is instead."""
    assert indented(text) is None


def test_bytes_are_shown_with_what_can_be_read_of_them() -> None:
    """Sixteen bytes in a row, and no more rows than a person looks at."""
    assert hex_dump(b"PK\x03\x04<script>\x00\xff\x80~!") == (
        "0000  50 4b 03 04 3c 73 63 72 69 70 74 3e 00 ff 80 7e  PK..<script>...~\n"
        "0010  21                                               !"
    )
    assert len(hex_dump(bytes(100_000)).splitlines()) == 64
