"""Errors of network file systems that pass are met by trying again; what other machines wrote is waited for."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runs.blocks_left import blocks_left
from tinyvit_kd.runtime import shared_disks
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.files import sole_writer, write_json
from tinyvit_kd.runtime.shared_disks import LOCKS, await_visible, locks_are_used, patiently
from tinyvit_kd.storage.local import LocalStorage
from tinyvit_kd.training.checkpoint import load_checkpoint, save_checkpoint

PASSING = {"stale": errno.ESTALE, "I/O": errno.EIO, "timed out": errno.ETIMEDOUT, "lost": errno.ENOTCONN}


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_disks, "_WAITS", (0.0, 0.0, 0.0))


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """A function that makes a call of ``os`` fail so many times; it returns the list of what is left."""

    def fail(name: str, number: int, times: int = 1) -> list[int]:
        left, call = [number] * times, getattr(os, name)

        def once(*arguments: Any, **named: Any) -> Any:
            if left:
                raise OSError(left[0], os.strerror(left.pop()))
            return call(*arguments, **named)

        monkeypatch.setattr(os, name, once)
        return left

    return fail


ACTIONS: dict[str, tuple[str, Callable[[LocalStorage], Any], Any]] = {
    "a read of a part": ("pread", lambda storage: storage.read_range("a.bin", 1, 2), b"bc"),
    "an opening": ("open", lambda storage: storage.read_range("a.bin", 0, 2), b"ab"),
    "a look": ("stat", lambda storage: storage.info("a.bin").size, 3),  # type: ignore[union-attr]
    "a listing": ("scandir", lambda storage: [each.name for each in storage.list()], ["a.bin"]),
    "a writing": ("replace", lambda storage: storage.write("a.bin", b"new") or storage.read("a.bin"), b"new"),  # type: ignore[func-returns-value]
}


@pytest.mark.parametrize("number", PASSING.values(), ids=PASSING)
@pytest.mark.parametrize(("call", "action", "expected"), ACTIONS.values(), ids=ACTIONS)
def test_an_error_that_passes_changes_nothing(
    call: str,
    action: Callable[[LocalStorage], Any],
    expected: Any,
    number: int,
    tmp_path: Path,
    failing: Callable[..., list[int]],
) -> None:
    (tmp_path / "a.bin").write_bytes(b"abc")
    left = failing(call, number, times=2)
    storage = LocalStorage(str(tmp_path))
    assert action(storage) == expected
    assert not left
    storage.close()
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_an_error_that_does_not_pass_is_raised(tmp_path: Path, failing: Callable[..., list[int]]) -> None:
    (tmp_path / "a.bin").write_bytes(b"abc")
    failing("scandir", errno.ESTALE, times=9)
    with pytest.raises(OSError, match="handle"):
        LocalStorage(str(tmp_path)).list()
    left = failing("stat", errno.EACCES)
    with pytest.raises(PermissionError):
        LocalStorage(str(tmp_path)).info("a.bin")
    assert not left


def test_a_file_that_was_replaced_on_the_server_is_opened_again(tmp_path: Path) -> None:
    storage = LocalStorage(str(tmp_path))
    storage.write("a.bin", b"old")
    assert storage.read_range("a.bin", 0, 3) == b"old"
    storage.write("a.bin", b"new")
    (descriptor,) = storage._open.values()
    with open(os.devnull, "wb") as unreadable:  # as a handle that the server no longer knows: every read of it fails
        os.dup2(unreadable.fileno(), descriptor)
    assert storage.read_range("a.bin", 0, 3) == b"new"
    storage.close()


def test_checkpoints_and_small_files_survive_an_error_that_passes(
    tmp_path: Path, failing: Callable[..., list[int]]
) -> None:
    state = {"model": {}, "optimizer": {}, "step": 3, "identity": {}, "kept": {}}
    failing("replace", errno.EIO)
    path = save_checkpoint(tmp_path, state, 3, keep=1)
    assert load_checkpoint(path)["step"] == 3
    failing("replace", errno.ESTALE)
    write_json(tmp_path / "summary.json", {"top1": 1})
    assert sorted(each.name for each in tmp_path.iterdir()) == ["step-000000003.pt", "summary.json"]


def test_files_that_nfs_keeps_though_they_were_deleted_are_in_no_listing(tmp_path: Path) -> None:
    for name in (".nfs00000000000a1b2c00000001", ".fuse_hidden0000001700000002", ".nfs", ".other", "a.bin"):
        (tmp_path / name).touch()
    assert [entry.name for entry in LocalStorage(str(tmp_path)).list()] == [".nfs", ".other", "a.bin"]


def test_what_is_not_there_yet_is_waited_for_and_not_for_ever() -> None:
    looks = iter([False, False, True])
    assert await_visible(lambda: next(looks), seconds=5)
    assert not await_visible(lambda: False, seconds=0.1)


def test_a_line_is_printed_once_for_each_kind_of_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: set[Hashable] = set()
    monkeypatch.setattr("tinyvit_kd.runtime.log._warned", lambda: told)
    for name in ("a", "b"):
        errors = [OSError(errno.ESTALE, "stale file handle")]

        def action(errors: list[OSError] = errors) -> None:
            if errors:
                raise errors.pop()

        patiently(action, name)
    assert capsys.readouterr().err.count("a: stale file handle; trying again") == 1


def test_blocks_that_other_machines_wrote_may_be_seen_late(capsys: pytest.CaptureFixture[str]) -> None:
    listings = iter(
        [np.array([[False, True], [True, False]]), np.array([[False, False], [True, False]]), np.zeros((2, 2))]
    )
    job = Job(0, 2, torch.device("cpu"))
    assert list(blocks_left(lambda: next(listings), job, "store")) == []
    assert "2 block(s) are not seen yet" in capsys.readouterr().err
    assert shared_disks.VISIBLE_WITHIN > 60  # acdirmax of NFS


def test_locks_can_be_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("a lock was asked for")

    monkeypatch.setattr("fcntl.lockf", refused)
    monkeypatch.setenv(LOCKS, "off")
    with sole_writer(tmp_path / "run"):
        assert list((tmp_path / "run").iterdir()) == []
    monkeypatch.setenv(LOCKS, "on")
    with pytest.raises(AssertionError), sole_writer(tmp_path / "run"):
        pass


def test_a_switch_with_another_value_is_refused() -> None:
    assert locks_are_used({})
    with pytest.raises(ConfigError) as caught:
        locks_are_used({LOCKS: "0"})
    assert (caught.value.where, caught.value.found) == (LOCKS, "0")
