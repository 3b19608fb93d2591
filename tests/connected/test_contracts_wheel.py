"""The contracts as other systems install them: what contracts/README.md shows, run as it stands."""

import asyncio
import json
import os
import re
import sys
import tomllib
from pathlib import Path
from uuid import UUID

import pytest
from conftest import System

from contracts import EVENTS, OrderCreated

pytestmark = pytest.mark.connected

ROOT = Path(__file__).parents[2]
README = ROOT / "contracts" / "README.md"
UV = Path(sys.executable).with_name("uv")


async def run(*command: str | Path, cwd: Path, environment: dict[str, str] | None = None) -> str:
    """Standard output of a command that must succeed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


def snippet(number: int) -> str:
    """One of the Python programs of the README."""
    return re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)[number]


@pytest.fixture(scope="module")
async def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project outside, with the wheel and its extra in an environment of its own."""
    directory = tmp_path_factory.mktemp("outside")
    uv = UV if UV.exists() else Path("uv")
    await run(uv, "build", "--quiet", "--wheel", "--out-dir", directory / "dist", "contracts", cwd=ROOT)
    [wheel] = (directory / "dist").glob("*.whl")
    await run(uv, "venv", "--quiet", "--python", sys.executable, cwd=directory)
    # Under `uv run` another environment is the active one.
    install = (uv, "pip", "install", "--quiet", "--python", python(directory))
    await run(*install, f"{wheel}[testing]", "mypy", cwd=directory)
    for number, name in enumerate(("publish.py", "shipping.py", "test_shipping.py", "schema.py")):
        (directory / name).write_text(snippet(number))
    return directory


def python(project: Path) -> Path:
    return project / ".venv" / "bin" / "python"


async def test_wheel_holds_the_contracts_and_nothing_else(project: Path) -> None:
    """Models, types and schemas are there; the apps and the build's own files are not."""
    found = await run(
        python(project),
        "-c",
        "import contracts, pathlib, importlib.util as u; print(u.find_spec('apps')); "
        "[print(p.name) for p in pathlib.Path(contracts.__file__).parent.rglob('*') if p.is_file()]",
        cwd=project,
    )
    apps, *names = found.split()
    assert apps == "None"
    sources = {file.name for file in (ROOT / "contracts").glob("*.py")}
    schemas = {f"{event.topic}.json" for event in EVENTS}
    assert {name for name in names if not name.endswith(".pyc")} == sources | schemas | {"py.typed"}


async def test_readme_publishes_an_order_to_a_real_broker(project: Path, system: System) -> None:
    """Ten lines with aio-pika and the contracts place an order that the whole system takes to its end."""
    await run(
        python(project), "publish.py", cwd=project, environment={"RABBITMQ_URL": system.stack.rabbitmq_url}
    )
    order = await system.settled(UUID(OrderCreated.example["order_id"]))
    assert order["status"] in {"rejected", "notified"}


async def test_readme_tests_pass_by_the_plugin_alone(project: Path) -> None:
    """An outside service tests its handlers against our examples: the installed plugin is all it needs."""
    told = await run(python(project), "-m", "pytest", "-q", "test_shipping.py", cwd=project)
    assert "2 passed" in told


async def test_changed_handler_is_caught(project: Path) -> None:
    """The README's test fails once the service subscribes to another event."""
    broken = project / "broken"
    broken.mkdir()
    (broken / "test_shipping.py").write_text(snippet(2))
    (broken / "shipping.py").write_text(snippet(1).replace("OrderValidated", "OrderRejected"))
    with pytest.raises(AssertionError, match="SubscriberNotFound"):
        await run(python(project), "-m", "pytest", "-q", "test_shipping.py", cwd=broken)


async def test_readme_reads_a_schema(project: Path) -> None:
    """The schemas come with the wheel."""
    told = await run(python(project), "-c", f"{snippet(3)}\nprint(json.dumps(schema['title']))", cwd=project)
    assert json.loads(told) == "OrderCreated"


async def test_readme_is_typed(project: Path) -> None:
    """What the README shows passes mypy in strict mode, so the types of the wheel are seen."""
    await run(
        python(project),
        *("-m", "mypy", "--strict", "publish.py", "shipping.py", "test_shipping.py"),
        cwd=project,
    )


def test_versions_are_one() -> None:
    """The contracts are released together with Orderflow."""
    versions = {
        tomllib.loads((folder / "pyproject.toml").read_text())["project"]["version"]
        for folder in (ROOT, ROOT / "contracts")
    }
    assert len(versions) == 1
