"""Fixtures of the fault suite: shared services, one `Scenario` per test, the seed, and the report."""

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.faults.accounts import repeated_mails
from tests.faults.books import read_books
from tests.faults.ledger import violations
from tests.faults.load import Load
from tests.faults.report import Row, write
from tests.faults.services import Services, running_services
from tests.faults.system import System, running_system
from tests.faults.violation import Kind

SEED = pytest.StashKey[str]()
ROWS = pytest.StashKey[list[Row]]()
DESELECTED = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--faults", action="store_true", help="Run every fault scenario, the long ones too.")
    group.addoption("--seed", help="Seed of the loads and of what is killed when; random if not given.")
    group.addoption("--report", type=Path, metavar="FILE", help="Write what the scenarios have shown there.")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SEED] = config.getoption("seed", None) or secrets.token_hex(4)
    config.stash[ROWS] = []
    config.stash[DESELECTED] = 0


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes long, unless the whole suite is asked for."""
    if config.getoption("faults", default=False):
        return
    long = [item for item in items if item.get_closest_marker("faults") and not is_representative(item)]
    if long:
        items[:] = [item for item in items if item not in long]
        config.hook.pytest_deselected(items=long)
        config.stash[DESELECTED] = len(long)


def is_representative(item: pytest.Item) -> bool:
    return item.get_closest_marker("representative") is not None


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    lines = [f"seed of the fault suite: {config.stash[SEED]} (--seed)"]
    if left_out := config.stash[DESELECTED]:
        lines.append(f"{left_out} long fault scenarios are left out: `just faults` runs all of them")
    return lines


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the report, of a run without failures only: it is a promise to its readers."""
    config = session.config
    file = config.getoption("report", None)
    if file and config.stash[ROWS] and exitstatus == pytest.ExitCode.OK:
        write(file, config.stash[ROWS])


@pytest.fixture(scope="session")
async def services(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Services]:
    async with running_services(tmp_path_factory.mktemp("services")) as services:
        yield services


@dataclass
class Scenario:
    """One row of the report: starts its system, closes its books."""

    services: Services
    home: Path
    row: Row
    rows: list[Row]
    recovered_after_seconds: float | None = None

    @property
    def seed(self) -> str:
        return f"{self.row.seed}/{self.row.number}/{self.row.broken}"

    def system(self, **options: Any) -> AbstractAsyncContextManager[System]:
        """The scenario's system: see `running_system` for the options."""
        return running_system(self.services, self.home, self.seed, **options)

    async def recovered(self, system: System, load: Load, deadline_seconds: float = 180) -> None:
        """Call where the fault is over: waits until everything accepted before is settled, and times it."""
        seconds = await system.recovered(load, deadline_seconds)
        self.recovered_after_seconds = max(seconds, self.recovered_after_seconds or 0)

    async def passes(
        self,
        system: System,
        load: Load,
        deadline_seconds: float = 180,
        *,
        keeps: frozenset[str] = frozenset(),
    ) -> None:
        """Wait until all is done, hold the ledger's audit, and note its result for the report."""
        began = time.monotonic()
        await system.settled(load, deadline_seconds, keeps=keeps)
        waited = time.monotonic() - began
        books = await read_books(system)
        found = list(violations(books, load, keeps=keeps))
        seconds = waited if self.recovered_after_seconds is None else self.recovered_after_seconds
        self.rows.append(
            replace(
                self.row,
                orders=str(len(load.placed)),
                messages=str(len(books.published)),
                recovered_after=f"{seconds:.1f} s",
                lost=str(sum(one.kind in {Kind.LOST, Kind.LEFT_OVER} for one in found)),
                duplicated=str(sum(one.kind is Kind.DUPLICATED for one in found)),
                repeated_mails=str(repeated_mails(books)),
            )
        )
        shown = "\n".join(str(one) for one in found[:30])
        assert not found, f"{len(found)} violations, seed {self.row.seed}:\n{shown}"


@pytest.fixture
def scenario(request: pytest.FixtureRequest, services: Services, tmp_path: Path) -> Scenario:
    """What `@pytest.mark.faults(number, scenario, broken)` announces; a parameter's id goes to `broken`."""
    marker = request.node.get_closest_marker("faults")
    number, title, broken = marker.args
    callspec = getattr(request.node, "callspec", None)
    row = Row(
        number=str(number),
        scenario=title,
        broken=broken.format(callspec.id if callspec else ""),
        rabbitmq=services.rabbitmq_version,
        orders="",
        messages="",
        recovered_after="",
        lost="",
        duplicated="",
        repeated_mails="",
        seed=request.config.stash[SEED],
    )
    home = tmp_path / "system"
    home.mkdir()
    return Scenario(services, home, row, request.config.stash[ROWS])
