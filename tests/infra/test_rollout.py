"""A deployment keeps its order, stops where it fails and goes back; a release tells what is in it."""

import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from apps.cli.system import documents

ROOT = Path(__file__).parents[2]
ROLLOUT = ROOT / ".github/actions/rollout/rollout"

FAKE = """#!/bin/sh
echo "$(basename "$0") $*" >> "$RUNNER_TEMP/calls"
case "$*" in
*"rollout status deployment/$FAILS "* | *"wait "*"job/$FAILS") exit 1 ;;
*"get deployment $NEW "*replicas*) printf 1 ;;
*"get deployment $NEW "*) ;;
*"get deployment"*) printf 7 ;;
esac
"""


def run(*command: str | Path, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, **options)  # noqa: S603


class Cluster:
    """A working copy, and programs that note how they are called in place of those that reach a cluster."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._calls = home / "calls"
        (home / "k8s/overlays/staging").mkdir(parents=True)
        for program in ("kubectl", "kustomize", "yq"):
            path = home / "bin" / program
            path.parent.mkdir(exist_ok=True)
            path.write_text(FAKE)
            path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def rollout(self, *arguments: str, fails: str = "", new: str = "") -> tuple[int, list[str]]:
        """Its exit code, and the calls that it made."""
        self._calls.write_text("")
        environment = {
            "PATH": f"{self._home / 'bin'}:/usr/bin:/bin",
            "RUNNER_TEMP": str(self._home),
            "FAILS": fails,
            "NEW": new,
        }
        done = run(ROLLOUT, *arguments, cwd=self._home, env=environment)
        return done.returncode, self._calls.read_text().splitlines()


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def applied(calls: list[str]) -> list[str]:
    """The apps and jobs that were applied by their own name, in order."""
    return [call.rsplit("name=", 1)[1] for call in calls if " apply " in call and "name=" in call]


def test_rollout_prepares_the_topology_and_puts_consumers_before_producers(cluster: Cluster) -> None:
    """No app publishes an event in its new shape before all that receive it know that shape."""
    code, calls = cluster.rollout("to", "staging", "registry.example/orderflow@sha256:0")

    assert code == 0
    assert "kustomize edit set image orderflow=registry.example/orderflow@sha256:0" in calls
    order = applied(calls)
    assert order[0] == "topology"
    assert calls.index(next(call for call in calls if "wait" in call)) < calls.index(
        next(call for call in calls if call.endswith(f"name={order[1]}"))
    )
    specifications = {
        name: document.to_specification().to_jsonable() for name, document in documents().items()
    }
    del specifications["system"]
    assert set(order[1:]) == set(specifications)
    for publisher, sent in events(specifications, "send").items():
        for consumer, received in events(specifications, "receive").items():
            if sent & received and consumer != publisher:
                assert order.index(consumer) < order.index(publisher), f"{consumer} before {publisher}"


def test_queues_are_asked_for_when_they_and_the_apps_are_there(cluster: Cluster) -> None:
    """KEDA opens connections for each queue that it does not find."""
    _, calls = cluster.rollout("to", "staging", "image@sha256:0")

    (scaled,) = [call for call in calls if call.endswith("autoscalers.yaml")]
    assert " apply " in scaled
    assert calls[-1] == scaled


def test_an_app_that_is_new_has_two_pods_before_anything_scales_it(cluster: Cluster) -> None:
    """What autoscalers have decided for the others stays."""
    _, calls = cluster.rollout("to", "staging", "image@sha256:0", new="webhooks")

    (scaled,) = [call for call in calls if " scale " in call]
    assert scaled.endswith("scale deployment/webhooks --replicas 2")
    assert calls.index(next(call for call in calls if "status deployment/webhooks" in call)) > calls.index(
        scaled
    )


def events(specifications: dict[str, Any], action: str) -> dict[str, set[str]]:
    """What each app sends or receives, by the operations of its AsyncAPI document."""
    return {
        app: {
            name.rsplit(".", 1)[1]
            for name, operation in document["operations"].items()
            if operation["action"] == action
        }
        for app, document in specifications.items()
    }


def test_rollout_stops_at_the_first_app_that_does_not_get_ready(cluster: Cluster) -> None:
    code, calls = cluster.rollout("to", "staging", "image@sha256:0", fails="billing")

    assert code == 1
    assert applied(calls)[-1] == "billing"


def test_rollout_touches_no_app_if_the_topology_is_not_ready(cluster: Cluster) -> None:
    code, calls = cluster.rollout("to", "staging", "image@sha256:0", fails="topology")

    assert code == 1
    assert applied(calls) == ["topology"]
    assert cluster.rollout("back")[1] == []


def test_rollback_undoes_what_was_touched_and_nothing_else_the_last_one_first(cluster: Cluster) -> None:
    """Each app goes back to the revision that it had; one that is new has none."""
    _, calls = cluster.rollout("to", "staging", "image@sha256:0", fails="notifications", new="webhooks")
    touched = applied(calls)[1:]

    code, calls = cluster.rollout("back")

    assert code == 0
    undone = [call for call in calls if "undo" in call]
    expected = [app for app in reversed(touched) if app != "webhooks"]
    assert [re.search(r"deployment/(\w+) --to-revision 7$", call)[1] for call in undone] == expected  # type: ignore[index]


def test_rollout_without_arguments_says_how_it_is_used(cluster: Cluster) -> None:
    assert cluster.rollout()[0] == 2


def test_release_notes_are_the_section_of_the_changelog(tmp_path: Path) -> None:
    (tmp_path / "CHANGELOG.md").write_text(
        "## Unreleased\n- next\n\n## 1.10.0 - 2026-12-01\n\n### Added\n- this\n\n## 1.1.0\n- before\n"
    )
    notes = ROOT / ".github/release-notes"

    assert run(notes, "1.10.0", cwd=tmp_path).stdout == "### Added\n- this\n\n"
    assert run(notes, "1.1.0", cwd=tmp_path).stdout == "- before\n\n"
    missing = run(notes, "1.2.0", cwd=tmp_path)
    assert (missing.returncode, missing.stderr) == (1, "CHANGELOG.md has no section for 1.2.0\n")


def test_versions_of_both_wheels_are_the_same() -> None:
    """A release sets one tag for both."""
    versions = {
        re.search(r'^version = "(.+)"$', (ROOT / file).read_text(), re.MULTILINE)[1]  # type: ignore[index]
        for file in ("pyproject.toml", "contracts/pyproject.toml")
    }
    assert len(versions) == 1
