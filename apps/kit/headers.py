"""Headers of a message that goes on its way once more: the publisher's own, in a form that can be sent."""

import re
import struct
from collections.abc import Mapping
from typing import Any

from pamqp import encode

_RABBITMQ_OWN = re.compile(r"x-(death$|first-death-|last-death-|delivery-count$|acquired-count$|opt-)")
"""What RabbitMQ itself writes on a message; from a client it would mean nothing."""
_ROUTES = frozenset({"CC", "BCC"})
"""Further routing keys, by which RabbitMQ would lead a copy to more than the one queue that it is for."""
_TEXT_CHARACTERS = 4000


def is_passed_on(name: str) -> bool:
    """Whether a header belongs to the message, and not to one of its ways."""
    return name not in _ROUTES and not _RABBITMQ_OWN.match(name)


def passed_on(headers: Mapping[str, Any]) -> dict[str, Any]:
    """The headers that stay with a message."""
    return {name: sendable(value) for name, value in headers.items() if is_passed_on(name)}


def sendable(value: Any) -> Any:
    """The value itself if it can be sent, else the nearest that can: not all that is received is."""
    if isinstance(value, bytes):
        value = bytearray(value)  # of the two, the one that the library can send
    try:
        encode.field_table({"": value})
    except RecursionError:
        return "nested too deeply to be kept"
    except (TypeError, ValueError, OverflowError, struct.error):
        return str(value)[:_TEXT_CHARACTERS]
    return value
