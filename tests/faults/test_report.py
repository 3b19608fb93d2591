"""The report keeps what other runs have shown, and replaces what this one has shown again."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.report import BEGIN, END, Row, write

ROW = Row(
    number="2",
    scenario="kill -9",
    broken="stock",
    rabbitmq="3.10.8",
    orders="120",
    messages="600",
    recovered_after="4.0 s",
    lost="0",
    duplicated="0",
    repeated_mails="0",
    seed="abc",
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "RELIABILITY.md"
    file.write_text(f"before\n{BEGIN}\n| no. |\n|---|\n{END}\nafter\n")
    return file


def rows(file: Path) -> list[Row]:
    table = file.read_text().partition(BEGIN)[2].partition(END)[0]
    return [Row.parse(line) for line in table.strip().splitlines()[2:]]


def test_run_on_one_version_keeps_the_rows_of_the_other(file: Path) -> None:
    """Two runs, one on each version of RabbitMQ, give one table with both, in the order of the numbers."""
    four = replace(ROW, rabbitmq="4.0.5", seed="def")
    later = replace(ROW, number="13", scenario="a message that kills")

    write(file, [later, ROW])
    write(file, [four])

    assert rows(file) == [ROW, four, later]
    assert file.read_text().startswith("before\n")
    assert file.read_text().endswith("after\n")


def test_second_run_replaces_the_first(file: Path) -> None:
    """A scenario has one row per version: that of its last run."""
    again = replace(ROW, seed="def", orders="121")

    write(file, [ROW])
    write(file, [again])

    assert rows(file) == [again]


def test_file_without_markers_is_left_alone(file: Path) -> None:
    """A report that would have to guess where its table is writes nothing."""
    file.write_text("no markers")

    with pytest.raises(ValueError, match="lacks the markers"):
        write(file, [ROW])
    assert file.read_text() == "no markers"
