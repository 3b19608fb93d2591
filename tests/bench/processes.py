"""The processes of a round: started and stopped, their CPU time and their memory."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Self

import psutil

ROOT = Path(__file__).parents[2]
_STOP_SECONDS = 15.0
_SAMPLE_SECONDS = 2.0
_MIB = 1 << 20


class Processes:
    """Named processes with all their children."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._roots = {name: psutil.Process(pid) for name, pid in pids.items()}
        self.peak_mib: dict[str, float] = dict.fromkeys(self._roots, 0.0)

    def cpu_seconds(self) -> dict[str, float]:
        """User and system time so far, by name."""
        return {name: sum(map(_cpu, _tree(root))) for name, root in self._roots.items()}

    def mib(self) -> dict[str, float]:
        """Memory now; what forked processes share counts once."""
        return {name: sum(map(_memory, _tree(root))) / _MIB for name, root in self._roots.items()}

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[Self]:
        """Note the highest memory while the context is open."""

        async def watch() -> None:
            while True:
                for name, now in self.mib().items():
                    self.peak_mib[name] = max(self.peak_mib[name], now)
                await asyncio.sleep(_SAMPLE_SECONDS)

        task = asyncio.create_task(watch())
        try:
            yield self
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@contextmanager
def started(
    commands: Mapping[str, Sequence[str]], environment: Mapping[str, str], logs: Path
) -> Iterator[dict[str, int]]:
    """Run the commands while the context is open; gives their process ids by name."""
    logs.mkdir(parents=True, exist_ok=True)
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, command in commands.items():
            with (logs / f"{name}.log").open("wb") as log:
                running[name] = subprocess.Popen(  # noqa: S603
                    command, env={**os.environ, **environment}, cwd=ROOT, stdout=log, stderr=log
                )
        yield {name: process.pid for name, process in running.items()}
        for name, process in running.items():
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended with {process.returncode}: see {logs / name}.log")
    finally:
        for process in running.values():
            process.send_signal(signal.SIGTERM)
        for process in running.values():
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                for child in _tree(psutil.Process(process.pid)):
                    child.kill()
                process.wait()


def pin(cores: Sequence[int]) -> None:
    """Keep this process, and all that it starts from now on, on these cores."""
    psutil.Process().cpu_affinity(list(cores))


def python(*arguments: str) -> list[str]:
    """A command line of the interpreter that runs this."""
    return [sys.executable, *arguments]


def _tree(root: psutil.Process) -> list[psutil.Process]:
    """The process and its children; of this one, which all others are children of, itself only."""
    if root.pid == os.getpid():
        return [root]
    with suppress(psutil.NoSuchProcess):
        return [root, *root.children(recursive=True)]
    return []


def _cpu(process: psutil.Process) -> float:
    with suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return times.user + times.system
    return 0.0


def _memory(process: psutil.Process) -> float:
    with suppress(psutil.NoSuchProcess):
        return float(process.memory_full_info().pss)
    return 0.0
