"""k8s/: what every overlay becomes is valid, and keeps the rules of kubernetes_rules.py."""

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import resources as package_files
from itertools import chain, product
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from apps.cli.secret_files import Addresses, write_missing
from apps.kit.settings import Settings
from tests.infra.conftest import Need
from tests.infra.kubernetes_rules import (
    ALWAYS,
    APPS,
    RELEASED,
    Resource,
    apps,
    containers_of,
    egress_of,
    find,
    find_settings,
    labels_of,
    name_of,
    of_kind,
    pod_of,
    problems,
)

K8S = Path(__file__).parents[2] / "k8s"
OLDEST, NEWEST = "1.32", "1.37"
"""Versions of Kubernetes whose schemas the manifests are held against; kubernetes-validate brings both."""
DEPLOYERS = K8S / "components" / "aws" / "deployers.yaml"
OVERLAYS = ("dev", "staging", "production", "self-hosted")
RELEASED_OVERLAYS = OVERLAYS[1:]
CHECKOV = "checkov==3.3.30"  # not among the dependencies: it wants older versions of ours

# What an overlay chooses among: where RabbitMQ and MongoDB are, where documents lie, the rest or nothing.
_SERVICES = ("external-services",), ("rabbitmq-operator", "mongodb-operator"), ()
_STORES = ("external-secrets", "aws"), ("documents-volume",)
_REST = ("keda", "hpa", "https", "network-policies", "monitoring", "opentelemetry", "logs", "backup"), ()
COMBINATIONS = [tuple(chain(*parts)) for parts in product(_SERVICES, _STORES, _REST)]
COMPONENTS = sorted(folder.name for folder in (K8S / "components").iterdir() if folder.is_dir())

# Where each app may go, beside DNS, RabbitMQ, MongoDB and the collector of traces, which all reach.
EGRESS: Mapping[str, set[str]] = {
    "ingress": {"internet:443"},
    "documents": {"internet:443"},
    "notifications": {"internet:443", "internet:465", "internet:587"},
    "webhooks": {"internet:443", "internet:8443"},
}
EVERYONE = {"dns:53", "rabbitmq:5672", "mongodb:27017", "otel-collector:4318"}
OUTSIDE = {
    "staging": ("10.20.240.0/22", "10.20.244.0/22", "10.20.248.0/22"),
    "production": ("10.30.240.0/22", "10.30.244.0/22", "10.30.248.0/22"),
}
"""Subnets of the cloud that hold RabbitMQ and the endpoints of MongoDB and AWS, and no pod or node."""
OUTSIDE_PORTS = ("5671", "27017", "1024-65535")
OUTSIDE_HTTPS = ("topology", "ingress", "documents")
"""For RabbitMQ's management interface, and for the roles that AWS gives out."""
FOLDER = "/run/secrets/"
APP_FILES = ("orderflow_rabbitmq_url", "orderflow_mongodb_url", "orderflow_secret_key")
SECRETS = {
    "rabbitmq_url": "amqps://orderflow-stock:secret@rabbitmq:5671/orderflow",
    "mongodb_url": "mongodb://orderflow-stock:secret@mongodb/?replicaSet=orderflow",
    "secret_key": "0123456789abcdef0123456789abcdef",
}

Build = Callable[[Path], list[Resource]]


@pytest.fixture(scope="session")
def build(need: Need) -> Build:
    """Builds a kustomization, each once."""
    kubectl = need("kubectl", "apt-get install kubectl (Debian 13 or later), or from kubernetes.io")

    @cache
    def built(folder: Path) -> str:
        done = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, check=False)  # noqa: S603
        assert done.returncode == 0, f"{folder}: {done.stderr}"
        assert not done.stderr, f"{folder}: {done.stderr}"
        return done.stdout

    return lambda folder: list(yaml.load_all(built(folder), yaml.CSafeLoader))


@pytest.fixture(scope="session")
def overlays(build: Build) -> dict[str, list[Resource]]:
    """All overlays, built."""
    with ThreadPoolExecutor(2) as pool:
        return dict(
            zip(OVERLAYS, pool.map(build, (K8S / "overlays" / name for name in OVERLAYS)), strict=True)
        )


@pytest.fixture(scope="session")
def combinations(
    build: Build, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, ...], list[Resource]]:
    """The base with each component alone, and with every combination of what an overlay chooses among."""
    home = tmp_path_factory.mktemp("combinations")

    def combined(components: tuple[str, ...]) -> list[Resource]:
        folder = home / "-".join(components)
        folder.mkdir()
        k8s = os.path.relpath(K8S, folder)
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [f"{k8s}/base"],
            "components": [f"{k8s}/components/{name}" for name in components],
        }
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        return build(folder)

    wanted = sorted({*((name,) for name in COMPONENTS), *COMBINATIONS})
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(wanted, pool.map(combined, wanted), strict=True))


@pytest.fixture
def production(overlays: dict[str, list[Resource]]) -> list[Resource]:
    """A copy of production, to be spoilt."""
    copy: list[Resource] = json.loads(json.dumps(overlays["production"]))
    return copy


@cache
def _schema(version: str, file: str) -> dict[str, Any]:
    folder = (
        package_files.files("kubernetes_validate") / "kubernetes-json-schema" / f"v{version}.0-local-strict"
    )
    loaded: dict[str, Any] = json.loads((folder / file).read_text())
    return loaded


@cache
def _validator(version: str, file: str) -> Any:
    return jsonschema_rs.validator_for(
        _schema(version, file), retriever=lambda uri: _schema(version, uri.rpartition("/")[2])
    )


def invalid(resource: Resource) -> list[str]:
    """What the strict schemas of Kubernetes refuse; they know every field, so a misspelt one too."""
    group, _, version = resource["apiVersion"].rpartition("/")
    file = (
        "-".join([resource["kind"].lower(), *([group.partition(".")[0]] if group else []), version]) + ".json"
    )
    return [
        f"{name_of(resource)}, Kubernetes {release}: {error.instance_path}: {error.message}"
        for release in (OLDEST, NEWEST)
        for error in _validator(release, file).iter_errors(resource)
    ]


def is_custom(resource: Resource) -> bool:
    """Whether an operator brings its kind."""
    group = resource["apiVersion"].partition("/")[0]
    return "." in group and not group.endswith(".k8s.io")


def distinct(*builds: list[Resource]) -> list[Resource]:
    """Each resource of several builds once."""
    return list({json.dumps(one, sort_keys=True): one for one in chain(*builds)}.values())


def test_every_overlay_and_combination_is_valid(
    overlays: dict[str, list[Resource]], combinations: dict[tuple[str, ...], list[Resource]]
) -> None:
    """Kubernetes of the oldest and the newest version takes each resource and knows each of its fields."""
    found = distinct(
        *overlays.values(), *combinations.values(), list(yaml.safe_load_all(DEPLOYERS.read_text()))
    )
    core = [one for one in found if not is_custom(one)]
    assert len(core) > 100
    assert [problem for one in core for problem in invalid(one)] == []


def test_combinations_keep_the_rules(combinations: dict[tuple[str, ...], list[Resource]]) -> None:
    """However an overlay is put together, its pods are restricted, probed, spread and named."""
    found = {components: problems(built, ALWAYS) for components, built in combinations.items()}
    assert {components: told for components, told in found.items() if told} == {}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlay_keeps_the_rules(overlays: dict[str, list[Resource]], overlay: str) -> None:
    """So do the overlays; those for customers also name images by digest, and scale with every queue."""
    assert problems(overlays[overlay], ALWAYS if overlay == "dev" else RELEASED) == []


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_apps_start_with_the_settings_of_the_overlay(
    overlays: dict[str, list[Resource]], overlay: str
) -> None:
    """The settings take every value, in production too, where they refuse what is not safe."""
    settings = find_settings(overlays[overlay])
    values = {
        name.removeprefix("ORDERFLOW_").lower(): value
        for name, value in settings.items()
        if name.startswith("ORDERFLOW_")
    }
    made = Settings(**SECRETS, **values)  # type: ignore[arg-type]  # as strings, like the environment
    assert made.environment == ("development" if overlay == "dev" else "production")
    assert not made.declare_topology


@pytest.mark.parametrize("overlay", RELEASED_OVERLAYS)
def test_apps_reach_what_they_need_and_nothing_else(
    overlays: dict[str, list[Resource]], overlay: str
) -> None:
    """The network lets each app out to its own destinations only; the Internet has no private addresses."""
    built = overlays[overlay]

    def outside(app: str) -> set[str]:
        ports = (*OUTSIDE_PORTS, "443") if app in OUTSIDE_HTTPS else OUTSIDE_PORTS
        return {f"{place}:{port}" for place, port in product(OUTSIDE.get(overlay, ()), ports)}

    found = {app: egress_of(built, one) for app, one in apps(built).items()}
    assert found == {app: EVERYONE | outside(app) | EGRESS.get(app, set()) for app in APPS}
    job = find(built, "Job", "topology")
    assert egress_of(built, job) == EVERYONE | outside("topology") | {"rabbitmq:15672"}


def test_the_backup_reaches_what_it_copies_and_only_in_the_cluster(
    overlays: dict[str, list[Resource]],
) -> None:
    """MongoDB, and RabbitMQ's definitions by its management interface, which lets it in."""
    built = overlays["self-hosted"]
    backup = find(built, "CronJob", "backup")
    assert egress_of(built, backup) == EVERYONE | {"rabbitmq:15672"}
    (management,) = [
        rule["from"]
        for rule in find(built, "NetworkPolicy", "rabbitmq")["spec"]["ingress"]
        if rule["ports"] == [{"protocol": "TCP", "port": 15672}]
    ]
    for one in (backup, find(built, "Job", "topology")):
        assert management[0]["podSelector"]["matchLabels"].items() <= labels_of(one).items()
    assert not any(
        management[0]["podSelector"]["matchLabels"].items() <= labels_of(one).items()
        for one in apps(built).values()
    )


@pytest.mark.parametrize(
    ("outcome", "kept"),
    [
        ("true", {"2026-11-08T02-00-00", "lost+found"}),
        ("false", {"2026-11-06T02-00-00", "2026-11-08T02-00-00", "lost+found"}),
    ],
)
def test_old_backups_go_when_a_new_one_is_there(
    overlays: dict[str, list[Resource]], tmp_path: Path, outcome: str, kept: set[str]
) -> None:
    """After two weeks; while none succeeds, none goes, and the volume's own folder stays always."""
    backups = tmp_path / "backups"
    for name, days in (("2026-11-06T02-00-00", 16), ("2026-11-08T02-00-00", 14), ("lost+found", 99)):
        (backups / name).mkdir(parents=True)
        os.utime(backups / name, (time.time() - days * 86_400 - 60,) * 2)
    command, option, script = pod_of(find(overlays["self-hosted"], "CronJob", "backup"))["containers"][0][
        "command"
    ]
    stand_in = f"orderflow() {{ {outcome}; }}\n"
    done = subprocess.run(  # noqa: S603
        [command, option, stand_in + script.replace("/backups", str(backups))], check=False
    )
    assert (done.returncode == 0) == (outcome == "true")
    assert {path.name for path in backups.iterdir()} == kept


def test_a_certificate_can_be_had_by_http01(overlays: dict[str, list[Resource]]) -> None:
    """The pod that cert-manager answers with is let in by the ingress controller, and by nobody else."""
    for overlay in RELEASED_OVERLAYS:
        solver = find(overlays[overlay], "NetworkPolicy", "http01-solver")["spec"]
        assert solver["podSelector"] == {"matchLabels": {"acme.cert-manager.io/http01-solver": "true"}}
        (rule,) = solver["ingress"]
        (ingress,) = find(overlays[overlay], "NetworkPolicy", "ingress")["spec"]["ingress"]
        assert rule["from"] == ingress["from"]
        assert rule["ports"] == [{"protocol": "TCP", "port": 8089}]


def test_documented_hosts_are_found_from_other_namespaces(overlays: dict[str, list[Resource]]) -> None:
    """KEDA asks RabbitMQ by the app's URL, from its own namespace: a short name would lead nowhere there."""
    built = overlays["self-hosted"]
    database = find(built, "MongoDBCommunity", "mongodb")
    name, members = database["metadata"]["name"], database["spec"]["members"]
    rabbitmq, mongodb = re.search(  # type: ignore[union-attr]
        r"orderflow users secrets \./secrets --rabbitmq (\S+) --mongodb (\S+)",
        (K8S / "README.md").read_text(),
    ).groups()
    assert rabbitmq == f"{find(built, 'RabbitmqCluster', 'rabbitmq')['metadata']['name']}.orderflow.svc"
    assert mongodb.split(",") == [f"{name}-{number}.{name}-svc.orderflow.svc" for number in range(members)]


@pytest.mark.parametrize("overlay", ["staging", "production"])
def test_every_secret_comes_from_the_store(overlays: dict[str, list[Resource]], overlay: str) -> None:
    """Each Secret that a pod mounts has an ExternalSecret that makes it, from the environment's own names."""
    built = overlays[overlay]
    mounted = set()
    for one in (*apps(built).values(), find(built, "Job", "topology")):
        for volume in pod_of(one)["volumes"]:
            sources = volume.get("projected", {}).get("sources", [])
            mounted |= {source["secret"]["name"] for source in sources if "secret" in source}
            mounted |= {volume["secret"]["secretName"]} if "secret" in volume else set()
    made = {one["metadata"]["name"]: one["spec"] for one in of_kind(built, "ExternalSecret")}
    assert mounted == made.keys()
    for name, spec in made.items():
        assert spec["dataFrom"] == [{"extract": {"key": name.removeprefix("orderflow-")}}]
        assert spec["secretStoreRef"]["name"] == "secrets"
    assert (
        find(built, "SecretStore", "secrets")["spec"]["provider"]["aws"]["prefix"] == f"orderflow/{overlay}/"
    )


@pytest.mark.parametrize("overlay", ["staging", "production"])
def test_the_deploy_workflow_may_apply_all_kinds(overlays: dict[str, list[Resource]], overlay: str) -> None:
    """What Kubernetes' own role `edit` does not cover, the role of deployers does."""
    role = find(list(yaml.safe_load_all(DEPLOYERS.read_text())), "Role", "deployers")
    allowed = {
        (group, resource)
        for rule in role["rules"]
        if {"get", "create", "patch"} <= {*rule["verbs"]}
        for group, resource in product(rule["apiGroups"], rule["resources"])
    }
    needed = {
        (one["apiVersion"].partition("/")[0], one["kind"].lower() + "s")
        for one in overlays[overlay]
        if is_custom(one)
    }
    assert needed == allowed


def test_dev_reads_the_files_that_the_command_writes(
    overlays: dict[str, list[Resource]], tmp_path: Path
) -> None:
    """Each file of `orderflow users secrets` is where its reader in dev looks for it."""
    write_missing(tmp_path, Addresses("rabbitmq", "orderflow", "mongodb", "orderflow"))
    written = {f"{file.parent.name}/{file.name}" for file in tmp_path.rglob("*") if file.is_file()}
    read = {f"{reader}/{key}" for reader in (*APPS, "topology") for key in APP_FILES}
    for name in ("rabbitmq", "mongodb"):
        for container in containers_of(find(overlays["dev"], "StatefulSet", name)):
            spoken = [*container.get("command", []), *(one["value"] for one in container.get("env", []))]
            read |= {f"{name}/{path.removeprefix(FOLDER)}" for path in spoken if path.startswith(FOLDER)}
            read |= {f"{name}/{one['subPath']}" for one in container["volumeMounts"] if "subPath" in one}
    assert read == written


@pytest.mark.parametrize("overlay", RELEASED_OVERLAYS)
def test_every_app_is_scraped_under_its_name(overlays: dict[str, list[Resource]], overlay: str) -> None:
    """Prometheus finds all apps by one monitor, with the labels that dashboards and alerts ask for."""
    monitor = find(overlays[overlay], "PodMonitor", "orderflow")
    selector = monitor["spec"]["selector"]
    for one in apps(overlays[overlay]).values():
        labels = one["spec"]["template"]["metadata"]["labels"]
        assert selector["matchLabels"].items() <= labels.items()
        assert labels["app.kubernetes.io/component"] in selector["matchExpressions"][0]["values"]
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("http", "/metrics")
    assert {"targetLabel": "job", "replacement": "orderflow"} in endpoint["relabelings"]
    assert {
        "sourceLabels": ["__meta_kubernetes_pod_label_app_kubernetes_io_name"],
        "targetLabel": "app",
    } in endpoint["relabelings"]


def test_alerts_are_those_that_promtool_tests(overlays: dict[str, list[Resource]]) -> None:
    """`python k8s/components/monitoring/prometheus_rule.py` was run after the last change of the rules."""
    rules = yaml.safe_load((K8S / "observability" / "rules" / "orderflow.yaml").read_text())
    assert find(overlays["production"], "PrometheusRule", "orderflow")["spec"] == rules


def test_dashboards_and_collectors_are_taken_whole(overlays: dict[str, list[Resource]]) -> None:
    """Each dashboard is in a ConfigMap that Grafana finds by its label, and none is too large to apply."""
    maps = of_kind(overlays["self-hosted"], "ConfigMap")
    boards = [one for one in maps if one["metadata"].get("labels", {}).get("grafana_dashboard") == "1"]
    assert {file for one in boards for file in one["data"]} == {
        file.name for file in (K8S / "observability" / "dashboards").glob("*.json")
    }
    for one in boards:
        assert [json.loads(text) for text in one["data"].values()]
    assert all(len(json.dumps(one["data"])) < 1_000_000 for one in maps)
    for file in ("otel-collector.yaml", "otel-collector-logs.yaml"):
        (text,) = [one["data"][file] for one in maps if file in one["data"]]
        assert text == (K8S / "observability" / file).read_text()


def test_databases_of_operators_keep_what_the_apps_rely_on(overlays: dict[str, list[Resource]]) -> None:
    """Three members each, our users left alone, administrators that are the job's: in structure only."""
    broker = find(overlays["self-hosted"], "RabbitmqCluster", "rabbitmq")["spec"]
    assert (broker["replicas"], broker["secretBackend"]["externalSecret"]["name"]) == (
        3,
        "rabbitmq-administrator",
    )
    assert "default_queue_type = quorum" in broker["rabbitmq"]["additionalConfig"]
    # The operator writes an absolute limit, beside which a relative one has no effect.
    assert "disk_free_limit.absolute = 4GB" in broker["rabbitmq"]["additionalConfig"]
    database = find(overlays["self-hosted"], "MongoDBCommunity", "mongodb")["spec"]
    assert (database["type"], database["members"]) == ("ReplicaSet", 3)
    assert database["security"]["authentication"]["ignoreUnknownUsers"]
    assert [user["name"] for user in database["users"]] == ["orderflow-topology"]
    for pod in (broker["override"]["statefulSet"], database["statefulSet"]):
        spec = pod["spec"]["template"]["spec"]
        assert spec["securityContext"]["runAsNonRoot"]
        # Not every cluster has zones; each node has a name.
        assert {
            rule["topologyKey"]: rule["whenUnsatisfiable"] for rule in spec["topologySpreadConstraints"]
        } == {
            "kubernetes.io/hostname": "DoNotSchedule",
            "topology.kubernetes.io/zone": "ScheduleAnyway",
        }
        for container in (*spec["initContainers"], *spec["containers"]):
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_no_deprecated_field_of_kustomize() -> None:
    """The files build with later versions too."""
    gone = {"bases", "commonLabels", "patchesStrategicMerge", "patchesJson6902", "vars", "imageTags"}
    for file in K8S.rglob("kustomization.yaml"):
        assert not gone & yaml.safe_load(file.read_text()).keys(), file


def test_links_of_the_guide_lead_somewhere() -> None:
    """k8s/README.md names files that are there."""
    links = re.findall(r"\]\(([^)#]+)", (K8S / "README.md").read_text())
    assert len(links) > 10
    assert [link for link in links if not (K8S / link).exists()] == []


def test_custom_resources_have_the_types_of_their_operators(
    overlays: dict[str, list[Resource]],
    combinations: dict[tuple[str, ...], list[Resource]],
    npm_packages: Path,
    tmp_path: Path,
) -> None:
    """KEDA, Prometheus Operator and External Secrets know every field: TypeScript has their types."""
    found = distinct(*overlays.values(), *combinations.values())
    typed = [one for one in found if one["apiVersion"].partition("/")[0] in _TYPES]
    assert len(typed) > 20
    assert _type_errors(typed, npm_packages, tmp_path) == ""


def test_a_misspelt_field_of_a_custom_resource_is_found(
    production: list[Resource], npm_packages: Path, tmp_path: Path
) -> None:
    """The comparison of types is one."""
    scaled = find(production, "ScaledObject", "stock")
    scaled["spec"]["triggers"][0]["authenticationReference"] = {"name": "stock"}
    monitor = find(production, "PodMonitor", "orderflow")
    monitor["spec"]["podMetricsEndpoints"][0]["interval"] = 15
    told = _type_errors([scaled, monitor], npm_packages, tmp_path)
    assert "authenticationReference" in told
    assert "Type 'number' is not assignable" in told


_TYPES = {
    "keda.sh": "keda",
    "monitoring.coreos.com": "prometheus-operator",
    "external-secrets.io": "external-secrets",
}


def _type_errors(typed: list[Resource], npm_packages: Path, scratch: Path) -> str:
    lines = []
    for number, one in enumerate(typed):
        kind, package = one["kind"], _TYPES[one["apiVersion"].partition("/")[0]]
        lines += [
            f"import type {{ I{kind} as T{number} }}",
            f'  from "@kubernetes-models/{package}/{one["apiVersion"]}/{kind}";',
            f"export const resource{number}: T{number} = {json.dumps(one)};",
        ]
    (scratch / "resources.ts").write_text("\n".join(lines))
    (scratch / "node_modules").symlink_to(npm_packages / "node_modules")
    compiler = [npm_packages / "node_modules" / ".bin" / "tsc", "--noEmit", "--strict", "--skipLibCheck"]
    options = ["--module", "nodenext", "--moduleResolution", "nodenext", "--target", "es2022"]
    done = subprocess.run(  # noqa: S603
        [*compiler, *options, "resources.ts"], cwd=scratch, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def test_checkov_finds_nothing(overlays: dict[str, list[Resource]], need: Need, tmp_path: Path) -> None:
    """What is left out stands in k8s/.checkov.yaml or at the resource, with its reason."""
    uv = need("uv", "pip install uv")
    core = [one for one in distinct(*overlays.values()) if not is_custom(one)]
    (tmp_path / "overlays.yaml").write_text(yaml.safe_dump_all(core))
    done = subprocess.run(  # noqa: S603
        [
            uv,
            "tool",
            "run",
            CHECKOV,
            "--config-file",
            K8S / ".checkov.yaml",
            "--directory",
            tmp_path,
            "-o",
            "json",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, f"checkov did not run: {done.stderr}"
    report = json.loads(done.stdout)
    assert report["summary"]["passed"] > 1000
    assert [f"{one['check_id']} {one['resource']}" for one in report["results"]["failed_checks"]] == []


def _first_container(production: list[Resource], app: str = "stock") -> Resource:
    container: Resource = pod_of(apps(production)[app])["containers"][0]
    return container


def _drop(production: list[Resource], kind: str, name: str) -> None:
    production.remove(find(production, kind, name))


MISTAKES: dict[str, tuple[Callable[[list[Resource]], object], str]] = {
    "no readiness probe": (lambda p: _first_container(p).pop("readinessProbe"), "stock: readinessProbe"),
    "a probe of another path": (
        lambda p: _first_container(p)["livenessProbe"]["httpGet"].update(path="/health/ready"),
        "stock: livenessProbe",
    ),
    "a short start": (
        lambda p: _first_container(p)["startupProbe"].update(failureThreshold=150),
        "stock: is restarted while it waits",
    ),
    "a privileged container": (
        lambda p: _first_container(p)["securityContext"].update(privileged=True),
        "may gain privileges",
    ),
    "a writable image": (
        lambda p: _first_container(p)["securityContext"].pop("readOnlyRootFilesystem"),
        "can write to its image",
    ),
    "root": (lambda p: pod_of(apps(p)["stock"])["securityContext"].pop("runAsNonRoot"), "may run as root"),
    "a lax namespace": (
        lambda p: find(p, "Namespace", "orderflow")["metadata"]["labels"].clear(),
        "does not enforce",
    ),
    "a token": (lambda p: pod_of(apps(p)["stock"]).pop("automountServiceAccountToken"), "has a token"),
    "no disruption budget": (
        lambda p: _drop(p, "PodDisruptionBudget", "stock"),
        "stock: has no disruption budget",
    ),
    "not spread": (
        lambda p: pod_of(apps(p)["stock"])["topologySpreadConstraints"].pop(),
        "stock: is not spread",
    ),
    "a short grace period": (
        lambda p: pod_of(apps(p)["stock"]).update(terminationGracePeriodSeconds=30),
        "stock: is killed before",
    ),
    "no pause before the stop": (
        lambda p: _first_container(p, "ingress").pop("lifecycle"),
        "ingress: stops before",
    ),
    "a gap in a rollout": (
        lambda p: apps(p)["stock"]["spec"]["strategy"]["rollingUpdate"].update(maxUnavailable=1),
        "takes pods away first",
    ),
    "no memory limit": (lambda p: _first_container(p)["resources"]["limits"].pop("memory"), "has no bounds"),
    "an image by tag": (
        lambda p: _first_container(p).update(image="ghcr.io/orderflow/orderflow:latest"),
        "is not named by its digest",
    ),
    "an unknown setting": (
        lambda p: find_settings(p).update(ORDERFLOW_PREFTECH="50"),
        "ORDERFLOW_PREFTECH is no setting",
    ),
    "an unknown variable": (
        lambda p: _first_container(p, "ingress")["env"].append({"name": "ORDERFLOW_KEY", "value": ""}),
        "ORDERFLOW_KEY is no setting",
    ),
    "an app left out": (lambda p: p.remove(apps(p)["documents"]), "['documents'] is missing"),
    "another app's secrets": (
        lambda p: pod_of(apps(p)["stock"])["volumes"][0]["secret"].update(secretName="orderflow-billing"),
        "stock: does not read its own secrets",
    ),
    "an unknown secret": (
        lambda p: find(p, "TriggerAuthentication", "stock")["spec"]["secretTargetRef"][0].update(key="url"),
        "no app has the secret orderflow-stock/url",
    ),
    "a queue left out": (
        lambda p: find(p, "ScaledObject", "stock")["spec"]["triggers"].pop(),
        "ScaledObject stock: ['stock.stock-adjusted']",
    ),
    "a worker that does not scale": (lambda p: _drop(p, "ScaledObject", "billing"), "ScaledObject billing"),
    "settings that are not there": (
        lambda p: _first_container(p)["envFrom"][0]["configMapRef"].update(name="settings"),
        "there is no ConfigMap settings",
    ),
    "a number of replicas": (
        lambda p: apps(p)["ingress"]["spec"].update(replicas=3),
        "would set back the number of pods",
    ),
    "a service to nowhere": (
        lambda p: find(p, "Service", "ingress")["spec"]["selector"].update({"app.kubernetes.io/name": "api"}),
        "Service ingress: leads nowhere",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_told(production: list[Resource], mistake: str) -> None:
    """Each rule finds what it is there for, and says where."""
    plant, expected = MISTAKES[mistake]
    plant(production)
    told = problems(production, RELEASED)
    assert len(told) >= 1
    assert any(expected in problem for problem in told), told


def test_a_misspelt_field_is_refused(production: list[Resource]) -> None:
    """The schemas are the strict ones."""
    _first_container(production)["imagePullPolcy"] = "Always"
    assert any("imagePullPolcy" in problem for problem in invalid(apps(production)["stock"]))


def test_a_claim_that_is_not_there_is_told(overlays: dict[str, list[Resource]]) -> None:
    """A pod would wait for its volume for ever."""
    built = [one for one in overlays["self-hosted"] if one["kind"] != "PersistentVolumeClaim"]
    assert "CronJob backup: there is no claim backups" in problems(built, ALWAYS)


def test_a_mount_that_opens_the_cookie_is_told(overlays: dict[str, list[Resource]]) -> None:
    """Erlang refuses a cookie that its group can read, so RabbitMQ would start once and never again."""
    built: list[Resource] = json.loads(json.dumps(overlays["dev"]))
    del pod_of(find(built, "StatefulSet", "rabbitmq"))["securityContext"]["fsGroupChangePolicy"]
    assert problems(built, ALWAYS) == ["StatefulSet rabbitmq: each mount changes the mode of every file"]


def test_a_wider_policy_is_told(production: list[Resource]) -> None:
    """An app that may reach private addresses differs from the table of what it needs."""
    policy = find(production, "NetworkPolicy", "webhooks")
    del policy["spec"]["egress"][0]["to"][0]["ipBlock"]["except"]
    assert "0.0.0.0/0:443" in egress_of(production, apps(production)["webhooks"])


def test_every_container_of_an_app_has_one_image(overlays: dict[str, list[Resource]]) -> None:
    """One image for all apps and the job, whatever the overlay calls it."""
    for built in overlays.values():
        ours = [*apps(built).values(), find(built, "Job", "topology"), *of_kind(built, "CronJob")]
        assert len({container["image"] for one in ours for container in containers_of(one)}) == 1
