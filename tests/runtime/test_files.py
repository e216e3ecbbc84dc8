"""Files are complete or absent, and a folder has only one writer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tinyvit_kd.errors import BusyError
from tinyvit_kd.runtime import files
from tinyvit_kd.runtime.files import (
    atomic_path,
    atomic_write,
    read_small_json,
    remove_unfinished,
    sole_writer,
    unfinished,
)

HOLDER = """
import sys, time
from pathlib import Path
from tinyvit_kd.runtime.files import sole_writer
with sole_writer(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def hold(folder: Path) -> subprocess.Popen[str]:
    """Another process that writes to the folder."""
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    holder.stdout.close()
    return holder


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    atomic_write(tmp_path / "file", b"old")
    with suppress(RuntimeError), atomic_path(tmp_path / "file") as aside:
        aside.write_bytes(b"half")
        raise RuntimeError
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": b"old"}


def test_what_a_killed_writer_left_behind_is_removed_and_nothing_else(tmp_path: Path) -> None:
    reader = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, sys\nfrom pathlib import Path\nfrom tinyvit_kd.runtime.files import atomic_path\n"
            "with atomic_path(Path(sys.argv[1])) as aside:\n    aside.write_bytes(b'half'); os.kill(os.getpid(), 9)",
            str(tmp_path / "file"),
        ]
    )
    assert reader.wait(60) == -signal.SIGKILL
    (tmp_path / "other.partial").touch()
    assert len(unfinished(tmp_path)) == 1
    remove_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["other.partial"]


def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    holder = hold(tmp_path)
    try:
        with pytest.raises(BusyError, match="another process") as caught, sole_writer(tmp_path, wait=0.3):
            pass
        assert caught.value.where == str(tmp_path)
    finally:
        holder.kill()
        holder.wait()


def test_a_killed_writer_gives_the_folder_up_and_the_next_one_waits_for_it(tmp_path: Path) -> None:
    holder = hold(tmp_path)
    os.kill(holder.pid, signal.SIGKILL)
    with sole_writer(tmp_path, wait=60):  # the killed process would have held it for much longer
        pass
    holder.wait()


def test_the_same_folder_may_be_written_to_again(tmp_path: Path) -> None:
    for _ in range(2):
        with sole_writer(tmp_path / "new", wait=0):
            pass


UNREADABLE = {
    "nothing": b"",
    "no JSON": b"{",
    "no object": b"[1]",
    "no text": b"\xff\xfe\x00",
    "brackets without end": b"[" * 200_000,
}


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
def test_a_small_file_that_holds_no_object_of_json_is_read_as_an_empty_one(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file.json").write_bytes(content)
    assert read_small_json(tmp_path / "file.json") == {}


def test_a_file_that_is_not_there_or_not_small_is_read_as_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_small_json(tmp_path / "missing.json") == {}
    assert read_small_json(tmp_path) == {}
    (tmp_path / "file.json").write_bytes(b'{"a": 1}')
    assert read_small_json(tmp_path / "file.json") == {"a": 1}
    monkeypatch.setattr(files, "LARGEST_JSON", 4)
    assert read_small_json(tmp_path / "file.json") == {}


def test_a_whole_number_that_is_too_large_to_count_with_is_infinite(tmp_path: Path) -> None:
    (tmp_path / "file.json").write_bytes(b'{"a": ' + b"1" * 10_000 + b', "b": ' + b"1" * 300 + b"}")
    assert read_small_json(tmp_path / "file.json") == {"a": float("inf"), "b": int("1" * 300)}
