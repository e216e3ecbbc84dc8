"""Samples read through a cache are those of the shards, whatever room it has."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.data.tars import write_samples
from tests.storage.s3 import BUCKET, S3Server, every
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.storage.open import open_storage

SHARDS, SAMPLES = 4, 5


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "shards"
    folder.mkdir()
    for shard in range(SHARDS):
        write_samples(folder / f"{shard}.tar", shard * SAMPLES, SAMPLES)
    return folder


def limit_of(folder: Path, shards: float) -> int:
    return int(shards * (folder / "0.tar").stat().st_size)


def require_all_samples(shards: ShardSet) -> None:
    """Each sample is read twice, from one shard after the other."""
    reader = shards.reader()
    for index in [*range(SAMPLES), *range(SAMPLES)]:
        for shard in range(SHARDS):
            assert reader.read(shard, index) == f"image {shard * SAMPLES + index:09d}".encode()


@pytest.mark.parametrize("kind", ["path", "command"])
def test_a_cache_with_room_for_one_shard_is_slow_but_right(folder: Path, tmp_path: Path, kind: str) -> None:
    path = f"{folder}/{{0..3}}.tar" if kind == "path" else f"pipe:cat {folder}/{{0..3}}.tar"
    limit = limit_of(folder, 1.5)
    shards = ShardSet.load(
        path, cache_dir=tmp_path / "cache", cache_bytes=limit, cache_local=True, index_dir=tmp_path / "indexes"
    )
    require_all_samples(shards)
    assert shards.cache is not None
    assert shards.cache.counts.total().evicted > 0
    assert sum(copy.stat().st_size for copy in (tmp_path / "cache").glob("*.tar")) <= limit


def test_shards_at_paths_are_copied_only_if_that_is_asked_for(folder: Path, tmp_path: Path) -> None:
    require_all_samples(ShardSet.load(f"{folder}/{{0..3}}.tar", cache_dir=tmp_path / "cache"))
    assert not (tmp_path / "cache").exists()
    shards = ShardSet.load(f"{folder}/{{0..3}}.tar", cache_dir=tmp_path / "cache", cache_local=True)
    require_all_samples(shards)
    assert len(list((tmp_path / "cache").glob("*.tar"))) == SHARDS
    assert (folder / "0.tar.idx.npz").exists()  # beside the shard, not beside its copy


def test_copies_that_are_removed_by_hand_are_fetched_again(folder: Path, tmp_path: Path) -> None:
    shards = ShardSet.load(f"{folder}/{{0..3}}.tar", cache_dir=tmp_path / "cache", cache_local=True)
    require_all_samples(shards)
    shutil.rmtree(tmp_path / "cache")
    require_all_samples(shards)


def test_a_removed_copy_does_not_take_space_for_as_long_as_its_reader_lives(folder: Path, tmp_path: Path) -> None:
    limit = limit_of(folder, 2)
    shards = ShardSet.load(f"{folder}/{{0..3}}.tar", cache_dir=tmp_path / "cache", cache_bytes=limit, cache_local=True)
    reader = shards.reader()
    for shard in range(SHARDS):
        reader.read(shard, 0)
    opened = [path.resolve() for path in Path("/proc/self/fd").iterdir()]
    removed = [path for path in opened if path.is_relative_to(tmp_path) and "(deleted)" in path.name]
    assert len(removed) <= 1


def test_shards_of_a_bucket_are_fetched_once_in_spite_of_faults(folder: Path, tmp_path: Path, s3: S3Server) -> None:
    bucket = open_storage(f"s3://{BUCKET}/in-spite")
    for shard in range(SHARDS):
        bucket.upload(folder / f"{shard}.tar", f"{shard}.tar")
    s3.faults.calm()
    s3.faults.choose = every(s503=5, cut=7)
    shards = ShardSet.load(f"s3://{BUCKET}/in-spite/{{0..3}}.tar", cache_dir=tmp_path / "cache")
    require_all_samples(shards)
    assert s3.faults.made
    fetched = len(s3.faults.requests)
    require_all_samples(ShardSet.load(f"s3://{BUCKET}/in-spite/{{0..3}}.tar", cache_dir=tmp_path / "cache"))
    tars = [path for method, path in s3.faults.requests[fetched:] if method == "GET" and path.endswith(".tar")]
    assert not tars
