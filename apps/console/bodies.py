"""What a message holds, as people read it, and not one character of its values other than it was sent."""

import re

import orjson

_PIECE = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')
_OPENING = frozenset("{[")
_CLOSING = frozenset("}]")
_MOST_INDENTED = 64 * 1024
_DEEPEST_INDENTED = 32
"""Of what is larger or deeper, the indents would be many times the text."""
_DUMPED_BYTES = 1024
_ROW_BYTES = 16
_PRINTABLE = range(0x20, 0x7F)


def indented(text: str) -> str | None:
    """JSON over several lines; None if it is none, or too large or too deep for that.

    A parser would round numbers, and of two fields with one name it would show one.
    """
    if len(text) > _MOST_INDENTED:
        return None
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    parts: list[str] = []
    depth = 0
    before = ""
    for piece in _PIECE.findall(text):
        if piece in _CLOSING:
            depth -= 1
        if (before in _OPENING or before == ",") if piece not in _CLOSING else before not in _OPENING:
            parts.append("\n" + "  " * depth)
        if piece in _OPENING:
            depth += 1
            if depth > _DEEPEST_INDENTED:
                return None
        parts.append(": " if piece == ":" else piece)
        before = piece
    return "".join(parts)


def hex_dump(body: bytes) -> str:
    """The beginning of what is no text: offsets, bytes, and what of them could be read."""
    rows = []
    for start in range(0, min(len(body), _DUMPED_BYTES), _ROW_BYTES):
        row = body[start : start + _ROW_BYTES]
        text = "".join(chr(byte) if byte in _PRINTABLE else "." for byte in row)
        rows.append(f"{start:04x}  {row.hex(' '):<{_ROW_BYTES * 3}} {text}")
    return "\n".join(rows)
