"""Ends the children of a parent that was killed: a process that reads a pipe, which closes with the parent.

PR_SET_PDEATHSIG would be shorter, but it follows the *thread* that started a child, and exists on Linux only.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

GRACE_SECONDS = 10.0


class Guard:
    """The parent's side; the guarding process lives while there is a child to guard."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: set[int] = set()
        self._process: subprocess.Popen[str] | None = None

    def watch(self, group: int) -> None:
        """Have this process group ended when the parent is gone."""
        with self._lock:
            self._groups.add(group)
            if self._process is None or self._process.poll() is not None:
                # By path and without site: it imports nothing of ours and is up in some 20 ms.
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", __file__],
                    stdin=subprocess.PIPE,
                    text=True,
                    start_new_session=True,
                )
            self._tell()

    def release(self, group: int) -> None:
        """Forget a process group that has ended."""
        with self._lock:
            self._groups.discard(group)
            self._tell()
            if self._process is not None and not self._groups:
                with contextlib.suppress(BrokenPipeError):
                    self._process.communicate()
                self._process = None

    def _tell(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(" ".join(map(str, self._groups)) + "\n")
                self._process.stdin.flush()


guard = Guard()


def _signal_groups(groups: set[int], number: int) -> set[int]:
    """Those that are still there."""
    alive = set()
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, number)
            alive.add(group)
    return alive


def _outlive_parent() -> None:
    groups: set[int] = set()
    for line in sys.stdin:
        groups = {int(group) for group in line.split()}
    groups = _signal_groups(groups, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS
    while groups and time.monotonic() < deadline:
        time.sleep(0.1)
        groups = _signal_groups(groups, 0)
    _signal_groups(groups, signal.SIGKILL)


if __name__ == "__main__":
    _outlive_parent()
