"""Ports that no outgoing connection is given by chance, so that what is killed finds its own again."""

import random

from apps.cli.local.ports import claim

# Below every system's range of ephemeral ports. From that range, a client that knocks at a server which is
# down can even be given the server's own port, and hold it.
_PORTS = range(12_000, 30_000)


def lasting_port() -> int:
    """A free port that only those who name it will use."""
    return next(port for port in iter(lambda: random.choice(_PORTS), None) if claim(port))  # noqa: S311
