"""A run does not begin on shards that have lost more samples than its recipe allows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.tars import sample, write_tar
from tinyvit_kd.config.data import ShardsConfig
from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ShardError
from tinyvit_kd.runs.open_shards import open_shards
from tinyvit_kd.runtime.distributed import solo_job


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
