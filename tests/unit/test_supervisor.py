"""The runner of local processes: logs, restarts, readiness, and nothing left behind."""

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from apps.cli.local import supervisor as supervisors
from apps.cli.local.daemon import Daemon, began
from apps.cli.local.errors import LocalServiceError
from apps.cli.local.ports import free_port
from apps.cli.local.supervisor import Supervisor

SLEEPS = "import time; print('up', flush=True); time.sleep(600)"
READY_AT_THE_FOURTH_ASKING = (
    "import http.server as h, sys\n"
    "class H(h.BaseHTTPRequestHandler):\n"
    "    asked = 0\n"
    "    def do_GET(self):\n"
    "        H.asked += 1\n"
    "        self.send_response(200 if H.asked > 3 else 503); self.end_headers()\n"
    "h.HTTPServer(('127.0.0.1', int(sys.argv[1])), H).serve_forever()\n"
)


class Lines:
    """A sink that a test can wait on."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self._arrived = asyncio.Event()

    def __call__(self, name: str, line: str) -> None:
        self.seen.append((name, line))
        self._arrived.set()

    async def until(self, found: Callable[[str], bool], count: int = 1) -> list[str]:
        async with asyncio.timeout(20):
            while len(lines := [line for _, line in self.seen if found(line)]) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return lines


@asynccontextmanager
async def running(
    directory: Path, lines: Lines, programs: dict[str, str], stop_timeout_seconds: float = 10
) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(directory, sink=lines, stop_timeout_seconds=stop_timeout_seconds)
    for name, program in programs.items():
        supervisor.add(name, [sys.executable, "-c", program], dict(os.environ))
    await supervisor.start()
    try:
        yield supervisor
    finally:
        await supervisor.stop()


def wait_until_ended(pid: int) -> bool:
    """Whether the process, ours or not, ends within some seconds."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], 20)[0])
    finally:
        os.close(descriptor)


async def test_lines_reach_the_sink_and_the_log_file_under_their_name(tmp_path: Path) -> None:
    """Each line of standard output and standard error is kept, with the name of its process."""
    lines = Lines()
    program = "import sys; print('out', flush=True); print('err', file=sys.stderr); " + SLEEPS
    async with running(tmp_path, lines, {"one": program, "two": program}):
        await lines.until(lambda line: line == "up", count=2)
    expected = ["out", "err", "up"]
    for name in ("one", "two"):
        assert [line for source, line in lines.seen if source == name] == expected
        assert (tmp_path / f"{name}.log").read_text().splitlines() == expected


async def test_a_line_of_any_length_does_not_end_the_reading(tmp_path: Path) -> None:
    """A traceback or payload of megabytes is logged whole, and so is what follows it."""
    lines = Lines()
    program = "print('x' * 3_000_000); print('y' * 70_000); " + SLEEPS
    async with running(tmp_path, lines, {"chatty": program}):
        await lines.until(lambda line: line == "up")
    assert sum(line.count("x") for _, line in lines.seen) == 3_000_000
    assert ("chatty", "y" * 70_000) in lines.seen


async def test_a_killed_process_is_started_again(tmp_path: Path) -> None:
    """`kill -9` of one process brings it back under a new pid, is logged, and leaves the others alone."""
    lines = Lines()
    async with running(tmp_path, lines, {"victim": SLEEPS, "other": SLEEPS}) as supervisor:
        await lines.until(lambda line: line == "up", count=2)
        victim, other = supervisor.pid("victim"), supervisor.pid("other")
        os.kill(victim, signal.SIGKILL)
        await lines.until(lambda line: line == "up", count=3)
        assert supervisor.pid("victim") != victim
        assert supervisor.pid("other") == other
        assert (supervisor.restarts("victim"), supervisor.restarts("other")) == (1, 0)
    assert ("victim", "ended by itself (signal SIGKILL): starting it again in 0.2 s") in lines.seen


async def test_the_pause_before_a_restart_grows(tmp_path: Path) -> None:
    """A process that ends again and again is started ever more slowly, so that it does not burn the CPU."""
    lines = Lines()
    async with running(tmp_path, lines, {"broken": "raise SystemExit(3)"}):
        said = await lines.until(lambda line: "starting it again" in line, count=3)
    assert said == [
        f"ended by itself (exit code 3): starting it again in {pause} s" for pause in (0.2, 0.4, 0.8)
    ]


async def test_stop_during_the_pause_does_not_start_it_again(tmp_path: Path) -> None:
    """A stop while a process waits for its restart is immediate and final."""
    lines = Lines()
    async with running(tmp_path, lines, {"broken": "raise SystemExit(3)"}) as supervisor:
        await lines.until(lambda line: "starting it again" in line, count=2)
    assert supervisor.restarts("broken") == 1
    with pytest.raises(LocalServiceError, match="broken is not running"):
        supervisor.pid("broken")


async def test_stop_lets_a_process_finish(tmp_path: Path) -> None:
    """SIGTERM comes first, and what a process does about it is still logged."""
    lines = Lines()
    program = "import signal, sys; signal.signal(15, lambda *_: (print('drained'), sys.exit())); " + SLEEPS
    async with running(tmp_path, lines, {"worker": program}) as supervisor:
        await lines.until(lambda line: line == "up")
    assert ("worker", "drained") in lines.seen
    assert supervisor.restarts("worker") == 0


async def test_stop_kills_what_does_not_end_with_all_that_it_started(tmp_path: Path) -> None:
    """A process that ignores SIGTERM, and its own child, are gone when the budget is spent."""
    lines = Lines()
    program = (
        "import signal, subprocess, sys; signal.signal(15, signal.SIG_IGN); "
        f"print(subprocess.Popen([sys.executable, '-c', {SLEEPS!r}]).pid, flush=True); " + SLEEPS
    )
    async with running(tmp_path, lines, {"stubborn": program}, stop_timeout_seconds=0.3) as supervisor:
        await lines.until(lambda line: line == "up", count=2)
        parent = supervisor.pid("stubborn")
    child = next(int(line) for _, line in lines.seen if line.isdigit())
    assert wait_until_ended(parent)
    assert wait_until_ended(child)
    assert ("stubborn", "did not end within 0.3 s: killed") in lines.seen


async def test_readiness_is_a_200(tmp_path: Path) -> None:
    """`wait_ready` returns once the URL answers 200, however often it said 503 before."""
    port = free_port()
    supervisor = Supervisor(tmp_path)
    url = f"http://127.0.0.1:{port}/health/ready"
    program = [sys.executable, "-c", READY_AT_THE_FOURTH_ASKING, str(port)]
    supervisor.add("web", program, dict(os.environ), ready_url=url)
    await supervisor.start()
    try:
        await supervisor.wait_ready(timeout_seconds=20)
    finally:
        await supervisor.stop()
    log = (tmp_path / "web.log").read_text()
    assert (log.count(" 503 "), log.count(" 200 ")) == (3, 1)


async def test_a_process_killed_often_is_given_time_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What counts is how often it ends while it is waited for, not how often it did before."""
    monkeypatch.setattr(supervisors, "LONGEST_PAUSE_SECONDS", supervisors.FIRST_PAUSE_SECONDS)
    port = free_port()
    lines = Lines()
    supervisor = Supervisor(tmp_path, sink=lines)
    url = f"http://127.0.0.1:{port}/health/ready"
    program = [sys.executable, "-c", READY_AT_THE_FOURTH_ASKING, str(port)]
    supervisor.add("web", program, dict(os.environ), ready_url=url)
    await supervisor.start()
    try:
        for kills in range(1, supervisors.RESTARTS_BEFORE_READY + 2):
            await supervisor.wait_ready(timeout_seconds=20)
            os.kill(supervisor.pid("web"), signal.SIGKILL)
            await lines.until(lambda line: "starting it again" in line, kills)
        await supervisor.wait_ready(timeout_seconds=20)
    finally:
        await supervisor.stop()


async def test_what_is_not_ready_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    """A process that cannot start is reported at once with its own words, not after the whole timeout."""
    supervisor = Supervisor(tmp_path)
    url = f"http://127.0.0.1:{free_port()}/health/ready"
    supervisor.add("stock", [sys.executable, "-c", "raise SystemExit('no such sku')"], {}, ready_url=url)
    await supervisor.start()
    try:
        with pytest.raises(LocalServiceError, match=r"(?s)stock is not ready.*no such sku"):
            await supervisor.wait_ready(timeout_seconds=60)
    finally:
        await supervisor.stop()


async def test_a_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    """A wrong command is an error of the start, not an endless loop of restarts."""
    supervisor = Supervisor(tmp_path)
    supervisor.add("ghost", ["/nowhere/ghost"], {})
    with pytest.raises(LocalServiceError, match="ghost cannot be started"):
        await supervisor.start()
    await supervisor.stop()


def test_children_do_not_outlive_a_killed_supervisor(tmp_path: Path) -> None:
    """`kill -9` of the supervisor itself leaves nothing running."""
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from apps.cli.local.supervisor import Supervisor\n"
        "async def main():\n"
        "    supervisor = Supervisor(Path(sys.argv[1]))\n"
        f"    supervisor.add('child', [sys.executable, '-c', {SLEEPS!r}], {{}})\n"
        "    await supervisor.start()\n"
        "    print(supervisor.pid('child'), flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(  # noqa: S603 - the program above
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    assert wait_until_ended(child)


def test_a_start_ends_what_the_last_one_left(tmp_path: Path) -> None:
    """A service that an unclean end left running does not hold the data against its successor."""
    argv = [sys.executable, "-c", SLEEPS]
    left = Daemon("service", tmp_path)
    left.start(argv, os.environ)
    leftover = left.pid
    successor = Daemon("service", tmp_path)
    successor.start(argv, os.environ)
    try:
        assert began(leftover) == ""
        assert successor.pid != leftover
    finally:
        successor.stop()
        left.stop()


def test_a_start_spares_a_stranger_with_the_same_pid(tmp_path: Path) -> None:
    """A pid that the system has given to another process since is not ended."""
    argv = [sys.executable, "-c", SLEEPS]
    with subprocess.Popen(argv, start_new_session=True) as stranger:  # noqa: S603 - the program above
        (tmp_path / "service.pid").write_text(f"{stranger.pid} another-boot/1\n")
        service = Daemon("service", tmp_path)
        service.start(argv, os.environ)
        service.stop()
        assert stranger.poll() is None
        stranger.kill()
