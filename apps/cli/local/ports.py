"""Loopback ports: which are free, and which one a service had the last time."""

import socket
from pathlib import Path

from apps.cli.local.errors import LocalServiceError

LOOPBACK = "127.0.0.1"


def free_port(preferred: int | None = None) -> int:
    """The preferred port if nothing listens there, else any free one."""
    if preferred is not None and is_free(preferred):
        return preferred
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    return port


def require_free(port: int) -> int:
    """The port itself.

    Raises:
        LocalServiceError: if it is in use.
    """
    if not is_free(port):
        raise LocalServiceError(f"port {port} is in use: choose another one")
    return port


def remembered_port(file: Path) -> int:
    """The port that the file names if it is free, else another one, which the file names from now on."""
    try:
        preferred = int(file.read_text())
    except (FileNotFoundError, ValueError):
        preferred = None
    port = free_port(preferred)
    file.write_text(f"{port}\n")
    return port


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        # As servers do: connections that linger after a stop do not keep a port from its next owner.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except (OSError, OverflowError):
            return False
        return True


def is_listening(port: int) -> bool:
    """Whether a server accepts connections there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0
