"""The key of a local system: made once, the owner's alone, and never half a key."""

from pathlib import Path

import pytest

from apps.access.domain import prefix_of
from apps.cli.local.api_key import key_kept_in


def test_the_key_is_made_once(tmp_path: Path) -> None:
    """Each `up` in a home has the same key, which only its owner can read, and nothing else is left there."""
    key = key_kept_in(tmp_path)
    assert prefix_of(key) is not None
    assert key_kept_in(tmp_path) == key
    (file,) = tmp_path.iterdir()
    assert (file.name, file.read_text(), file.stat().st_mode & 0o777) == ("api-key", key, 0o600)


@pytest.mark.parametrize("left", ["", "of_abcdefgh_"])
def test_half_a_key_is_made_anew(tmp_path: Path, left: str) -> None:
    """What a crash left behind, under either name, is replaced whole."""
    for name in ("api-key", "api-key.new"):
        (tmp_path / name).write_text(left)
    key = key_kept_in(tmp_path)
    assert prefix_of(key) is not None
    assert [one.read_text() for one in tmp_path.iterdir()] == [key]
