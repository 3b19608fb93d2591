"""What every built overlay must keep, as functions that tell each place where it is not so."""

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any

from apps.cli.local.stack import WORKERS
from apps.cli.system import bindings
from apps.kit.settings import Settings
from apps.kit.signals import _EXIT_SECONDS
from apps.kit.topology import event_of

Resource = dict[str, Any]
Problems = Iterator[str]

APPS = ("ingress", *WORKERS)
NAMESPACE = "orderflow"
RABBITMQ, MONGODB, TRACES, INTERNET = "rabbitmq", "mongodb", "otel-collector", "internet"
_OWN_VARIABLES = {"ORDERFLOW_RABBITMQ_MANAGEMENT_URL"}
"""Of the command line, which the job runs; no setting."""
_OTHERS_VARIABLES = {
    "AWS_REGION",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "FORWARDED_ALLOW_IPS",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
}
_WAITS_SECONDS = 3600
"""An app waits for what it needs without an end; so long it is not disturbed."""
_PRIVATE = {"10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"}
_PROBES = {"startupProbe": "/health/live", "livenessProbe": "/health/live", "readinessProbe": "/health/ready"}
_PLACES = {
    "k8s-app=kube-dns": "dns",
    "app.kubernetes.io/name=rabbitmq": RABBITMQ,
    "app.kubernetes.io/name=mongodb": MONGODB,
    "app.kubernetes.io/name=otel-collector": TRACES,
}


def of_kind(resources: list[Resource], *kinds: str) -> list[Resource]:
    return [resource for resource in resources if resource["kind"] in kinds]


def find(resources: list[Resource], kind: str, name: str) -> Resource:
    return next(one for one in of_kind(resources, kind) if one["metadata"]["name"] == name)


def name_of(resource: Resource) -> str:
    return f"{resource['kind']} {resource['metadata']['name']}"


def workloads(resources: list[Resource]) -> list[Resource]:
    return of_kind(resources, "Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob")


def apps(resources: list[Resource]) -> dict[str, Resource]:
    """The Deployments of our apps, by app."""
    return {one["metadata"]["name"]: one for one in of_kind(resources, "Deployment") if is_ours(one)}


def is_ours(workload: Resource) -> bool:
    """Whether it runs our image."""
    return workload["metadata"].get("labels", {}).get("app.kubernetes.io/part-of") == "orderflow"


def _template(workload: Resource) -> Resource:
    spec = workload["spec"]
    template: Resource = spec.get("jobTemplate", {"spec": spec})["spec"]["template"]
    return template


def pod_of(workload: Resource) -> Resource:
    spec: Resource = _template(workload)["spec"]
    return spec


def labels_of(workload: Resource) -> dict[str, str]:
    labels: dict[str, str] = _template(workload)["metadata"]["labels"]
    return labels


def containers_of(workload: Resource) -> list[Resource]:
    pod = pod_of(workload)
    return [*pod.get("initContainers", []), *pod["containers"]]


def restricted(resources: list[Resource]) -> Problems:
    """Kubernetes' level `restricted`, numeric users, and nothing to write to but named volumes."""
    labels = find(resources, "Namespace", NAMESPACE)["metadata"]["labels"]
    if labels.get("pod-security.kubernetes.io/enforce") != "restricted":
        yield "the namespace does not enforce the level restricted"
    for one in workloads(resources):
        if one["metadata"]["namespace"] == NAMESPACE:
            for problem in chain(_of_pod(pod_of(one)), *map(_of_container, containers_of(one))):
                yield f"{name_of(one)}: {problem}"


def _of_pod(pod: Resource) -> Problems:
    context = pod.get("securityContext", {})
    if not context.get("runAsNonRoot") or not context.get("runAsUser"):
        yield "may run as root"
    if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "has no seccomp profile"
    if any(pod.get(field) for field in ("hostNetwork", "hostPID", "hostIPC")):
        yield "uses the node's namespaces"
    if any("hostPath" in volume for volume in pod.get("volumes", [])):
        yield "uses the node's files"


def _of_container(container: Resource) -> Problems:
    context = container.get("securityContext", {})
    if context.get("privileged") or context.get("allowPrivilegeEscalation") is not False:
        yield f"{container['name']} may gain privileges"
    if context.get("capabilities") != {"drop": ["ALL"]}:
        yield f"{container['name']} keeps capabilities"
    if not context.get("readOnlyRootFilesystem"):
        yield f"{container['name']} can write to its image"


def no_tokens(resources: list[Resource]) -> Problems:
    """Nobody can call Kubernetes."""
    for account in of_kind(resources, "ServiceAccount"):
        if account.get("automountServiceAccountToken") is not False:
            yield f"{name_of(account)}: hands out its token"
    for one in workloads(resources):
        if pod_of(one).get("automountServiceAccountToken") is not False:
            yield f"{name_of(one)}: has a token"


def probed(resources: list[Resource]) -> Problems:
    """Apps have the three probes on their own endpoints; whatever else stays up has two."""
    for app, one in apps(resources).items():
        container = pod_of(one)["containers"][0]
        if container.get("ports") != [{"name": "http", "containerPort": 8000}]:
            yield f"{app}: does not serve `http` on port 8000"
        for probe, path in _PROBES.items():
            if container.get(probe, {}).get("httpGet") != {"path": path, "port": "http"}:
                yield f"{app}: {probe} does not ask {path}"
        start = container.get("startupProbe", {})
        if start.get("periodSeconds", 10) * start.get("failureThreshold", 3) < _WAITS_SECONDS:
            yield f"{app}: is restarted while it waits for RabbitMQ or MongoDB"
    for one in workloads(resources):
        if one["kind"] not in ("Job", "CronJob"):
            for container in pod_of(one)["containers"]:
                if "livenessProbe" not in container or "readinessProbe" not in container:
                    yield f"{name_of(one)}: {container['name']} is not probed"


def stops_in_time(resources: list[Resource]) -> Problems:
    """The grace period covers what a stop may take, with the pause before it."""
    settings = find_settings(resources)
    drain = float(
        settings.get(
            "ORDERFLOW_DRAIN_TIMEOUT_SECONDS", Settings.model_fields["drain_timeout_seconds"].default
        )
    )
    for app, one in apps(resources).items():
        pod = pod_of(one)
        pause = (
            pod["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        )
        if app == "ingress" and not pause:
            yield "ingress: stops before load balancers know"
        if pod.get("terminationGracePeriodSeconds", 30) < drain + _EXIT_SECONDS + pause:
            yield f"{app}: is killed before it has stopped"


def rolls_without_gap(resources: list[Resource]) -> Problems:
    """A new pod is ready before an old one goes, and pods are spread over zones and nodes."""
    for app, one in apps(resources).items():
        if one["spec"].get("strategy", {}).get("rollingUpdate", {}).get("maxUnavailable") != 0:
            yield f"{app}: a rollout takes pods away first"
        spread = {
            rule["topologyKey"]
            for rule in pod_of(one).get("topologySpreadConstraints", [])
            if rule["labelSelector"]["matchLabels"] == one["spec"]["selector"]["matchLabels"]
        }
        if spread != {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}:
            yield f"{app}: is not spread over zones and nodes"
        budgets = [
            budget
            for budget in of_kind(resources, "PodDisruptionBudget")
            if budget["spec"]["selector"]["matchLabels"] == one["spec"]["selector"]["matchLabels"]
        ]
        if [budget["spec"].get("maxUnavailable") for budget in budgets] != [1]:
            yield f"{app}: has no disruption budget of one pod"


def bounded(resources: list[Resource]) -> Problems:
    """Every container asks for CPU and memory, and gets no more memory, so that no node runs short."""
    for one in workloads(resources):
        for container in containers_of(one):
            resources_ = container.get("resources", {})
            requests, limits = resources_.get("requests", {}), resources_.get("limits", {})
            if (
                "cpu" not in requests
                or not requests.get("memory")
                or requests["memory"] != limits.get("memory")
            ):
                yield f"{name_of(one)}: {container['name']} has no bounds"


def images_by_digest(resources: list[Resource]) -> Problems:
    """Our image is the one that was built and signed; those of others have a version."""
    for one in workloads(resources):
        for container in containers_of(one):
            image = container["image"]
            if is_ours(one) and not image.startswith("ghcr.io/orderflow/orderflow@sha256:"):
                yield f"{name_of(one)}: {image} is not named by its digest"
            if not is_ours(one) and (":" not in image or image.endswith(":latest")):
                yield f"{name_of(one)}: {image} has no version"


def every_app_is_there(resources: list[Resource]) -> Problems:
    """Each app is a Deployment with its command, its service account and its Secret."""
    found = apps(resources)
    if set(found) != set(APPS):
        yield f"apps: {sorted(set(found) ^ set(APPS))} is missing, or too many"
    for app, one in found.items():
        pod = pod_of(one)
        if pod["containers"][0].get("command") != _command(app):
            yield f"{app}: is started otherwise"
        if pod["serviceAccountName"] != app:
            yield f"{app}: has the service account of another"
        if labels_of(one).get("app.kubernetes.io/component") != ("ingress" if app == "ingress" else "worker"):
            yield f"{app}: has the wrong component"
        mounts = {mount["mountPath"]: mount for mount in pod["containers"][0]["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        secrets = mounts.get("/run/secrets", {})
        if volumes.get(secrets.get("name"), {}).get("secret", {}).get("secretName") != f"orderflow-{app}":
            yield f"{app}: does not read its own secrets"
        elif not secrets.get("readOnly"):
            yield f"{app}: could write to its secrets"


def _command(app: str) -> list[str]:
    listen = ["--host", "0.0.0.0", "--port", "8000"]  # noqa: S104  # in a pod of its own
    if app == "ingress":
        return ["uvicorn", "apps.ingress.api:api", *listen, "--timeout-keep-alive", "75"]
    return ["faststream", "run", f"apps.{app}.app:app", *listen]


def find_settings(resources: list[Resource]) -> dict[str, str]:
    """The settings that all apps share."""
    for one in of_kind(resources, "ConfigMap"):
        if one["metadata"]["name"].startswith("settings-"):
            data: dict[str, str] = one["data"]
            return data
    return {}


def variables_exist(resources: list[Resource]) -> Problems:
    """Every variable is a setting of ours, or one that a library is known to read."""
    known = (
        {f"ORDERFLOW_{field.upper()}" for field in Settings.model_fields} | _OWN_VARIABLES | _OTHERS_VARIABLES
    )
    for name in find_settings(resources).keys() - known:
        yield f"ConfigMap settings: {name} is no setting"
    for one in workloads(resources):
        if is_ours(one):
            for container in containers_of(one):
                for variable in container.get("env", []):
                    if variable["name"] not in known:
                        yield f"{name_of(one)}: {variable['name']} is no setting"


def secret_keys_exist(resources: list[Resource]) -> Problems:
    """Every key that is asked for by name is one of the files that the settings read."""
    known = {f"orderflow_{field}" for field in Settings.model_fields}
    for one in of_kind(resources, "TriggerAuthentication"):
        for reference in one["spec"]["secretTargetRef"]:
            if reference["name"] != f"orderflow-{one['metadata']['name']}" or reference["key"] not in known:
                yield f"{name_of(one)}: no app has the secret {reference['name']}/{reference['key']}"
    users = next(
        volume for volume in pod_of(find(resources, "Job", "topology"))["volumes"] if "projected" in volume
    )
    folders = set()
    for source in users["projected"]["sources"]:
        app = source["secret"]["name"].removeprefix("orderflow-")
        for item in source["secret"]["items"]:
            if item["key"] not in known or item["path"] != f"{app}/{item['key']}":
                yield f"Job topology: {item['path']} is no secret of {app}"
        folders.add(app)
    if folders != set(APPS):
        yield f"Job topology: makes no users for {sorted(set(APPS) - folders)}"


def references_exist(resources: list[Resource]) -> Problems:
    """What a resource of ours names is there: its service account, its settings, files and volumes."""
    names = {(one["kind"], one["metadata"]["name"]) for one in resources}
    for one in workloads(resources):
        pod = pod_of(one)
        if "serviceAccountName" in pod and ("ServiceAccount", pod["serviceAccountName"]) not in names:
            yield f"{name_of(one)}: there is no service account {pod['serviceAccountName']}"
        mapped = [volume["configMap"]["name"] for volume in pod.get("volumes", []) if "configMap" in volume]
        for container in containers_of(one):
            mapped += [source["configMapRef"]["name"] for source in container.get("envFrom", [])]
        for name in mapped:
            if ("ConfigMap", name) not in names:
                yield f"{name_of(one)}: there is no ConfigMap {name}"
        for volume in pod.get("volumes", []):
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claim and ("PersistentVolumeClaim", claim) not in names:
                yield f"{name_of(one)}: there is no claim {claim}"


def volumes_keep_their_modes(resources: list[Resource]) -> Problems:
    """No mount opens files to the group that are their owner's alone, such as RabbitMQ's cookie."""
    for one in workloads(resources):
        kept = "volumeClaimTemplates" in one["spec"] or any(
            "persistentVolumeClaim" in volume for volume in pod_of(one).get("volumes", [])
        )
        context = pod_of(one).get("securityContext", {})
        if kept and "fsGroup" in context and context.get("fsGroupChangePolicy") != "OnRootMismatch":
            yield f"{name_of(one)}: each mount changes the mode of every file"


def services_lead_to_pods(resources: list[Resource]) -> Problems:
    """Each Service has the pods of one workload, at ports that they have."""
    for one in of_kind(resources, "Service"):
        if one["spec"].get("type") == "ExternalName":
            continue
        pods = [each for each in workloads(resources) if _selects(one["spec"]["selector"], labels_of(each))]
        ports = {
            port["name"]
            for each in pods
            for container in pod_of(each)["containers"]
            for port in container["ports"]
        }
        if len(pods) != 1 or {port["targetPort"] for port in one["spec"]["ports"]} - ports:
            yield f"{name_of(one)}: leads nowhere"


def scales_freely(resources: list[Resource]) -> Problems:
    """An autoscaler has a Deployment that leaves the number of pods to it."""
    for one in of_kind(resources, "ScaledObject", "HorizontalPodAutoscaler"):
        target = one["spec"]["scaleTargetRef"]["name"]
        deployments = [
            each for each in of_kind(resources, "Deployment") if each["metadata"]["name"] == target
        ]
        if not deployments:
            yield f"{name_of(one)}: scales nothing"
        if any("replicas" in each["spec"] for each in deployments):
            yield f"{name_of(one)}: each release would set back the number of pods"


def every_queue_scales(resources: list[Resource]) -> Problems:
    """Each worker grows with each of its queues, between two pods and a bound."""
    queues = {app: set[str]() for app in WORKERS}
    for binding in bindings():
        if event_of(binding.queue):
            queues[binding.queue.name.partition(".")[0]].add(binding.queue.name)
        elif binding.queue.name in {"dead", "unrouted"}:
            queues["recovery"].add(binding.queue.name)
    scaled = {one["metadata"]["name"]: one["spec"] for one in of_kind(resources, "ScaledObject")}
    for app, expected in queues.items():
        spec = scaled.get(app, {"triggers": []})
        asked = {trigger["metadata"]["queueName"] for trigger in spec["triggers"]}
        if asked != expected:
            yield f"ScaledObject {app}: {sorted(asked ^ expected)} is missing, or none of its queues"
        if spec.get("minReplicaCount", 0) < 2 or not spec.get("maxReplicaCount"):
            yield f"ScaledObject {app}: is not bounded"
        if {trigger["authenticationRef"]["name"] for trigger in spec["triggers"]} != {app}:
            yield f"ScaledObject {app}: asks as another app"


def _selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in selector.items())


def _applies(policy: Resource, labels: Mapping[str, str]) -> bool:
    selector = policy["spec"]["podSelector"]
    return _selects(selector.get("matchLabels", {}), labels) and all(
        rule["operator"] == "In" and labels.get(rule["key"]) in rule["values"]
        for rule in selector.get("matchExpressions", [])
    )


def egress_of(resources: list[Resource], workload: Resource) -> set[str]:
    """Where a pod may go, as `place:port`; everything if no policy holds it back."""
    policies = [
        one
        for one in of_kind(resources, "NetworkPolicy")
        if one["metadata"]["namespace"] == workload["metadata"]["namespace"]
        and _applies(one, labels_of(workload))
    ]
    if not any("Egress" in one["spec"]["policyTypes"] for one in policies):
        return {"anywhere"}
    return {
        f"{_place(to)}:{port['port']}" + (f"-{port['endPort']}" if "endPort" in port else "")
        for policy in policies
        for rule in policy["spec"].get("egress", [])
        for to in rule.get("to", [{}])
        for port in rule.get("ports", [{"port": "any"}])
    }


def _place(to: Resource) -> str:
    if "ipBlock" in to:
        block = to["ipBlock"]
        is_public = block["cidr"] == "2000::/3" or set(block.get("except", [])) >= _PRIVATE
        return INTERNET if is_public else str(block["cidr"])
    labels = to.get("podSelector", {}).get("matchLabels", {})
    key = ",".join(f"{key}={value}" for key, value in labels.items())
    return _PLACES.get(key, key or "anywhere")


ALWAYS: tuple[Callable[[list[Resource]], Problems], ...] = (
    restricted,
    no_tokens,
    probed,
    stops_in_time,
    rolls_without_gap,
    bounded,
    every_app_is_there,
    variables_exist,
    secret_keys_exist,
    references_exist,
    volumes_keep_their_modes,
    services_lead_to_pods,
    scales_freely,
)
RELEASED = (*ALWAYS, images_by_digest, every_queue_scales)
"""For what serves customers."""


def problems(resources: list[Resource], rules: tuple[Callable[[list[Resource]], Problems], ...]) -> list[str]:
    return [problem for rule in rules for problem in rule(resources)]
