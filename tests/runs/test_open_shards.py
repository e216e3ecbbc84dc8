"""What a run finds of its shards: whether too many samples are lost, and whether all machines have the same."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from tests.data.tars import sample, write_tar
from tinyvit_kd.config.data import ShardsConfig
from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.data.indexing.index import ShardIndex
from tinyvit_kd.data.indexing.index_file import load_index
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ShardError
from tinyvit_kd.runs.open_shards import open_shards
from tinyvit_kd.runtime.distributed import Job, solo_job


def _open(path: Path, **fields: float) -> ShardSet:
    return open_shards(ShardsConfig(path=str(path), **fields), solo_job(), RuntimeConfig())


def _with_lost(folder: Path) -> Path:
    """Eight samples, and two more that have lost their images."""
    members = [part for n in range(8) for part in sample(f"{n}", n)] + [("8.cls", b"1"), ("9.cls", b"1")]
    write_tar(folder / "a.tar", members)
    return folder / "*.tar"


def test_a_run_on_shards_that_have_lost_samples_stops_and_names_them(tmp_path: Path) -> None:
    with pytest.raises(ShardError) as caught:
        _open(_with_lost(tmp_path))
    assert "2 of 10 (20.00%)" in caught.value.found
    assert "a.tar:8.cls, a.tar:9.cls" in caught.value.found
    assert "shards.max_lost_fraction" in caught.value.fix


def test_a_recipe_may_allow_it_and_the_run_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _open(_with_lost(tmp_path), max_lost_fraction=0.2).total == 8
    assert "samples are lost: 2 of 10 (20.00%): samples that have a label" in capsys.readouterr().err
    with pytest.raises(ShardError):
        _open(tmp_path / "*.tar", max_lost_fraction=0.19)


@pytest.mark.parametrize(
    ("members", "found"), [([], "empty tars"), ([("README", b"r")], "a.tar:README")], ids=["empty", "no image"]
)
def test_shards_without_samples_are_refused(tmp_path: Path, members: list[tuple[str, bytes]], found: str) -> None:
    write_tar(tmp_path / "a.tar", members)
    with pytest.raises(ShardError, match="hold no samples") as caught:
        _open(tmp_path / "*.tar", max_lost_fraction=1)
    assert found in caught.value.found


def test_an_empty_shard_among_others_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tar(tmp_path / "a.tar", sample("0", 1))
    write_tar(tmp_path / "b.tar", [])
    assert _open(tmp_path / "*.tar").total == 1
    assert "shards without a sample: 1, the first is b.tar" in capsys.readouterr().err


def test_tidy_shards_are_opened_without_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tar(tmp_path / "a.tar", [*sample("0", 1), *sample("1", 1)])
    assert _open(tmp_path / "*.tar").total == 2
    assert capsys.readouterr().err == ""


class _Other(Job):
    """A process that is not rank 0: the first of its machine, and told what rank 0 tells."""

    def broadcast(self, value: Any) -> Any:
        assert value is None
        return self.told

    told: ClassVar[Any] = None


class _Main(Job):
    """Rank 0, which keeps what it tells."""

    def broadcast(self, value: Any) -> Any:
        # Through a pickle, as between processes.
        _Other.told = pickle.loads(pickle.dumps(value))
        return value


def _open_on_two_machines(here: Path, there: Path) -> tuple[ShardSet, ShardSet]:
    cpu = torch.device("cpu")
    return (
        open_shards(ShardsConfig(path=str(here)), _Main(0, 2, cpu), RuntimeConfig()),
        open_shards(ShardsConfig(path=str(there)), _Other(1, 2, cpu), RuntimeConfig()),
    )


@pytest.fixture
def two_shards(tmp_path: Path) -> Path:
    """A folder with two tars."""
    (tmp_path / "set").mkdir()
    write_tar(tmp_path / "set/a.tar", [*sample("0", 1), *sample("1", 0)])
    write_tar(tmp_path / "set/b.tar", sample("2", 1))
    return tmp_path / "set"


def test_processes_but_rank_0_open_no_index_of_shards_on_a_shared_disk(
    two_shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def noting(tar: str, *rest: Any) -> ShardIndex:
        opened.append(tar)
        return load_index(tar, *rest)

    monkeypatch.setattr("tinyvit_kd.data.shards.load_index", noting)
    main, other = _open_on_two_machines(two_shards / "*.tar", two_shards / "*.tar")
    assert len(opened) == 2
    assert other.key_hashes() == main.key_hashes()
    assert other.label_counts() == main.label_counts() == (3, 0, 0, 1)
    assert other.lengths.tolist() == [2, 1]
    assert other.reader().read(1, 0)
    assert len(opened) == 3


def test_copies_of_the_shards_on_another_machine_s_disk_are_indexed_there(two_shards: Path, tmp_path: Path) -> None:
    shutil.copytree(two_shards, tmp_path / "copy")
    os.utime(tmp_path / "copy/b.tar", (1, 1))
    _open_on_two_machines(two_shards / "*.tar", tmp_path / "copy/*.tar")
    assert [path.name for path in (tmp_path / "copy").glob("*.npz")] == ["b.tar.idx.npz"]


@pytest.mark.parametrize(
    ("changed", "found"), [(sample("3", 1), "keys or sizes"), (sample("2", 0), "labels")], ids=["keys", "labels"]
)
def test_another_machine_with_other_shards_is_refused(
    two_shards: Path, tmp_path: Path, changed: list[tuple[str, bytes]], found: str
) -> None:
    shutil.copytree(two_shards, tmp_path / "copy")
    write_tar(tmp_path / "copy/b.tar", changed)
    os.utime(tmp_path / "copy/b.tar", (1, 1))
    with pytest.raises(ShardError, match="not the same on all machines") as caught:
        _open_on_two_machines(two_shards / "*.tar", tmp_path / "copy/*.tar")
    assert found in caught.value.found
    assert caught.value.where == str(tmp_path / "copy/b.tar")


def test_another_machine_with_fewer_shards_is_refused(two_shards: Path) -> None:
    with pytest.raises(ShardError, match="do not find the same shards"):
        _open_on_two_machines(two_shards / "*.tar", two_shards / "a.tar")
