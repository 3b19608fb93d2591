"""Secrets as files when the power fails meanwhile, and when a reader puts links in their place."""

import os
import stat
from pathlib import Path

import pytest

from apps.cli.secret_files import APPS, Addresses, write_missing

ADDRESSES = Addresses("mq", "/", "db", "rs")
IS_ROOT = os.geteuid() == 0


def test_secret_is_on_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power cut a secret is there whole and its reader's, or is not there and is made anew."""
    synced = []
    fsync = os.fsync

    def recording(descriptor: int) -> None:
        found = os.fstat(descriptor)
        synced.append((found.st_ino, found.st_size, found.st_uid))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recording)
    written = write_missing(tmp_path, ADDRESSES)

    files = [file.stat() for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) == written
    assert {(found.st_ino, found.st_size, found.st_uid) for found in files} <= set(synced)


def test_link_in_the_place_of_a_secret_is_not_followed(tmp_path: Path) -> None:
    """A reader owns its folder: it must not make root read what it names, and share that as a key."""
    write_missing(tmp_path / "secrets", ADDRESSES)
    foreign = tmp_path / "foreign"
    foreign.write_text("not yours")
    key = tmp_path / "secrets" / APPS[0] / "orderflow_secret_key"
    key.unlink()
    key.symlink_to(foreign)

    with pytest.raises(OSError, match="symbolic link"):
        write_missing(tmp_path / "secrets", ADDRESSES)


@pytest.mark.skipif(not IS_ROOT, reason="only root gives files to others")
def test_link_in_the_place_of_a_folder_is_not_followed(tmp_path: Path) -> None:
    """What a link names stays whose it is, with the mode that it has."""
    foreign = tmp_path / "foreign"
    foreign.mkdir(mode=0o755)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / APPS[0]).symlink_to(foreign)

    with pytest.raises(OSError, match="Not a directory"):
        write_missing(tmp_path / "secrets", ADDRESSES)

    found = foreign.stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (0, 0o755)
    assert not any(foreign.iterdir())
