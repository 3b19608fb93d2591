"""A process that is told to stop ends, whatever hangs in it."""

import subprocess
import sys

HANGS_AT_ITS_END = """
import threading, time
from apps.kit.signals import end_within

def hang_for_a_minute():
    time.sleep(60)

end_within(0.2)
threading.Thread(target=hang_for_a_minute).start()
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)  # noqa: S603


def test_stop_that_hangs_is_ended_and_says_where() -> None:
    """A thread that nobody ends would keep the interpreter, and with it a rollout, waiting for ever."""
    ended = run(HANGS_AT_ITS_END)
    assert ended.returncode == 1
    assert "hang_for_a_minute" in ended.stderr


def test_stop_that_ends_in_time_is_left_alone() -> None:
    """The guard of the stop neither delays the end nor changes the exit code."""
    ended = run("from apps.kit.signals import end_within; end_within(100)")
    assert (ended.returncode, ended.stderr) == (0, "")
