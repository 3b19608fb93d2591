"""The system in containers is valid Compose, and each container has no more rights than it needs."""

import copy
import itertools
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import SecretStr

from apps.cli.secret_files import APPS, JOB
from apps.kit.settings import Settings
from apps.kit.signals import _EXIT_SECONDS

Project = dict[str, Any]
Compose = Callable[..., subprocess.CompletedProcess[str]]

PROFILES = ("observability", "logs")
WRITES_BESIDE_ITS_PROGRAM = ("elasticsearch", "kibana")
ONCE = ("secrets", JOB)


@pytest.fixture(scope="session")
def compose(repository: Path) -> Compose:
    """Docker Compose on the project's file: the one that is installed, or Debian's."""
    found = subprocess.run(  # noqa: S603
        [repository / "tests/infra/containers/docker-compose"], capture_output=True, text=True, check=False
    )
    if found.returncode != 0:
        pytest.fail(f"install Docker Compose 2: {found.stderr}", pytrace=False)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [found.stdout.strip(), "--file", str(repository / "compose.yml"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603

    return run


@pytest.fixture(scope="session")
def everything(compose: Compose) -> Project:
    """The project with every profile, as Compose itself understands the file."""
    shown = compose(*with_profiles(PROFILES), "config", "--format", "json")
    assert shown.returncode == 0, shown.stderr
    project: Project = json.loads(shown.stdout)
    return project


def with_profiles(profiles: tuple[str, ...]) -> list[str]:
    return [word for profile in profiles for word in ("--profile", profile)]


def faults(project: Project) -> list[str]:
    """Where a container has more rights than it needs, or the system is not what the apps expect."""
    services = project["services"]
    found = [f"{name}: is no service" for name in APPS if name not in services]
    if not project["networks"]["default"].get("internal"):
        found.append("the default network reaches the outside")
    for name, service in services.items():
        rules = [rights, bounds, variables, *([of_an_app] if name in APPS else ())]
        found += [f"{name}: {fault}" for rule in rules for fault in rule(name, service)]
    return found


def rights(name: str, service: Project) -> Iterator[str]:
    if service.get("cap_drop") != ["ALL"] or service.get("privileged"):
        yield "has capabilities that it did not ask for"
    if service.get("security_opt") != ["no-new-privileges:true"]:
        yield "may gain privileges"
    if not service.get("read_only") and name not in WRITES_BESIDE_ITS_PROGRAM:
        yield "may change its own files"
    if any(port.get("host_ip") != "127.0.0.1" for port in service.get("ports", ())):
        yield "is open to other machines"
    if service["image"] == "orderflow" and service.get("pull_policy") not in {"build", "never"}:
        yield "may run what somebody else has published under the image's name"


def bounds(name: str, service: Project) -> Iterator[str]:
    if not {"cpus", "memory", "pids"} <= service["deploy"]["resources"]["limits"].keys():
        yield "may take all of the machine"
    if not {"max-size", "max-file"} <= service["logging"]["options"].keys():
        yield "may fill the disk with its log"
    if service["restart"] != ("no" if name in ONCE else "unless-stopped"):
        yield "does not come back, or again and again"
    if not re.search(r":v?\d", service["image"]) and service["image"] != "orderflow":
        yield "takes whatever version there is"


def variables(_name: str, service: Project) -> Iterator[str]:
    for variable in service.get("environment") or {}:
        setting = Settings.model_fields.get(variable.removeprefix("ORDERFLOW_").lower())
        if variable.startswith("ORDERFLOW_") and setting is None:
            yield f"{variable} is no setting"
        if setting is not None and SecretStr in {setting.annotation, *get_args(setting.annotation)}:
            yield f"{variable} shows a secret to whoever may look at the container"


def of_an_app(name: str, service: Project) -> Iterator[str]:
    drain_seconds = Settings.model_fields["drain_timeout_seconds"].default
    grace = re.fullmatch(r"(?:(\d+)m)?(\d+)s", service.get("stop_grace_period", "0s"))
    if grace is None or int(grace[1] or 0) * 60 + int(grace[2]) <= drain_seconds + _EXIT_SECONDS:
        yield "is killed before it has finished its work"
    secrets = [volume for volume in service["volumes"] if volume["source"].startswith("secrets-")]
    if [(volume["source"], volume["target"]) for volume in secrets] != [(f"secrets-{name}", "/run/secrets")]:
        yield "has not its own secrets, or more than these"
    elif not secrets[0].get("read_only"):
        yield "may change its secrets"
    if service["environment"].get("ORDERFLOW_DECLARE_TOPOLOGY") != "false":
        yield "declares what its broker user may not"
    waits_for = {needed: on["condition"] for needed, on in service["depends_on"].items()}
    if waits_for != {
        JOB: "service_completed_successfully",
        "rabbitmq": "service_healthy",
        "mongodb": "service_healthy",
    }:
        yield "starts before what it needs"
    if "--host 0.0.0.0 --port 8000" not in " ".join(service["command"]):
        yield "listens elsewhere than where it is asked for its health"


@pytest.mark.parametrize(
    "profiles",
    [chosen for length in range(3) for chosen in itertools.combinations(PROFILES, length)],
    ids=lambda chosen: "+".join(chosen) or "none",
)
def test_compose_takes_the_file_with_any_profiles(compose: Compose, profiles: tuple[str, ...]) -> None:
    """No profile names a service, a volume or a network that is not there without the other."""
    done = compose(*with_profiles(profiles), "config", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_file_is_valid_by_the_specification(repository: Path, need: Callable[[str, str], str]) -> None:
    """Compose itself overlooks some of what the specification does not know."""
    check = [need("check-jsonschema", "`uv sync` brings it"), "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run(  # noqa: S603
        [*check, repository / "compose.yml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_no_container_has_more_than_it_needs(everything: Project) -> None:
    """Rights, limits, ports, secrets, start order and the time to stop, of each service."""
    assert faults(everything) == []


def test_the_whole_system_is_up_without_a_profile(compose: Compose) -> None:
    """Profiles add what looks at the system; nothing that an order needs is left out without them."""
    services = compose("config", "--services").stdout.split()
    assert set(services) == {*APPS, *ONCE, "rabbitmq", "mongodb", "mailpit"}


def test_jobs_see_every_app_s_secrets(everything: Project) -> None:
    """A new app's volume is easily forgotten in one of the two jobs, and the app then never gets in."""
    for job, others in (("secrets", {JOB, "rabbitmq", "mongodb"}), (JOB, set())):
        mounts = {
            volume["target"]: volume["source"]
            for volume in everything["services"][job]["volumes"]
            if volume["target"].startswith("/secrets/")
        }
        assert mounts == {f"/secrets/{reader}": f"secrets-{reader}" for reader in {*APPS, *others}}, job


def spoil(path: str, value: Any) -> Callable[[Project], None]:
    *parents, last = path.split("/")

    def change(project: Project) -> None:
        for parent in parents:
            project = project[parent]
        project[last] = value

    return change


@pytest.mark.parametrize(
    ("mistake", "seen"),
    [
        (spoil("networks/default/internal", value=False), "the default network reaches the outside"),
        (spoil("services/stock/cap_drop", []), "stock: has capabilities that it did not ask for"),
        (
            spoil("services/mongodb/privileged", value=True),
            "mongodb: has capabilities that it did not ask for",
        ),
        (spoil("services/stock/security_opt", []), "stock: may gain privileges"),
        (spoil("services/grafana/read_only", value=False), "grafana: may change its own files"),
        (spoil("services/kibana/deploy/resources/limits", {}), "kibana: may take all of the machine"),
        (spoil("services/jaeger/logging/options", {}), "jaeger: may fill the disk with its log"),
        (spoil("services/topology/restart", "always"), "topology: does not come back, or again and again"),
        (
            spoil("services/mailpit/image", "axllent/mailpit:latest"),
            "mailpit: takes whatever version there is",
        ),
        (spoil("services/ingress/ports", [{"published": "8000"}]), "ingress: is open to other machines"),
        (
            spoil("services/stock/pull_policy", "missing"),
            "stock: may run what somebody else has published under the image's name",
        ),
        (spoil("services/stock/environment/ORDERFLOW_PORT", "1"), "stock: ORDERFLOW_PORT is no setting"),
        (
            spoil("services/notifications/environment/ORDERFLOW_SMTP_PASSWORD", "x"),
            "notifications: ORDERFLOW_SMTP_PASSWORD shows a secret to whoever may look at the container",
        ),
        (
            spoil("services/stock/stop_grace_period", "30s"),
            "stock: is killed before it has finished its work",
        ),
        (
            spoil("services/stock/volumes", [{"source": "secrets-billing", "target": "/run/secrets"}]),
            "stock: has not its own secrets, or more than these",
        ),
        (
            spoil("services/stock/volumes", [{"source": "secrets-stock", "target": "/run/secrets"}]),
            "stock: may change its secrets",
        ),
        (
            spoil("services/stock/environment/ORDERFLOW_DECLARE_TOPOLOGY", "true"),
            "stock: declares what its broker user may not",
        ),
        (
            spoil("services/stock/depends_on/mongodb/condition", "service_started"),
            "stock: starts before what it needs",
        ),
        (
            spoil("services/stock/command", ["faststream", "run", "apps.stock.app:app"]),
            "stock: listens elsewhere than where it is asked for its health",
        ),
    ],
)
def test_a_mistake_is_seen(everything: Project, mistake: Callable[[Project], None], seen: str) -> None:
    """Each rule refuses the file that breaks it, and nothing but that."""
    project = copy.deepcopy(everything)
    mistake(project)
    assert faults(project) == [seen]


def test_a_forgotten_app_is_seen(everything: Project) -> None:
    """A worker that the code has and Compose has not would leave its queue to fill."""
    project = copy.deepcopy(everything)
    del project["services"]["documents"]
    assert faults(project) == ["documents: is no service"]
