"""Keeps named processes running and merges their logs; honcho was no choice: with one process it ends all."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from apps.cli.local.errors import LocalServiceError, last_lines
from apps.cli.local.guard import guard

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0
SETTLED_SECONDS = 30.0
"""A process that ran for this long starts again after the first pause, not the grown one."""
RESTARTS_BEFORE_READY = 3
"""More than this while waiting for it, and a process will not become ready by waiting."""
LONGEST_LINE_BYTES = 1 << 20

Sink = Callable[[str, str], None]


@dataclass(frozen=True)
class Program:
    """What to run, under which name, and where it says that it is ready."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    ready_url: str | None = None


class Supervisor:
    """Every line of every process goes to `<directory>/<name>.log` and to the sink, as name and line."""

    def __init__(
        self, directory: Path, *, sink: Sink = lambda _name, _line: None, stop_timeout_seconds: float = 30
    ) -> None:
        self._directory = directory
        self._sink = sink
        self._stop_timeout_seconds = stop_timeout_seconds
        self._children: dict[str, _Child] = {}

    def add(
        self, name: str, argv: Sequence[str], env: Mapping[str, str], ready_url: str | None = None
    ) -> None:
        """Register a process under a name of its own, before `start`."""
        if name in self._children:
            raise ValueError(f"there is a process named {name} already")
        log = self._directory / f"{name}.log"
        self._children[name] = _Child(Program(name, argv, env, ready_url), log, self._sink)

    async def start(self) -> None:
        """Start every process once; from then on each is started again whenever it ends."""
        self._directory.mkdir(parents=True, exist_ok=True)
        for child in self._children.values():
            await child.start()

    async def wait_ready(self, timeout_seconds: float = 60) -> None:
        """Wait until every `ready_url` answers 200.

        Raises:
            LocalServiceError: naming the first process that is not ready in time, with the end of its log.
        """
        deadline = time.monotonic() + timeout_seconds
        # A proxy of the environment has no business between us and our own processes.
        async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
            for child in self._children.values():
                await child.wait_ready(client, deadline)

    def pid(self, name: str) -> int:
        """Process id of the present run."""
        return self._children[name].pid

    def restarts(self, name: str) -> int:
        """How often it ended without being asked and was started again."""
        return self._children[name].restarts

    def ready_url(self, name: str) -> str:
        """Where it says whether it is ready, and what is missing; empty if it does not."""
        return self._children[name].ready_url

    async def stop(self) -> None:
        """Ask all at once to end; what has not ended within the budget is killed."""
        await asyncio.gather(*(child.stop(self._stop_timeout_seconds) for child in self._children.values()))


class _Child:
    def __init__(self, program: Program, log: Path, sink: Sink) -> None:
        self.restarts = 0
        self._program = program
        self._log = log
        self._sink = sink
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._run: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        if self._process is None or self._process.returncode is not None:
            raise LocalServiceError(f"{self._program.name} is not running")
        return self._process.pid

    @property
    def ready_url(self) -> str:
        return self._program.ready_url or ""

    async def start(self) -> None:
        process, output = await self._spawn()
        self._run = asyncio.create_task(self._keep_running(process, output), name=self._program.name)

    async def wait_ready(self, client: httpx.AsyncClient, deadline: float) -> None:
        if self._program.ready_url is None:
            return
        answer, restarts_before = "no answer", self.restarts
        while True:
            try:
                status = (await client.get(self._program.ready_url)).status_code
            except httpx.HTTPError:
                answer = "no answer"
            else:
                if status == httpx.codes.OK:
                    return
                answer = f"it answers {status}"
            if (restarts := self.restarts - restarts_before) > RESTARTS_BEFORE_READY:
                answer = f"it ended {restarts} times"
            elif time.monotonic() < deadline:
                await asyncio.sleep(0.1)
                continue
            raise LocalServiceError(f"{self._program.name} is not ready ({answer}); {last_lines(self._log)}")

    async def stop(self, timeout_seconds: float) -> None:
        self._stopping.set()
        if self._run is None:
            return
        self._signal(signal.SIGTERM)
        try:
            _, unfinished = await asyncio.wait({self._run}, timeout=timeout_seconds)
            if unfinished:
                self._say(f"did not end within {timeout_seconds:g} s: killed")
        finally:
            self._signal(signal.SIGKILL)
        await asyncio.wait({self._run})

    async def _keep_running(self, process: asyncio.subprocess.Process, output: asyncio.StreamReader) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            began = time.monotonic()
            copying = asyncio.create_task(self._copy(output))
            code = await process.wait()
            # What it left behind holds the ports and the pipe that its next run needs.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            guard.release(process.pid)
            await asyncio.wait({copying}, timeout=1)  # one that left the group may hold the pipe for ever
            copying.cancel()
            if self._stopping.is_set():
                return
            if time.monotonic() - began > SETTLED_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            self._say(f"ended by itself ({_reason(code)}): starting it again in {pause:.1f} s")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
                    return
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            process, output = await self._spawn()
            self.restarts += 1
            if self._stopping.is_set():
                self._signal(signal.SIGTERM)  # the one that `stop` sent was too early for this run

    async def _spawn(self) -> tuple[asyncio.subprocess.Process, asyncio.StreamReader]:
        # A pipe of our own: with asyncio's, Python 3.11 sees the end of a process only once every
        # grandchild has closed it too.
        read_end, write_end = os.pipe()
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb")
        )
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._program.argv,
                env=self._program.env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                start_new_session=True,
            )
        except OSError as error:
            raise LocalServiceError(f"{self._program.name} cannot be started: {error}") from error
        finally:
            os.close(write_end)
        guard.watch(self._process.pid)
        return self._process, reader

    def _signal(self, number: int) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                if number == signal.SIGKILL:
                    os.killpg(self._process.pid, number)
                else:
                    self._process.send_signal(number)

    async def _copy(self, output: asyncio.StreamReader) -> None:
        async for line in _lines(output):
            self._say(line)

    def _say(self, line: str) -> None:
        with self._log.open("a") as log:
            log.write(line + "\n")
        self._sink(self._program.name, line)


async def _lines(output: asyncio.StreamReader) -> AsyncIterator[str]:
    """Lines without a limit that would break the reading; absurdly long ones are cut into several."""
    pending = b""
    while chunk := await output.read(1 << 16):
        *whole, pending = (pending + chunk).split(b"\n")
        if len(pending) > LONGEST_LINE_BYTES:
            whole.append(pending)
            pending = b""
        for line in whole:
            yield line.decode(errors="replace").rstrip("\r")
    if pending:
        yield pending.decode(errors="replace")


def _reason(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
