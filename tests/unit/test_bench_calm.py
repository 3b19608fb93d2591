"""A round of the benchmark counts if the machine was there, whatever the round measured."""

from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from tests.bench import calm as module
from tests.bench.calm import TRIES, calm


class Machine:
    """Others take so many seconds of its time in each try; no time passes otherwise but one second a try."""

    def __init__(self, stolen: Sequence[float]) -> None:
        self._stolen = list(stolen)
        self.tries = 0

    async def measure(self) -> list[dict[str, int]]:
        self.tries += 1
        return [{"try": self.tries}]

    def stolen_seconds(self) -> float:
        return sum(self._stolen[: self.tries])

    def now(self) -> float:
        return float(self.tries)


@pytest.fixture
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(request.param)
    monkeypatch.setattr(module, "_stolen_seconds", machine.stolen_seconds)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=machine.now))
    monkeypatch.setattr(module, "psutil", SimpleNamespace(cpu_count=lambda: 2))
    return machine


@pytest.mark.parametrize("machine", [[0.02]], indirect=True)
async def test_undisturbed_round_counts(machine: Machine) -> None:
    assert await calm(machine.measure, print) == [{"try": 1, "stolen": 0.01}]


@pytest.mark.parametrize("machine", [[0.5, 0.3, 0.1]], indirect=True)
async def test_disturbed_round_is_done_again(machine: Machine) -> None:
    """Five per cent of two cores' time is a tenth of a second a second."""
    said: list[str] = []
    assert await calm(machine.measure, said.append) == [{"try": 3, "stolen": 0.05}]
    assert said == ["25% of the time went to others: once more", "15% of the time went to others: once more"]


@pytest.mark.parametrize("machine", [[1.0] * TRIES], indirect=True)
async def test_last_try_counts_and_says_how_disturbed_it_was(machine: Machine) -> None:
    assert await calm(machine.measure, print) == [{"try": TRIES, "stolen": 0.5}]
