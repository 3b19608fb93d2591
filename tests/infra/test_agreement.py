"""Names that stand in several files are the same in all of them, and each planted disagreement is seen."""

import shutil
from pathlib import Path

import pytest

from tests.infra.agreement import (
    CHECKS,
    SPOKEN_OF,
    Check,
    WorkingCopy,
    apps_in_clusters,
    commands_and_ports,
    data_subnets,
    environments,
    grace,
    images,
    known_outside,
    metric_names,
    queues,
    roles,
    secret_files,
    secrets_in_containers,
    stores_in_aws,
    traces,
    variables,
    versions,
)
from tests.infra.conftest import Need

ROOT = Path(__file__).parents[2]
each_check = pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)


@pytest.fixture(scope="module")
def working_copy(need: Need) -> WorkingCopy:
    need("kubectl", "apt-get install kubectl (Debian 13 or later), or from kubernetes.io")
    return WorkingCopy(ROOT)


@pytest.fixture
def spoilt(need: Need, tmp_path: Path) -> WorkingCopy:
    """A copy to plant a disagreement in."""
    need("kubectl", "apt-get install kubectl (Debian 13 or later), or from kubernetes.io")
    for place in (*SPOKEN_OF, "asyncapi"):
        source = ROOT / place
        if source.is_dir():
            shutil.copytree(
                source, tmp_path / place, ignore=shutil.ignore_patterns("node_modules", ".terraform")
            )
        else:
            shutil.copy(source, tmp_path / place)
    for overlay in ("dev", "self-hosted"):  # one or two show it, and are built in less time
        shutil.rmtree(tmp_path / "k8s/overlays" / overlay)
    return WorkingCopy(tmp_path)


@each_check
def test_files_agree(check: Check, working_copy: WorkingCopy) -> None:
    assert list(check(working_copy)) == []


BASE, STAGING, SEEN = "k8s/base/", "k8s/overlays/staging/", "k8s/observability/"
COMPONENTS, ACCESS, WORKFLOWS = "k8s/components/", "terraform/modules/access/", ".github/workflows/"
SCALED = f"{COMPONENTS}keda/scaled-objects.yaml"
SECRETS = f"{COMPONENTS}external-secrets/external-secrets.yaml"
OVERLAY = f"{STAGING}kustomization.yaml"
ALERTS, BOARD = f"{SEEN}rules/orderflow.yaml", f"{SEEN}dashboards/overview.json"


@pytest.mark.parametrize(
    ("check", "file", "old", "new", "found"),
    [
        (variables, f"{BASE}settings.env", "DECLARE_TOPOLOGY", "DECLARE_QUEUES", "DECLARE_QUEUES"),
        (variables, "compose.yml", "OTEL_TRACES_SAMPLER:", "OTEL_SAMPLER:", "OTEL_SAMPLER"),
        (secret_files, f"{BASE}topology/job.yaml", "orderflow_mongodb_url", "orderflow_db_url", "_db_url"),
        (images, OVERLAY, "newName: ghcr.io/orderflow/", "newName: ghcr.io/other/", "other/orderflow"),
        (images, f"{WORKFLOWS}release.yml", "ghcr.io/orderflow/", "ghcr.io/other/", "other/orderflow"),
        (images, "compose.yml", "  image: orderflow\n", "  image: app\n", "stock runs app"),
        (
            versions,
            "compose.yml",
            "contrib:0.158.0",
            "contrib:0.159.0",
            "logs/collector.yaml: Compose does not",
        ),
        (versions, "compose.yml", "rabbitmq:4.2-management", "rabbitmq:4.3-management", "rabbitmq-operator"),
        (versions, "compose.yml", "mongo:8.0", "mongo:8.2", "MongoDB 8.0.12"),
        (versions, ".github/dependabot.yml", '"/k8s/components/*"', "/k8s/base", "does not raise"),
        (
            data_subnets,
            "terraform/environments/staging/main.tf",
            '"10.20.0.0/16"',
            '"10.40.0.0/16"',
            "10.40.240.0/22",
        ),
        (data_subnets, OVERLAY, "10.20.244.0/22", "10.20.0.0/16", "unknown ['10.20.0.0/16']"),
        (
            data_subnets,
            "terraform/modules/network/main.tf",
            "(var.cidr_block, 4, 15), 2, index)",
            "(var.cidr_block, 4, 14), 2, index)",
            "data subnets are elsewhere",
        ),
        (commands_and_ports, "Dockerfile", "EXPOSE 8000", "EXPOSE 8080", "does not expose"),
        (commands_and_ports, f"{SEEN}prometheus.yml", "port: 8000", "port: 8080", "asks port 8080"),
        (commands_and_ports, f"{BASE}stock/kustomization.yaml", '"8000"', '"8080"', "stock is started by"),
        (commands_and_ports, f"{BASE}app/deployment.yaml", "Port: 8000", "Port: 8080", "listens on"),
        (
            commands_and_ports,
            "compose.yml",
            "apps.billing.app:app",
            "apps.bill.app:app",
            "billing is started",
        ),
        (known_outside, f"{SEEN}prometheus.yml", ", webhooks", "", "webhooks"),
        (
            secrets_in_containers,
            "compose.yml",
            "[secrets-stock:/run",
            "[secrets-orders:/run",
            "secrets of stock",
        ),
        (apps_in_clusters, f"{BASE}kustomization.yaml", "  - documents\n", "", "pods: missing"),
        (apps_in_clusters, SECRETS, "key: billing", "key: bills", "bills"),
        (known_outside, f"{ACCESS}variables.tf", '"recovery", ', "", "secret_readers"),
        (queues, SCALED, "stock.order-created", "stock.order-made", "stock.order-made"),
        (metric_names, ALERTS, "orderflow_stuck_orders", "orderflow_stuck", "orderflow_stuck"),
        (metric_names, BOARD, "orderflow_orders_total", "orderflow_orders", "orderflow_orders"),
        (roles, f"{ACCESS}main.tf", "    documents = [", "    printing = [", "printing"),
        (roles, OVERLAY, "role/orderflow-staging-ingress", "role/orderflow-ingress", "ingress"),
        (
            stores_in_aws,
            f"{STAGING}settings.env",
            "s3://orderflow-staging",
            "s3://orderflow",
            "s3://orderflow-d",
        ),
        (environments, f"{WORKFLOWS}deploy.yml", "      name: production", "      name: live", "live"),
        (grace, "compose.yml", "stop_grace_period: 60s", "stop_grace_period: 30s", "killed after 30 s"),
        (grace, f"{BASE}app/deployment.yaml", "Seconds: 60", "Seconds: 45", "ingress is killed after 45"),
        (traces, f"{COMPONENTS}opentelemetry/kustomization.yaml", ":4318", ":4317", "otel-collector:4317"),
    ],
)
def test_planted_disagreement_is_seen(
    spoilt: WorkingCopy, check: Check, file: str, old: str, new: str, found: str
) -> None:
    text = spoilt.text(file)
    assert old in text
    (spoilt.root / file).write_text(text.replace(old, new))
    assert found in "\n".join(check(spoilt))
