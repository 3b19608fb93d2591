"""What can be told of the image without building it; containers/up.py builds it and looks inside."""

import json
import re
import subprocess
import threading
import tomllib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


@pytest.fixture
def dockerfile(repository: Path) -> str:
    return (repository / "Dockerfile").read_text()


@pytest.fixture(params=[200, 503])
def app(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """The port of something that answers every request with the status, and that status."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(request.param if self.path == "/health/ready" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port, request.param
    server.shutdown()


def healthcheck(dockerfile: str, port: int) -> bool:
    """What the image's own check says of an app on another port than the image's."""
    (command,) = re.findall(r"^HEALTHCHECK .*\\\n +CMD (\[.*\])$", dockerfile, re.MULTILINE)
    assert "/127.0.0.1/8000 " in command
    words = json.loads(command.replace("/127.0.0.1/8000 ", f"/127.0.0.1/{port} "))
    return subprocess.run(words, timeout=10, check=False, stderr=subprocess.DEVNULL).returncode == 0  # noqa: S603


def test_hadolint_finds_nothing(repository: Path, need: Callable[[str, str], str]) -> None:
    """The recipe keeps the rules of its trade; what is excepted says so in place."""
    hadolint = need("hadolint", "`uv sync` brings it")
    done = subprocess.run(  # noqa: S603
        [hadolint, repository / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_both_stages_take_the_base_that_a_release_gives_by_digest(dockerfile: str) -> None:
    """No stage names an image by itself, which a release could then not pin."""
    assert set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)) == {"${PYTHON_IMAGE}"}


def test_the_build_sees_what_it_copies_and_nothing_else(repository: Path, dockerfile: str) -> None:
    """What lies about in a working copy, secrets of a running system among it, never gets into an image."""
    ignored, *rules = [
        line for line in (repository / ".dockerignore").read_text().splitlines() if not line.startswith("#")
    ]
    copied = {
        source
        for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE)
        for source in sources.split()
    }
    assert ignored == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied | {"asyncapi/*.yaml"}
    assert all((repository / source).exists() for source in copied)


def test_a_ready_app_is_healthy_and_one_that_is_not_is_not(dockerfile: str, app: tuple[int, int]) -> None:
    """Containers start after those that they need, which Docker learns from this command alone."""
    port, status = app
    assert healthcheck(dockerfile, port) is (status == 200)


def test_an_app_that_does_not_listen_is_not_healthy(dockerfile: str, unused_tcp_port: int) -> None:
    """Before its start and after its end there is nothing to connect to."""
    assert not healthcheck(dockerfile, unused_tcp_port)


def test_every_package_in_the_image_is_pinned(repository: Path) -> None:
    """There is no lock file to build from, so pyproject.toml itself names the exact version of each."""
    project = tomllib.loads((repository / "pyproject.toml").read_text())
    pinned = {Requirement(line).name for line in project["tool"]["uv"]["constraint-dependencies"]}
    assert {canonicalize_name(name) for name in pinned} >= installed_with("orderflow") - {"orderflow"}


def installed_with(name: str, extras: frozenset[str] = frozenset()) -> set[str]:
    """The distribution and all that it needs here, by the metadata of what is installed."""
    found: set[tuple[str, frozenset[str]]] = set()
    missing = [(canonicalize_name(name), extras)]
    while missing:
        if (wanted := missing.pop()) in found:
            continue
        found.add(wanted)
        name, extras = wanted
        for line in distribution(name).requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or any(
                requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras)
            ):
                missing.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    return {name for name, _ in found}
