"""The whole system in containers, brought up and used as a newcomer does it; `just containers` runs it.

Podman takes Docker's place, and stand-ins that of the images which come from a registry.
"""

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from apps.cli.local.ports import free_port
from apps.cli.secret_files import APPS, user_of

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[2]
IMAGE = "docker.io/library/orderflow"
UP_SECONDS = 420

pytestmark = pytest.mark.timeout(3600)  # the first one makes a Debian root and builds five images
SERVICES = {*APPS, "rabbitmq", "mongodb", "mailpit"}


def run(*command: str | Path, **environment: str) -> str:
    """What a command prints; the test fails with what it says if it fails."""
    done = subprocess.run(  # noqa: S603
        command, capture_output=True, text=True, check=False, env=os.environ | environment, cwd=REPOSITORY
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr or done.stdout}"
    return done.stdout


def podman(*arguments: str) -> str:
    return run(HERE / "podman", *arguments)


def eventually(check: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """The first truthy value of `check`; fails the test when the deadline passes."""
    deadline = time.monotonic() + seconds
    while not (value := check()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.5)
    return value


class Installation:
    """One installation from compose.yml: its commands, its containers and its ports."""

    def __init__(self, socket: Path) -> None:
        self._compose = run(HERE / "docker-compose").strip()
        self._environment = {
            "COMPOSE_PROJECT_NAME": "orderflow-check",
            "DOCKER_HOST": f"unix://{socket}",
            "INGRESS_PORT": str(free_port(18000)),
            "MAILPIT_PORT": str(free_port(18025)),
        }
        self.mails = httpx.Client(base_url=f"http://127.0.0.1:{self._environment['MAILPIT_PORT']}")
        self.api = httpx.Client(base_url=f"http://127.0.0.1:{self._environment['INGRESS_PORT']}")

    def compose(self, *arguments: str) -> str:
        files = ("--file", "compose.yml", "--file", str(HERE / "compose.podman.yml"))
        return run(self._compose, *files, *arguments, **self._environment)

    def inside(self, service: str, *command: str) -> str:
        """What a command prints in a service's container, without a terminal."""
        return self.compose("exec", "-T", service, *command)

    def containers(self) -> dict[str, dict[str, Any]]:
        """What Compose tells of each service's container, those of finished jobs too."""
        lines = self.compose("ps", "--all", "--format", "json").splitlines()
        return {container["Service"]: container for container in map(json.loads, lines)}

    def up(self) -> None:
        self.compose("up", "--detach", "--no-build")
        eventually(
            lambda: all(self.containers()[name]["Health"] == "healthy" for name in SERVICES),
            "every service is healthy",
            UP_SECONDS,
        )


@pytest.fixture(scope="session", autouse=True)
def images() -> None:
    run(HERE / "stand-ins")


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of Podman's Docker API, and the health checks, which Podman leaves to systemd."""
    socket = tmp_path_factory.mktemp("podman") / "podman.sock"
    stopped = threading.Event()

    def check_health() -> None:
        while not stopped.wait(1):
            for container in podman("ps", "--quiet").split():
                subprocess.run(  # noqa: S603
                    [HERE / "podman", "healthcheck", "run", container], capture_output=True, check=False
                )

    command = [str(HERE / "podman"), "system", "service", "--time=0", f"unix://{socket}"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as service:  # noqa: S603
        eventually(socket.exists, "podman's API")
        checks = threading.Thread(target=check_health)
        checks.start()
        yield socket
        stopped.set()
        checks.join()
        service.terminate()


@pytest.fixture(scope="session")
def system(engine: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Up and healthy; what it logged stays in pytest's directory of temporary files."""
    installation = Installation(engine)
    installation.compose("down", "--volumes", "--timeout", "1")  # of a run that was cut off
    try:
        installation.up()
        yield installation
    finally:
        log = tmp_path_factory.mktemp("compose") / "log"
        log.write_text(installation.compose("logs", "--no-color"))
        installation.compose("down", "--volumes", "--timeout", "60")


@pytest.fixture(scope="session")
def order(system: Installation) -> dict[str, Any]:
    """An order that went through the system, placed by the commands in docs/CONTAINERS.md."""
    scopes = ("--scope", "orders:write", "--scope", "orders:read")
    key = system.inside("ingress", "orderflow", "keys", "create", "--name", "shop", *scopes).strip()
    system.api.headers["Authorization"] = f"Bearer {key}"
    system.inside("ingress", "orderflow", "stock", "set", "85123A", "250")
    answer = system.api.post(
        "/v1/orders",
        json={
            "customer": {"id": "17850", "email": "ana.souza@example.com"},
            "currency": "GBP",
            "lines": [{"sku": "85123A", "quantity": 6, "unit_price": "2.55"}],
        },
        headers={"Idempotency-Key": "checkout-7f3a"},
    )
    assert answer.status_code == 202, answer.text
    return dict(
        eventually(lambda: settled(system.api.get(answer.headers["Location"]).json()), "the order's end")
    )


def settled(order: dict[str, Any]) -> dict[str, Any] | None:
    return None if order["awaits"] else order


def test_the_image_is_what_it_says() -> None:
    """What a scheduler and an auditor read from the image, without starting it."""
    (image,) = json.loads(podman("image", "inspect", IMAGE))
    labels = {
        name.removeprefix("org.opencontainers.image."): value for name, value in image["Labels"].items()
    }
    assert image["Config"]["User"] == "10001:10001"
    assert image["Config"]["StopSignal"] == "SIGTERM"
    assert image["HealthcheckConfig" if "HealthcheckConfig" in image else "Healthcheck"]
    assert labels["title"] == "Orderflow"
    assert {"source", "version", "revision", "created", "licenses"} <= labels.keys()


def in_the_image(*command: str) -> str:
    hardened = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "all", "--network", "none")  # noqa: S108
    return podman("run", "--rm", *hardened, IMAGE, *command)


def test_the_image_holds_no_tools_to_build_with() -> None:
    """Who breaks into an app finds neither a compiler nor an installer."""
    found = in_the_image(
        "sh", "-c", "command -v pip uv gcc cc make git curl wget; python3 -m pip --version; :"
    )
    assert found == ""


def test_the_image_is_compiled_and_complete() -> None:
    """An app starts without compiling, which it could not keep; the documents it serves are in the wheel."""
    script = (
        "from apps.stock import app; from pathlib import Path; print(Path(app.__cached__).exists());"
        "from apps.site.pages import build; print(len(build()) > 20)"
    )
    assert in_the_image("python", "-c", script).split() == ["True", "True"]


def test_jobs_have_ended_well(system: Installation) -> None:
    """Secrets, users and topology are there before the first app starts."""
    containers = system.containers()
    assert {containers[job]["ExitCode"] for job in ("secrets", "topology")} == {0}


def test_an_order_goes_through(system: Installation, order: dict[str, Any]) -> None:
    """From HTTP to the mailbox and the invoice as PDF, each app with its own users."""
    assert order["status"] == "notified"
    (mail,) = system.mails.get("/api/v1/messages").json()["messages"]
    assert mail["To"][0]["Address"] == "ana.souza@example.com"
    invoice = f"/v1/orders/{order['order_id']}/invoice.pdf"
    pdf = eventually(lambda: (answer := system.api.get(invoice)).status_code == 200 and answer.content, "PDF")
    assert pdf.startswith(b"%PDF")


@pytest.mark.parametrize("app", APPS)
def test_an_app_has_no_rights_to_spare(system: Installation, app: str) -> None:
    """No root, no capability, no file that it can change, and no secrets but its own."""
    status = dict(
        line.split(":\t", 1)
        for line in system.inside(app, "cat", "/proc/1/status").splitlines()
        if ":\t" in line
    )
    assert status["Uid"].split() == ["10001"] * 4
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    mounts = {
        place: options.split(",")
        for _, place, _, options, *_ in map(str.split, system.inside(app, "cat", "/proc/mounts").splitlines())
    }
    assert "ro" in mounts["/"]
    assert "ro" in mounts["/run/secrets"]
    assert not [place for place in mounts if place.startswith("/secrets")]
    assert user_of(app) in system.inside(app, "cat", "/run/secrets/orderflow_rabbitmq_url")


def test_what_needs_nothing_outside_cannot_reach_it(system: Installation) -> None:
    """The network of brokers, databases and most apps has no way out."""
    for service in ("stock", "billing", "recovery", "documents", "orders"):
        routes = [
            line.split()[1] for line in system.inside(service, "cat", "/proc/net/route").splitlines()[1:]
        ]
        assert "00000000" not in routes, service


def test_no_app_may_configure_the_broker(system: Installation) -> None:
    """Only the job declares queues; the users are those of the apps and no others."""
    listed = system.inside("rabbitmq", "rabbitmqctl", "-q", "list_permissions", "-p", "orderflow")
    rights = {user: configure for user, configure, *_ in (row.split("\t") for row in listed.splitlines()[1:])}
    assert {name: rights.get(user_of(name)) for name in APPS} == dict.fromkeys(APPS, "^$")
    assert rights.keys() == {user_of(name) for name in (*APPS, "topology")}


def test_a_stop_is_clean_and_a_second_start_finds_everything(
    system: Installation, order: dict[str, Any]
) -> None:
    """Every app ends with 0 within its time; secrets, orders and keys are as they were."""
    before = system.inside("stock", "sha256sum", "/run/secrets/orderflow_rabbitmq_url")
    system.compose("stop")
    containers = system.containers()
    assert {name: containers[name]["ExitCode"] for name in APPS} == dict.fromkeys(APPS, 0)
    system.up()
    assert system.inside("stock", "sha256sum", "/run/secrets/orderflow_rabbitmq_url") == before
    assert system.api.get(f"/v1/orders/{order['order_id']}").json()["status"] == "notified"
