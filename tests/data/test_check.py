"""The check finds everything that is wrong, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.data.tars import refuse_marked, sample, write_samples, write_tar
from tinyvit_kd.data.check import check_shards
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ShardError, WorkerError
from tinyvit_kd.runtime.parallel import run_parallel


def test_a_sound_set_has_no_findings(tmp_path: Path) -> None:
    write_samples(tmp_path / "a.tar", 0, 4)
    write_samples(tmp_path / "b.tar", 4, 3)
    report = check_shards(ShardSet.load(tmp_path / "*.tar"), refuse_marked)
    assert report.sound
    assert (report.samples, report.shards) == (7, 2)


@pytest.mark.parametrize("processes", [1, 2])
def test_everything_wrong_is_found(tmp_path: Path, processes: int) -> None:
    (tmp_path / "classes.txt").write_text("x\ny\n")
    write_tar(tmp_path / "a.tar", [*sample("k", 0), *sample("l", 1, b"bad image"), ("m.jpg", b"x")])
    write_tar(tmp_path / "b.tar", [*sample("n", 2), *sample("k", 1)])
    seen: list[tuple[int, int]] = []
    shards = ShardSet.load(tmp_path / "*.tar")
    report = check_shards(shards, refuse_marked, processes, lambda done, total: seen.append((done, total)))
    assert [name for name, _ in report.undecodable] == ["a.tar:l"]
    assert "unreadable" in report.undecodable[0][1]
    assert report.duplicate_keys == ["a.tar:k", "b.tar:k"]
    assert report.missing_labels == ["a.tar:m"]
    assert report.labels_out_of_range == [("b.tar:n", 2)]
    assert not report.unreadable
    assert not report.sound
    assert seen == [(1, 2), (2, 2)]


def test_a_truncated_shard_is_reported_and_the_rest_is_checked(tmp_path: Path) -> None:
    write_samples(tmp_path / "a.tar", 0, 4)
    write_samples(tmp_path / "b.tar", 4, 3)
    shards = ShardSet.load(tmp_path / "*.tar")
    os.truncate(tmp_path / "a.tar", 2000)
    report = check_shards(shards, refuse_marked)
    assert [name for name, _ in report.unreadable] == ["a.tar"]
    assert (report.samples, report.shards) == (3, 2)


def _die(task: int) -> int:
    if task == 2:
        os._exit(1)
    return task


def _refuse(task: int) -> int:
    raise ShardError("refused", where=str(task))


def test_results_keep_the_order_of_their_tasks() -> None:
    assert list(run_parallel(abs, range(0, -20, -1), 2)) == list(range(20))


def test_a_process_that_dies_is_an_error_not_a_hang() -> None:
    with pytest.raises(WorkerError, match="died"):
        list(run_parallel(_die, range(8), 2))


def test_errors_come_back_whole() -> None:
    with pytest.raises(ShardError, match="Where: 0"):
        list(run_parallel(_refuse, range(3), 2))
