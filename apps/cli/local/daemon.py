"""One background process of an embedded service; what an unclean end left running is ended before a start."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from apps.cli.local.errors import LocalServiceError, last_lines
from apps.cli.local.guard import guard

POLL_SECONDS = 0.05


class Daemon:
    """A process in a session of its own: Ctrl-C reaches only the one who knows in which order to stop."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        self._directory = directory
        self._pid_file = directory / f"{name}.pid"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the running process."""
        process = self._process
        if process is None or process.poll() is not None:
            raise LocalServiceError(f"{self.name} is not running")
        return process.pid

    def start(self, argv: Sequence[str], env: Mapping[str, str]) -> None:
        """Start the process; its output goes to the log, the previous log is kept beside it."""
        self._end_leftover()
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                argv,
                env=env,
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        guard.watch(self._process.pid)
        self._pid_file.write_text(f"{self._process.pid} {began(self._process.pid)}\n")

    def check_running(self, deadline: float) -> None:
        """Pause while waiting for it to be ready.

        Raises:
            LocalServiceError: if it has ended, or the deadline (of the monotonic clock) has passed.
        """
        process = self._process  # a stop from another thread ends the wait for a start
        if process is None or process.poll() is not None:
            raise LocalServiceError(f"{self.name} ended while starting; {last_lines(self.log)}")
        if time.monotonic() > deadline:
            raise LocalServiceError(f"{self.name} did not become ready in time; {last_lines(self.log)}")
        time.sleep(POLL_SECONDS)

    def stop(self, timeout_seconds: float = 30) -> None:
        """End it and all that it started; once it has ended this does nothing."""
        process = self._process
        if process is None:
            return
        deadline = time.monotonic() + timeout_seconds
        try:
            while process.poll() is None and time.monotonic() < deadline:
                process.terminate()  # and again: Erlang loses the signal while it is starting
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(1)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            guard.release(process.pid)
            self._pid_file.unlink(missing_ok=True)
            self._process = None

    def _end_leftover(self) -> None:
        try:
            pid_text, _, recorded = self._pid_file.read_text().strip().partition(" ")
            pid = int(pid_text)
        except (FileNotFoundError, ValueError):
            return
        for number, patience_seconds in ((signal.SIGTERM, 15), (signal.SIGKILL, 5)):
            deadline = time.monotonic() + patience_seconds
            # Its beginning tells it from a stranger that was given the same pid later.
            while recorded and began(pid) == recorded and time.monotonic() < deadline:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, number)
                time.sleep(POLL_SECONDS)
        self._pid_file.unlink(missing_ok=True)


def began(pid: int) -> str:
    """When the process began, in the system's own terms; empty if it has ended."""
    if not Path("/proc/self/stat").exists():
        return subprocess.run(
            ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
        ).stdout.strip()
    try:
        # The second field is the command in brackets and may contain anything, so count behind it.
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return "" if state == "Z" else f"{boot}/{fields[18]}"
