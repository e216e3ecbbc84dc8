"""What is known of shards without making or writing anything is what opening them finds."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.tiny_world import draw_shards
from tinyvit_kd.config.data import LabelledShardsConfig
from tinyvit_kd.data.known_shards import known_shards, tar_bytes
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ShardError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shards = draw_shards(tmp_path, 60)
    ShardSet.load(shards).key_hashes()  # makes the indexes
    return shards


def known(path: Path | str) -> ShardSet:
    return known_shards(LabelledShardsConfig(path=str(path)))


def test_indexed_shards_are_known_as_if_they_were_opened(folder: Path) -> None:
    opened = ShardSet.load(folder)
    found = known(folder)
    assert found.known is not None
    assert found.lengths.tolist() == opened.lengths.tolist()
    assert found.label_counts() == opened.label_counts()
    assert found.key_hashes() == opened.key_hashes()
    assert found.image_bytes == opened.image_bytes
    assert found.class_list == opened.class_list


def test_copies_and_indexes_are_where_the_recipe_says(folder: Path, tmp_path: Path) -> None:
    kept = {"cache_dir": tmp_path / "a", "cache_gib": 2, "cache_local": True, "index_dir": tmp_path / "b"}
    found = known_shards(LabelledShardsConfig(path=str(folder), **kept))
    assert (found.cache_dir, found.cache_bytes, found.cache_local) == (tmp_path / "a", 2 << 30, True)
    assert found.index_dir == tmp_path / "b"


def test_without_indexes_the_description_says_how_many_there_are(folder: Path) -> None:
    for index in folder.glob("*.idx.npz"):
        index.unlink()
    found = known(folder)
    assert found.known is None
    assert found.total == 60
    assert tar_bytes(found) == sum(path.stat().st_size for path in folder.glob("*.tar"))
    assert not list(folder.glob("*.idx.npz"))


def test_a_pattern_needs_its_indexes(folder: Path) -> None:
    assert known(f"{folder}/*.tar").total == 60
    next(folder.glob("*.idx.npz")).unlink()
    with pytest.raises(ShardError, match="nothing says how many samples"):
        known(f"{folder}/*.tar")


def test_an_index_of_a_tar_that_has_changed_is_none(folder: Path) -> None:
    (first, *_) = sorted(folder.glob("*.tar"))
    first.write_bytes(first.read_bytes() + b"\0" * 512)
    assert known(folder).known is None


def test_a_missing_tar_is_an_error(folder: Path) -> None:
    next(folder.glob("*.tar")).unlink()
    with pytest.raises(ShardError):
        tar_bytes(known(folder))
