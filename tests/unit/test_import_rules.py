"""The import rules hold, and a violation is found."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")


def lint_imports(tree: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603
        [LINT_IMPORTS, "--no-cache"], cwd=tree, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what the rules are about."""
    for package in ("apps", "contracts"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_rules_are_kept(tree: Path) -> None:
    """Apps stand alone, contracts depend on nothing, and rules are pure."""
    outcome = lint_imports(tree)
    assert outcome.returncode == 0, outcome.stdout


@pytest.mark.parametrize(
    ("module", "imported", "rule"),
    [
        ("contracts/orders.py", "apps.kit.clock", "Contracts depend on nothing of ours"),
        ("apps/stock/application.py", "apps.billing.domain", "Apps never import each other"),
        ("apps/kit/clock.py", "apps.orders.domain", "The kit knows no app"),
        ("apps/billing/application.py", "apps.cli.output", "No app knows who puts it together"),
        ("apps/stock/domain.py", "apps.kit.clock", "Rules are pure"),
        ("apps/site/pages.py", "contracts.orders", "The site is drawn from the documents"),
    ],
)
def test_violation_is_found(tree: Path, module: str, imported: str, rule: str) -> None:
    """Each rule bites when it is broken, so a green run means something."""
    with (tree / module).open("a") as file:
        file.write(f"\nimport {imported}\n")
    outcome = lint_imports(tree)
    assert outcome.returncode == 1, outcome.stdout + outcome.stderr
    [broken] = [entry for entry in outcome.stdout.splitlines() if rule in entry and "BROKEN" in entry]
    assert broken
