"""What code, containers, Kubernetes, AWS, telemetry and documents call by one name; a check for each."""

import ipaddress
import json
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import opentelemetry.sdk.environment_variables as otel
import promql_parser
import yaml
from prometheus_client import Metric
from prometheus_client.metrics import MetricWrapperBase
from pydantic import SecretStr

from apps.cli.local.stack import API, _command
from apps.cli.secret_files import APPS, JOB, user_of
from apps.cli.system import bindings
from apps.kit import metrics, signals
from apps.kit.settings import Settings

INGRESS, *WORKERS = APPS
RELEASED = ("staging", "production")
"""Environments of the deploy workflow and of Terraform, and overlays."""
NAMESPACE, PORT = "orderflow", 8000
SPOKEN_OF = (".github", "Dockerfile", "README.md", "compose.yml", "docs", "k8s", "terraform")
OTHER_VARIABLES = {"ORDERFLOW_TERRAFORM_PLUGINS"}  # of the tests of terraform/
OF_PROMETHEUS = {"ALERTS", "up"}
RABBITMQ_METRICS = Path(__file__).with_name("rabbitmq-metrics.txt")
"""What RabbitMQ 3.10 and 4.0 showed at the two paths that are scraped, one family per line."""

Disagreements = Iterator[str]
Check = Callable[["WorkingCopy"], Disagreements]


class WorkingCopy:
    """The files of one directory, each read once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def text(self, path: str) -> str:
        return (self.root / path).read_text()

    def yaml(self, path: str) -> Any:
        return yaml.safe_load(self.text(path))

    @cached_property
    def compose(self) -> dict[str, Any]:
        services: dict[str, Any] = self.yaml("compose.yml")["services"]
        return services

    @cached_property
    def overlays(self) -> dict[str, list[Any]]:
        """What `kubectl kustomize` makes of each overlay."""
        return {folder.name: self._built(folder) for folder in sorted((self.root / "k8s/overlays").iterdir())}

    def _built(self, folder: Path) -> list[Any]:
        built = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=True)  # noqa: S603, S607
        return list(yaml.load_all(built.stdout, yaml.CSafeLoader))

    def pods(self) -> Iterator[tuple[str, str, Any]]:
        """Overlay, app (or job) and pod of everything that runs our image."""
        for overlay, resources in self.overlays.items():
            for one in resources:
                labels = one["metadata"].get("labels", {})
                if (
                    one["kind"] in ("Deployment", "Job")
                    and labels.get("app.kubernetes.io/part-of") == "orderflow"
                ):
                    yield overlay, one["metadata"]["name"], one["spec"]["template"]["spec"]

    def files(self) -> Iterator[tuple[str, str]]:
        """Path and text of everything that speaks of settings and secrets."""
        for place in SPOKEN_OF:
            path = self.root / place
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                skipped = file.suffix == ".png" or {".terraform", "__pycache__"} & {*file.parts}
                if file.is_file() and not skipped:
                    yield str(file.relative_to(self.root)), file.read_text()

    @cached_property
    def queries(self) -> list[tuple[str, str]]:
        """Every PromQL expression, with where it stands."""
        found = []
        for group in self.yaml("k8s/observability/rules/orderflow.yaml")["groups"]:
            found += [(rule.get("alert") or rule["record"], rule["expr"]) for rule in group["rules"]]
        for file in sorted((self.root / "k8s/observability/dashboards").glob("*.json")):
            board = json.loads(file.read_text())
            found += [(file.name, expression) for expression in _expressions(board)]
        return found


def _expressions(board: Any) -> Iterator[str]:
    """Of all panels, however they are nested; and of the variables, which ask for the values of a label."""
    if isinstance(board, list):
        for one in board:
            yield from _expressions(one)
    elif isinstance(board, dict):
        if "expr" in board:
            yield board["expr"]
        if isinstance(query := board.get("query"), str) and (
            of := re.match(r"label_values\((.+), *\w+\)", query)
        ):
            yield of[1]
        for one in board.values():
            yield from _expressions(one)


def variables(copy: WorkingCopy) -> Disagreements:
    """Every ORDERFLOW_ and OTEL_ variable that is spoken of is read by the code or by OpenTelemetry's SDK."""
    code = "".join(path.read_text() for path in Path(metrics.__file__).parents[1].rglob("*.py"))
    ours = {f"ORDERFLOW_{field.upper()}" for field in Settings.model_fields}
    known = ours | set(re.findall(r"ORDERFLOW_[A-Z_]+[A-Z]", code)) | OTHER_VARIABLES | set(vars(otel))
    for path, text in copy.files():
        for name in sorted({*re.findall(r"\b(?:ORDERFLOW|OTEL)_[A-Z_]*[A-Z]\b", text)} - known):
            yield f"{path}: nothing reads {name}"


def secret_files(copy: WorkingCopy) -> Disagreements:
    """Every file under /run/secrets that is spoken of is a secret of the settings."""
    known = {
        f"orderflow_{name}"
        for name, field in Settings.model_fields.items()
        if SecretStr in (field.annotation, *get_args(field.annotation))
    }
    for path, text in copy.files():
        for name in sorted(
            {*re.findall(r"\borderflow_[a-z_]*(?:_url|_key|_password|_token|_secret)\b", text)} - known
        ):
            yield f"{path}: no setting is called {name}"


def images(copy: WorkingCopy) -> Disagreements:
    """One image, under one name, for every app and job, in workflows, containers, overlays and registry."""
    defaults = {
        default
        for workflow in ("images", "release", "deploy")
        for default in re.findall(r"vars\.IMAGE \|\| '(.+?)'", copy.text(f".github/workflows/{workflow}.yml"))
    }
    if len(defaults) != 1:
        yield f".github/workflows: the image is called {sorted(defaults)}"
    for name, service in copy.compose.items():
        if name in (*APPS, JOB, "secrets") and service["image"] != "orderflow":
            yield f"compose.yml: {name} runs {service['image']}"
    for overlay, name, pod in copy.pods():
        allowed = {"orderflow"} if overlay == "dev" else defaults
        for container in pod["containers"]:
            if (image := re.split("[:@]", container["image"])[0]) not in allowed:
                yield f"overlay {overlay}: {name} runs {image}"
    if 'default     = "orderflow"' not in copy.text("terraform/modules/storage/variables.tf"):
        yield "terraform/modules/storage: the repository is not called orderflow"


def versions(copy: WorkingCopy) -> Disagreements:
    """Others' images are the same in Compose and in Kubernetes, and Dependabot raises them in both."""
    ours = {service["image"] for service in copy.compose.values()}
    docker = next(
        one for one in copy.yaml(".github/dependabot.yml")["updates"] if one["package-ecosystem"] == "docker"
    )
    for path, text in copy.files():
        for image in re.findall(r"^\s*(?:- )?image: (\S+:\S+)$", text, re.MULTILINE):
            if not path.startswith("k8s/"):
                continue
            if image not in ours:
                yield f"{path}: Compose does not run {image}"
            if not any(Path("/", path).parent.match(watched) for watched in docker["directories"]):
                yield f".github/dependabot.yml: does not raise {image} in {path}"
    (database,) = re.findall(
        r"^  version: (\S+)$", copy.text("k8s/components/mongodb-operator/replica-set.yaml"), re.MULTILINE
    )
    if "mongo:" + database.rpartition(".")[0] not in ours:
        yield f"k8s/components/mongodb-operator: Compose does not run MongoDB {database}"


def data_subnets(copy: WorkingCopy) -> Disagreements:
    """Network policies name the subnets that Terraform keeps free of nodes and pods."""
    if "cidrsubnet(cidrsubnet(var.cidr_block, 4, 15), 2, index)" not in copy.text(
        "terraform/modules/network/main.tf"
    ):
        yield "terraform/modules/network: the data subnets are elsewhere than the overlays say"
    for environment in RELEASED:
        (network,) = re.findall(
            r'cidr_block += "(.+)"', copy.text(f"terraform/environments/{environment}/main.tf")
        )
        *_, last = ipaddress.ip_network(network).subnets(4)
        expected = {str(subnet) for subnet in list(last.subnets(2))[:3]}
        for one in copy.overlays[environment]:
            if one["kind"] == "NetworkPolicy" and one["metadata"]["name"].startswith("external-services"):
                (rule,) = one["spec"]["egress"]
                named = {to["ipBlock"]["cidr"] for to in rule["to"]}
                yield from _differing(f"overlay {environment}, {one['metadata']['name']}", named, expected)


def commands_and_ports(copy: WorkingCopy) -> Disagreements:
    """Each app is started as `orderflow up` starts it, and listens on the port that is asked."""
    for app in APPS:
        ours = _command(API if app == INGRESS else app, PORT)[2:]
        ours[ours.index("--host") + 1] = "0.0.0.0"  # noqa: S104  # in a container
        if app not in copy.compose:
            yield f"compose.yml: no service {app}"
        elif shlex.split(copy.compose[app]["command"]) != ours:
            yield f"compose.yml: {app} is started by {copy.compose[app]['command']}"
        for overlay, name, pod in copy.pods():
            container = pod["containers"][0]
            if name == app and container["command"] != ours:
                yield f"overlay {overlay}: {app} is started by {container['command']}"
            if name == app and container["ports"] != [{"name": "http", "containerPort": PORT}]:
                yield f"overlay {overlay}: {app} listens on {container['ports']}"
    if f"EXPOSE {PORT}\n" not in copy.text("Dockerfile"):
        yield f"Dockerfile: does not expose {PORT}"
    if f':{PORT}"' not in copy.compose[INGRESS]["ports"][0] + '"':
        yield f"compose.yml: publishes {copy.compose[INGRESS]['ports']}"
    asked = _scraped(copy)["dns_sd_configs"][0]["port"]
    if asked != PORT:
        yield f"prometheus.yml: asks port {asked}"


def known_outside(copy: WorkingCopy) -> Disagreements:
    """Prometheus asks every app, AWS keeps the secrets of each, and each has its AsyncAPI document."""
    targets = _scraped(copy)["dns_sd_configs"][0]["names"]
    yield from _differing("prometheus.yml, names", {*targets}, {*APPS})
    readers = re.search(
        r'"secret_readers".*?default +=(.*?])', copy.text("terraform/modules/access/variables.tf"), re.DOTALL
    )
    yield from _differing(
        "terraform/modules/access, secret_readers",
        {*yaml.safe_load(readers[1])} if readers else set(),
        {*APPS, JOB},
    )
    documents = {path.stem for path in (copy.root / "asyncapi").glob("*.yaml")}
    yield from _differing("asyncapi", documents, {*APPS, "system"})


def secrets_in_containers(copy: WorkingCopy) -> Disagreements:
    """Each app is given its own users and no others', which the two jobs make for all."""

    def mounted(service: str, at: str) -> set[str]:
        return {volume.split(":")[0] for volume in copy.compose[service]["volumes"] if f":{at}" in volume}

    for name in (*APPS, JOB):
        yield from _differing(
            f"compose.yml, /run/secrets of {name}", mounted(name, "/run/secrets"), {f"secrets-{name}"}
        )
    for job, readers in ((JOB, APPS), ("secrets", (*APPS, JOB, "rabbitmq", "mongodb"))):
        expected = {f"secrets-{name}" for name in readers}
        yield from _differing(f"compose.yml, folders of {job}", mounted(job, "/secrets/"), expected)


def apps_in_clusters(copy: WorkingCopy) -> Disagreements:
    """Every overlay runs every app and the job, each by its own service account and with its own secret."""
    for overlay, resources in copy.overlays.items():
        pods = {name: pod for where, name, pod in copy.pods() if where == overlay}
        yield from _differing(f"overlay {overlay}, pods", {*pods}, {*APPS, JOB})
        accounts = {one["metadata"]["name"] for one in resources if one["kind"] == "ServiceAccount"}
        if missing := {pod["serviceAccountName"] for pod in pods.values()} - accounts:
            yield f"overlay {overlay}: no service account {sorted(missing)}"
        for name, pod in pods.items():
            secrets = {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}
            yield from _differing(f"overlay {overlay}, secret of {name}", secrets, {user_of(name)})
            if pod["serviceAccountName"] != name:
                yield f"overlay {overlay}: {name} runs as {pod['serviceAccountName']}"
        made = {
            f"{source['secret']['name']}: {item['path']}"
            for volume in pods.get(JOB, {"volumes": []})["volumes"]
            for source in volume.get("projected", {}).get("sources", [])
            for item in source["secret"]["items"]
        }
        urls = {f"{user_of(app)}: {app}/orderflow_{of}_url" for app in APPS for of in ("rabbitmq", "mongodb")}
        yield from _differing(f"overlay {overlay}, users that {JOB} makes", made, urls)
        fetched = {
            f"{one['metadata']['name']}: {one['spec']['dataFrom'][0]['extract']['key']}"
            for one in resources
            if one["kind"] == "ExternalSecret"
        }
        if fetched:
            expected = {f"{user_of(name)}: {name}" for name in (*APPS, JOB)}
            yield from _differing(f"overlay {overlay}, external secrets", fetched, expected)


def _differing(where: str, found: set[str], expected: set[str]) -> Disagreements:
    if found != expected:
        missing, extra = sorted(expected - found), sorted(found - expected)
        yield f"{where}: missing {missing}, unknown {extra}"


def queues(copy: WorkingCopy) -> Disagreements:
    """Each worker is scaled by all queues that it consumes and no other; queries ask for real ones."""
    declared = {binding.queue.name for binding in bindings()}
    for overlay, resources in copy.overlays.items():
        for one in resources:
            if one["kind"] == "ScaledObject":
                app = one["spec"]["scaleTargetRef"]["name"]
                scaled = {trigger["metadata"]["queueName"] for trigger in one["spec"]["triggers"]}
                own = {name for name in declared if name.startswith(f"{app}.")}
                yield from _differing(
                    f"overlay {overlay}, scale of {app}", scaled, own or {"dead", "unrouted"}
                )
    for where, query in copy.queries:
        for name in {*re.findall(r'\bqueue="([^"]+)"', query)} - declared:
            yield f"{where}: there is no queue {name}"


def metric_names(copy: WorkingCopy) -> Disagreements:
    """Every metric in a query is ours, of FastStream, RabbitMQ or Prometheus, or a recorded one."""
    known = {*RABBITMQ_METRICS.read_text().split(), *OF_PROMETHEUS}
    known |= {name for name, _ in copy.queries if ":" in name}
    for family in _families():
        suffixes = {
            "counter": ["_total"],
            "histogram": ["_bucket", "_count", "_sum"],
            "summary": ["", "_count", "_sum"],
            "info": ["_info"],
        }.get(family.type, [""])
        known |= {family.name + suffix for suffix in suffixes}
    for where, query in copy.queries:
        parsed = promql_parser.parse(re.sub(r"\$__\w+", "5m", query))
        for name in sorted(_selected(parsed) - known):
            yield f"{where}: nothing is called {name}"


def _families() -> Iterator[Metric]:
    """Ours, those of the process, and FastStream's, which the brokers have added to them."""
    yield from metrics.REGISTRY.collect()
    for one in vars(metrics).values():
        if isinstance(one, MetricWrapperBase):  # some are in the registry of a single app only
            yield from one.describe()


def _selected(node: Any) -> set[str]:
    """The names of metrics in a parsed query."""
    names = {node.name} if isinstance(node, promql_parser.VectorSelector) and node.name else set()
    for branch in ("expr", "lhs", "rhs", "param", "args", "vector_selector"):
        below = getattr(node, branch, None)
        for one in below if isinstance(below, list) else [below]:
            if one is not None:
                names |= _selected(one)
    return names


def roles(copy: WorkingCopy) -> Disagreements:
    """Who may take a role in AWS is a service account of the cluster, and takes the role of that name."""
    access = copy.text("terraform/modules/access/main.tf")
    subjects = {*re.findall(r"^    (\w+) = \[$", access, re.MULTILINE), "external-secrets"}
    if f'namespace = "{NAMESPACE}"' not in access:
        yield f"terraform/modules/access: the namespace is not {NAMESPACE}"
    for environment in RELEASED:
        resources = copy.overlays[environment]
        accounts = {one["metadata"]["name"] for one in resources if one["kind"] == "ServiceAccount"}
        if missing := subjects - accounts:
            yield f"overlay {environment}: no service account {sorted(missing)}"
        taken = {role for _, role in _roles_taken(resources)}
        expected = {f"orderflow-{environment}-{subject}" for subject in subjects}
        yield from _differing(f"overlay {environment}, roles", taken, expected)


def stores_in_aws(copy: WorkingCopy) -> Disagreements:
    """Documents and secrets lie in AWS under the names that Terraform gives them."""
    if '"orderflow/${var.environment}/${each.key}"' not in copy.text("terraform/modules/access/secrets.tf"):
        yield "terraform/modules/access: the secrets have other names than the overlays ask for"
    if '"${var.name}-documents-${data.aws_caller_identity' not in copy.text(
        "terraform/modules/storage/main.tf"
    ):
        yield "terraform/modules/storage: the bucket has another name than the overlays ask for"
    for environment in RELEASED:
        resources = copy.overlays[environment]
        buckets = {
            f"s3://orderflow-{environment}-documents-{account}" for account, _ in _roles_taken(resources)
        }
        stored = {
            one["data"]["ORDERFLOW_DOCUMENTS_URL"]
            for one in resources
            if one["metadata"]["name"].startswith("settings-")
        }
        yield from _differing(f"overlay {environment}, documents", stored, buckets)
        prefixes = {
            one["spec"]["provider"]["aws"]["prefix"] for one in resources if one["kind"] == "SecretStore"
        }
        yield from _differing(f"overlay {environment}, secrets", prefixes, {f"orderflow/{environment}/"})


def _roles_taken(resources: list[Any]) -> list[tuple[str, str]]:
    """Account and name of every role of AWS."""
    return re.findall(r"arn:aws:iam::(\d{12}):role/([\w-]+)", json.dumps(resources))


def environments(copy: WorkingCopy) -> Disagreements:
    """The deploy workflow, Terraform and the overlays know the same environments, in the same namespace."""
    jobs = copy.yaml(".github/workflows/deploy.yml")["jobs"].values()
    deployed = {job["environment"]["name"] for job in jobs}
    if deployed != {*RELEASED}:
        yield f"deploy.yml: deploys to {sorted(deployed)}"
    for environment in RELEASED:
        if not (copy.root / "terraform/environments" / environment).is_dir():
            yield f"terraform: no environment {environment}"
    for overlay, resources in copy.overlays.items():
        ours = {one["metadata"].get("namespace") for one in resources if one["kind"] == "Deployment"}
        if ours != {NAMESPACE}:
            yield f"overlay {overlay}: in {ours}"
    if f"--namespace {NAMESPACE} " not in copy.text(".github/actions/rollout/rollout"):
        yield f"rollout: not in {NAMESPACE}"


def grace(copy: WorkingCopy) -> Disagreements:
    """Nobody is killed before it has ended by itself: what runs may end, and what hangs gives up."""
    drain = Settings.model_fields["drain_timeout_seconds"].default + signals._EXIT_SECONDS
    for app in APPS:
        given = float(copy.compose[app]["stop_grace_period"].removesuffix("s"))
        if given <= drain:
            yield f"compose.yml: {app} is killed after {given:g} s, and may take {drain:g}"
    for overlay, name, pod in copy.pods():
        if name in APPS:
            hook = pod["containers"][0].get("lifecycle", {"preStop": {"sleep": {"seconds": 0}}})
            needed = drain + hook["preStop"]["sleep"]["seconds"]
            if pod["terminationGracePeriodSeconds"] <= needed:
                given = pod["terminationGracePeriodSeconds"]
                yield f"overlay {overlay}: {name} is killed after {given} s, and may take {needed:g}"


def traces(copy: WorkingCopy) -> Disagreements:
    """Apps send traces to where a collector takes them."""
    collector = copy.yaml("k8s/observability/otel-collector.yaml")["receivers"]["otlp"]["protocols"]["http"]
    port = collector["endpoint"].rsplit(":", 1)[1]
    if "otel-collector" not in copy.compose:
        yield "compose.yml: no service otel-collector"
    for overlay, resources in copy.overlays.items():
        text = json.dumps(resources)
        for host, asked in re.findall(r'"OTEL_EXPORTER_OTLP_ENDPOINT": "http://([\w-]+):(\d+)"', text):
            ports = {
                str(offered["port"])
                for one in resources
                if one["kind"] == "Service" and one["metadata"]["name"] == host
                for offered in one["spec"]["ports"]
            }
            if asked != port or asked not in ports:
                yield f"overlay {overlay}: traces go to {host}:{asked}, which is not there"


def _scraped(copy: WorkingCopy) -> Any:
    """How Prometheus finds the apps in Compose."""
    jobs = copy.yaml("k8s/observability/prometheus.yml")["scrape_configs"]
    return next(job for job in jobs if job["job_name"] == "orderflow")


CHECKS: tuple[Check, ...] = (
    variables,
    secret_files,
    images,
    versions,
    data_subnets,
    commands_and_ports,
    known_outside,
    secrets_in_containers,
    apps_in_clusters,
    queues,
    metric_names,
    roles,
    stores_in_aws,
    environments,
    grace,
    traces,
)
