"""Which system runs in a home directory: one at a time, found from any other terminal by its `env` file."""

import fcntl
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dotenv import dotenv_values

from apps.cli.local.errors import LocalServiceError


@contextmanager
def exclusive(home: Path) -> Iterator[None]:
    """Hold the home directory; the system lets go of it even when the process is killed.

    Raises:
        LocalServiceError: if another process holds it.
    """
    with (home / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LocalServiceError(
                f"orderflow is running in {home} already: stop it first, or choose another --home"
            ) from None
        (home / "env").unlink(missing_ok=True)  # of one that was killed: its addresses are of no use
        yield


@contextmanager
def announced(home: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """Tell other commands where the system is, while it is up."""
    file = home / "env"
    file.touch(mode=0o600)  # the URLs carry a password
    # Quoted, so that a shell can read it too: a URL may hold an ampersand.
    file.write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in environment.items()))
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def running_in(home: Path) -> dict[str, str]:
    """The environment by which to reach the system that runs there; empty if none does."""
    try:
        with (home / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return {}
    except BlockingIOError:
        return {name: value for name, value in dotenv_values(home / "env").items() if value is not None}
    return {}  # nobody holds the lock: an env file that is still there tells of the past
