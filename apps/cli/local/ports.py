"""Loopback ports: which are free, and which one a service had the last time."""

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

from apps.cli.local.errors import LocalServiceError

LOOPBACK = "127.0.0.1"

# Below every system's range of ephemeral ports. From that range, a client that knocks at a server which is
# down can even be given the server's own port, and hold it.
_PORTS = range(12_000, 30_000)
_CLAIMS = Path(tempfile.gettempdir()) / f"orderflow-ports-{os.getuid()}"
_ours: dict[int, int] = {}
"""Lock files by port, open for as long as this process lives."""


def free_port(preferred: int | None = None) -> int:
    """The preferred port if it can be had, else any other; no other run on this machine gets the same.

    Nor is it given to an outgoing connection by chance, so that what is killed finds its own again.
    """
    if preferred is not None and claim(preferred):
        return preferred
    return next(port for port in iter(lambda: random.choice(_PORTS), None) if claim(port))  # noqa: S311


def claim(port: int) -> bool:
    """Take a port that is free; between this and a server's start nobody else takes it who asks here too."""
    if not is_free(port):
        return False
    if port in _ours:
        return True
    _CLAIMS.mkdir(mode=0o700, exist_ok=True)
    lock = os.open(_CLAIMS / str(port), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return False
    _ours[port] = lock
    return True


def require_free(port: int) -> int:
    """The port itself.

    Raises:
        LocalServiceError: if it is in use.
    """
    if not claim(port):
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
