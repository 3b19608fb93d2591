"""What `orderflow doctor` finds, and that its exit code says whether `orderflow up` could run."""

import json
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from apps.cli.doctor import (
    State,
    check_disk,
    check_mongodb,
    check_rabbitmq,
    check_running,
    check_tool,
    doctor,
)
from apps.cli.local.errors import LocalServiceError
from apps.cli.local.ports import free_port
from apps.cli.local.running import announced, exclusive, running_in


@pytest.fixture(autouse=True)
def _no_configured_services(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        *("ORDERFLOW_RABBITMQ_URL", "ORDERFLOW_MONGODB_URL"),
        *("ORDERFLOW_RABBITMQ_SERVER", "ORDERFLOW_MONGOD"),
    ):
        monkeypatch.delenv(name, raising=False)


def run_doctor(*arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(doctor)
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.stdout


def test_a_configured_broker_that_does_not_answer_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is named, so that it can be corrected, and the password is not printed."""
    monkeypatch.setenv("ORDERFLOW_RABBITMQ_URL", f"amqp://shop:secret@127.0.0.1:{free_port()}/")
    finding = check_rabbitmq()
    assert finding.state is State.MISSING
    assert "ORDERFLOW_RABBITMQ_URL" in finding.remedy
    assert "secret" not in finding.detail + finding.remedy


def test_a_configured_address_that_is_no_url_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A typing error in a URL is a finding, not a traceback."""
    monkeypatch.setenv("ORDERFLOW_RABBITMQ_URL", "rabbit on the table")
    monkeypatch.setenv("ORDERFLOW_MONGODB_URL", "postgres://localhost")
    assert check_rabbitmq().state is State.MISSING
    assert check_mongodb().state is State.MISSING


def test_a_mongod_that_is_not_there_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A wrong ORDERFLOW_MONGOD is reported instead of silently using another mongod."""
    monkeypatch.setenv("ORDERFLOW_MONGOD", str(tmp_path / "mongod"))
    finding = check_mongodb()
    assert (finding.state, bool(finding.remedy)) == (State.MISSING, True)


def test_a_tool_that_only_some_tasks_need_is_optional() -> None:
    """The absence of node does not stop anybody from running the system."""
    assert check_tool(str(Path(sys.executable)), "runs this test").state is State.OK
    finding = check_tool("no-such-tool", "does nothing")
    assert (finding.state, finding.remedy) == (State.OPTIONAL, "only does nothing")


def test_disk_is_measured_where_the_home_will_be(tmp_path: Path) -> None:
    """A home that does not exist yet is measured at its nearest parent."""
    finding = check_disk(tmp_path / "not" / "yet")
    assert finding.detail.endswith("GB free")


def test_a_running_system_is_found_by_its_home(tmp_path: Path) -> None:
    """Other commands find a running system, and are not misled by what a killed one left behind."""
    addresses = {"ORDERFLOW_API_URL": "http://127.0.0.1:8000", "ORDERFLOW_MONGODB_URL": "mongodb://h/?a=b#c"}
    assert "not running" in check_running(tmp_path).detail
    with exclusive(tmp_path), announced(tmp_path, addresses):
        assert running_in(tmp_path) == addresses
        assert check_running(tmp_path).detail == "is running: http://127.0.0.1:8000"
        with pytest.raises(LocalServiceError, match=r"running in .* already"), exclusive(tmp_path):
            pass
    (tmp_path / "env").write_text("ORDERFLOW_API_URL=http://127.0.0.1:1\n")
    assert running_in(tmp_path) == {}
    with exclusive(tmp_path):
        assert running_in(tmp_path) == {}


def test_exit_code_and_json_agree(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A missing requirement ends in exit code 1 and in `able: false`, for scripts to act on."""
    monkeypatch.setenv("ORDERFLOW_MONGOD", str(tmp_path / "mongod"))
    code, output = run_doctor("--json", "--home", str(tmp_path))
    report = json.loads(output)
    assert (code, report["able"]) == (1, False)
    assert {"name", "state", "detail", "remedy"} == set(report["checks"][0])
    assert [check["name"] for check in report["checks"] if check["state"] == "missing"] == ["MongoDB"]


def test_the_table_names_every_check(tmp_path: Path) -> None:
    """People see the same findings as programs."""
    _, output = run_doctor("--home", str(tmp_path))
    for name in ("Python", "RabbitMQ", "MongoDB", "Mail sink", "Disk", "orderflow up", "node"):
        assert name in output
