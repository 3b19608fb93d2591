"""The checks of the files for operations share their tools: each is there, or named with how to get it."""

import fcntl
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Need = Callable[[str, str], str]
"""Path of a program by its name and the command that installs it."""


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the working copy."""
    return Path(__file__).parents[2]


@pytest.fixture(scope="session")
def need() -> Need:
    """Finds a program, or fails the test with how to get it: a check that did not run is none."""

    def find(program: str, installed_by: str) -> str:
        path = shutil.which(program)
        if path is None:
            pytest.fail(f"{program} is missing: {installed_by}", pytrace=False)
        return path

    return find


@pytest.fixture(scope="session")
def npm_packages(need: Need, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with what `package.json` beside this file names, installed once for all sessions."""
    home = Path(__file__).parent
    with (tmp_path_factory.getbasetemp().parent / "npm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        install = [need("npm", "apt-get install npm"), "install", "--silent", "--prefix", str(home)]
        done = subprocess.run(install, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, f"npm install in tests/infra failed: {done.stderr or done.stdout}"
    return home
