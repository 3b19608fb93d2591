"""Every alert fires when it should and not otherwise, and leads to a runbook; what collects is sound."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from apps.cli.local.stack import WORKERS
from apps.cli.system import BROKERS
from apps.kit.topology import RETRY_LEVELS
from tests.infra.conftest import Need

ROOT = Path(__file__).parents[2]
OBSERVABILITY = ROOT / "k8s" / "observability"
RUNBOOKS = ROOT / "docs" / "runbooks"
RUNBOOKS_URL = "https://github.com/orderflow/orderflow/blob/main/docs/runbooks"
RULES = OBSERVABILITY / "rules" / "orderflow.yaml"
UNIT_TESTS = sorted(RULES.parent.glob("*.test.yaml"))
PROMETHEUS = OBSERVABILITY / "prometheus.yml"
COLLECTORS = sorted(OBSERVABILITY.glob("otel-collector*.yaml"))
HEADINGS = ["Look", "Mend", "Over", "Prevent"]


def load(file: Path) -> Any:
    return yaml.safe_load(file.read_text())


ALERTS: list[dict[str, Any]] = [
    rule for group in load(RULES)["groups"] for rule in group["rules"] if "alert" in rule
]
NAMES = [alert["alert"] for alert in ALERTS]

each_alert = pytest.mark.parametrize("alert", ALERTS, ids=NAMES)
each_collector = pytest.mark.parametrize("file", COLLECTORS, ids=lambda file: file.stem)


def kebab(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()


def promtool(need: Need, *arguments: str) -> str:
    """What promtool says; the test fails if it objects."""
    check = [need("promtool", "apt-get install prometheus"), *arguments]
    done = subprocess.run(check, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_rules_are_valid(need: Need) -> None:
    """Prometheus loads the rules, and its configuration with them."""
    promtool(need, "check", "rules", str(RULES))
    promtool(need, "check", "config", str(PROMETHEUS))


@pytest.mark.parametrize("file", UNIT_TESTS, ids=lambda file: file.name)
def test_alerts_fire_when_they_should(need: Need, file: Path) -> None:
    """The unit tests of the rules pass: each alert at its time, with its text, and silence otherwise."""
    promtool(need, "test", "rules", str(file))


def test_unit_tests_see_a_rule_that_is_broken(need: Need, tmp_path: Path) -> None:
    """An alert that fires ten minutes late fails its unit test."""
    rules = RULES.read_text()
    assert rules.count("for: 1m") > 1
    (tmp_path / RULES.name).write_text(rules.replace("for: 1m", "for: 11m"))
    (tmp_path / "broken.test.yaml").write_text((RULES.parent / "orderflow.test.yaml").read_text())

    with pytest.raises(AssertionError, match="FAILED"):
        promtool(need, "test", "rules", str(tmp_path / "broken.test.yaml"))


@each_alert
def test_alert_tells_what_to_do(alert: dict[str, Any]) -> None:
    """An alert waits before it fires, says how bad it is and what it means, and leads to its own runbook."""
    assert alert["for"]
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert alert["annotations"]["summary"].endswith(".")
    assert alert["annotations"]["description"].endswith(".")
    assert alert["annotations"]["runbook_url"] == f"{RUNBOOKS_URL}/{kebab(alert['alert'])}.md"


@each_alert
def test_alert_is_tested_both_ways(alert: dict[str, Any]) -> None:
    """The unit tests see each alert fire, and see it silent."""
    expected = [
        bool(case["exp_alerts"])
        for file in UNIT_TESTS
        for test in load(file)["tests"]
        for case in test["alert_rule_test"]
        if case["alertname"] == alert["alert"]
    ]
    assert set(expected) == {True, False}


@each_alert
def test_runbook_is_complete(alert: dict[str, Any]) -> None:
    """A runbook says what the alert means and what customers notice, then what to do until it is over."""
    runbook = (RUNBOOKS / alert["annotations"]["runbook_url"].rpartition("/")[2]).read_text()

    assert runbook.startswith(f"# {alert['alert']}\n**Means.** ")
    assert "\n**Customers notice** " in runbook
    assert re.findall(r"^## (.+)$", runbook, re.MULTILINE) == HEADINGS


def useless(runbook: str) -> list[str]:
    """Commands that do not do what an operator needs: those of the job alone, and logs of one pod of many."""
    return re.findall(r"orderflow (?:topology|users) apply|kubectl logs deployment/\w+", runbook)


def test_commands_of_runbooks_are_an_operators() -> None:
    """No app's user may make users or queues, and `kubectl logs` of a Deployment reads one pod only."""
    assert {
        file.name: useless(file.read_text()) for file in RUNBOOKS.glob("*.md") if useless(file.read_text())
    } == {}


@pytest.mark.parametrize(
    "command",
    [
        "orderflow topology apply",
        "orderflow users apply DIRECTORY",
        "kubectl logs deployment/stock --since=10m",
    ],
)
def test_useless_command_is_seen(command: str) -> None:
    """The check above finds each such command in a runbook."""
    assert useless(f"```sh\n{command}\n```")


def test_runbooks_are_those_of_the_alerts() -> None:
    """No runbook is left of an alert that is gone, and the list of them has the severities of the rules."""
    assert {file.stem for file in RUNBOOKS.glob("*.md")} == {kebab(name) for name in NAMES} | {"README"}
    listed = re.findall(
        r"^\| \[(\w+)\]\(([\w-]+)\.md\) \| (\w+) \|", (RUNBOOKS / "README.md").read_text(), re.MULTILINE
    )
    assert sorted(listed) == sorted(
        (alert["alert"], kebab(alert["alert"]), alert["labels"]["severity"]) for alert in ALERTS
    )


def test_no_consumer_is_about_every_queue_of_ours() -> None:
    """Each queue that an app consumes is one that the alert watches, and no retry queue is."""
    (alert,) = [alert for alert in ALERTS if alert["alert"] == "NoConsumer"]
    (pattern,) = re.findall(r'queue=~"([^"]+)"', alert["expr"])
    watched = re.compile(pattern)

    for broker in BROKERS:
        for consumer in broker.consumers:
            assert watched.fullmatch(consumer.queue.name), consumer.queue.name
    assert not any(watched.fullmatch(level.queue.name) for level in RETRY_LEVELS)


def test_every_app_is_scraped() -> None:
    """Prometheus asks every app on its port, and names it by the label `app`."""
    jobs = {job["job_name"]: job for job in load(PROMETHEUS)["scrape_configs"]}
    (discovery,) = jobs["orderflow"]["dns_sd_configs"]
    (relabelling,) = jobs["orderflow"]["relabel_configs"]

    assert set(discovery["names"]) == {"ingress", *WORKERS}
    assert (discovery["type"], discovery["port"]) == ("A", 8000)
    assert relabelling == {"source_labels": ["__meta_dns_name"], "target_label": "app"}


@each_collector
def test_collector_pipelines_are_whole(file: Path) -> None:
    """What a pipeline names is defined, what is defined is used, and memory is bounded before all else."""
    collector = load(file)
    pipelines = collector["service"]["pipelines"].values()

    for kind in ("receivers", "processors", "exporters"):
        assert {name for pipeline in pipelines for name in pipeline[kind]} == set(collector[kind])
    assert set(collector["service"]["extensions"]) == set(collector["extensions"])
    assert all(pipeline["processors"][0] == "memory_limiter" for pipeline in pipelines)
    assert all(pipeline["processors"][-1] == "batch" for pipeline in pipelines)
