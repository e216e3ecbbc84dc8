"""Copies of files at URLs follow what is there, and do not pile up."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.processes import wait_until
from tinyvit_kd.runtime.files import sole_writer
from tinyvit_kd.storage.copies import copied

DAY = 86400


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the URLs; this user's cache folder is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("one", "two"):
        (tmp_path / "there" / name).mkdir(parents=True)
        (tmp_path / "there" / name / "model.bin").write_bytes(b"first")
    return tmp_path / "there"


def copy_of(folder: Path) -> Path:
    return copied(f"file://{folder}", ["model.bin", "config.json"]) / "model.bin"


def last_used(path: Path, days_ago: float) -> None:
    os.utime(path, (time.time() - days_ago * DAY, path.stat().st_mtime))


@contextmanager
def another_process_in(folder: Path) -> Iterator[None]:
    child = os.fork()
    if not child:
        with sole_writer(folder):
            (folder / "is-here").touch()
            time.sleep(60)
        os._exit(0)
    try:
        wait_until((folder / "is-here").exists, "the process has no lock")
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_new_version_replaces_the_old_one(there: Path) -> None:
    path = copy_of(there / "one")
    (there / "one" / "model.bin").write_bytes(b"another")
    assert copy_of(there / "one") == path
    assert path.read_bytes() == b"another"
    assert [each.name for each in path.parent.iterdir() if each.name != ".lock"] == ["model.bin"]


def test_what_was_not_used_for_a_month_is_removed_and_who_reads_it_reads_on(there: Path) -> None:
    one, two = copy_of(there / "one"), copy_of(there / "two")
    last_used(one, 29)
    copy_of(there / "two")
    assert one.exists()
    last_used(one, 31)
    (one.parent / ".model.bin.0123abcd.partial").touch()  # of a process that was killed
    last_used(one.parent / ".model.bin.0123abcd.partial", 31)
    with one.open("rb") as file:
        copy_of(there / "two")
        assert [each.name for each in one.parent.iterdir()] == [".lock"]
        assert file.read() == b"first"
    assert two.exists()
    assert copy_of(there / "one").read_bytes() == b"first"


def test_a_copy_that_is_asked_for_again_stays_though_its_original_is_old(there: Path) -> None:
    os.utime(there / "one" / "model.bin", (0, 0))
    path = copy_of(there / "one")
    last_used(path, 31)
    copy_of(there / "one")
    copy_of(there / "two")
    assert path.stat().st_mtime == 0
    assert time.time() - path.stat().st_atime < DAY


def test_what_another_process_looks_at_stays(there: Path) -> None:
    path = copy_of(there / "one")
    last_used(path, 31)
    with another_process_in(path.parent):
        copy_of(there / "two")
        assert path.exists()
