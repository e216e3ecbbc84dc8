"""Whatever happens to a block's file is found when it is read, and the message says which file."""

from __future__ import annotations

import resource
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr

from tests.store.blocks import block_for, manifest_of, same
from tinyvit_kd.errors import BlockCorruptError, BlockMissingError, StoreError
from tinyvit_kd.store.codec import encode
from tinyvit_kd.store.records import FORMAT_VERSION, BlockHeader
from tinyvit_kd.store.store import LogitStore


@pytest.fixture
def store(tmp_path: Path) -> LogitStore:
    """A full toy store; shards 0 and 1 are equally long."""
    store = LogitStore.create(tmp_path / "store", manifest_of())
    for shard, view in store.missing_blocks():
        store.write_block(shard, view, block_for(store.manifest, shard, view))
    return store


def refusal(store: LogitStore, shard: int = 0, view: int = 0) -> str:
    """What reading says of a damaged block."""
    with pytest.raises(BlockCorruptError) as caught:
        LogitStore.open(store.path).read_block(shard, view)
    assert caught.value.where == str(store.block_path(shard, view))
    assert "dump-logits" in caught.value.fix
    return str(caught.value)


@pytest.mark.parametrize("place", [0.0, 0.01, 0.3, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("bit", [0, 7])
def test_a_flipped_bit_is_found(store: LogitStore, place: float, bit: int) -> None:
    path = store.block_path(0, 0)
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    path.write_bytes(data)
    assert "damaged" in refusal(store)


@pytest.mark.parametrize("kept", [0, 1, 3, 4, 5, 100, -4, -1])
def test_a_block_that_was_cut_short_is_found(store: LogitStore, kept: int) -> None:
    path = store.block_path(0, 0)
    path.write_bytes(path.read_bytes()[:kept])
    assert "cut short" in refusal(store)


def test_bytes_behind_a_block_are_found(store: LogitStore) -> None:
    path = store.block_path(0, 0)
    path.write_bytes(path.read_bytes() + b"\0")
    assert "damaged" in refusal(store)


def test_a_block_of_another_view_is_found(store: LogitStore) -> None:
    shutil.copy(store.block_path(0, 1), store.block_path(0, 0))
    assert "Found: view 1. Expected: view 0" in refusal(store)


def test_a_block_of_another_shard_is_found(store: LogitStore) -> None:
    shutil.copy(store.block_path(1, 0), store.block_path(0, 0))
    assert "Found: shard 1, key_hash" in refusal(store)


def test_a_block_of_a_shard_of_another_length_is_found(store: LogitStore) -> None:
    shutil.copy(store.block_path(2, 0), store.block_path(0, 0))
    assert "another shard's length" in refusal(store)


def test_a_block_of_other_samples_is_found(store: LogitStore, tmp_path: Path) -> None:
    other = LogitStore.create(tmp_path / "other", manifest_of(key_hashes=(1, 2, 3)))
    other.write_block(0, 0, block_for(other.manifest, 0, 0))
    shutil.copy(other.block_path(0, 0), store.block_path(0, 0))
    assert "other samples" in refusal(store)


def write_planes(store: LogitStore, planes: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    with zarr.config.set({"array.write_empty_chunks": True}):
        zarr.open_array(store.path / "s000000", mode="r+")[0] = planes


def test_a_block_of_a_later_format_is_found(store: LogitStore) -> None:
    manifest = store.manifest
    header = BlockHeader("exact", 0, 0, 30, manifest.topk, manifest.num_classes, manifest.key_hashes[0])
    write_planes(store, encode(block_for(manifest, 0, 0), header))
    assert same(store.read_block(0, 0), block_for(manifest, 0, 0))
    write_planes(store, encode(block_for(manifest, 0, 0), replace(header, format_version=FORMAT_VERSION + 1)))
    assert f"format_version {FORMAT_VERSION + 1}" in refusal(store)


def test_bytes_that_are_no_block_are_found(store: LogitStore) -> None:
    write_planes(store, np.zeros_like(store.read_planes(0, 0)))
    assert "header" in refusal(store)


def test_a_block_that_was_removed_is_missing_even_for_a_store_that_is_open(store: LogitStore) -> None:
    store.read_block(0, 0)
    store.block_path(0, 0).unlink()
    with pytest.raises(BlockMissingError):
        store.read_block(0, 0)


def test_one_damaged_block_does_not_touch_the_others(store: LogitStore) -> None:
    store.block_path(0, 0).write_bytes(b"")
    refusal(store)
    assert same(store.read_block(0, 1), block_for(store.manifest, 0, 1))


def test_a_system_that_cannot_read_does_not_condemn_the_block(store: LogitStore) -> None:
    store.read_block(0, 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))  # no file can be opened
    try:
        with pytest.raises(StoreError, match="may be whole") as caught:
            store.read_block(0, 0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not isinstance(caught.value, BlockCorruptError)
    assert same(store.read_block(0, 0), block_for(store.manifest, 0, 0))


def test_a_damaged_description_of_an_array_is_named(store: LogitStore) -> None:
    (store.path / "s000000" / "zarr.json").write_text("{")
    with pytest.raises(StoreError, match=r"zarr\.json") as caught:
        LogitStore.open(store.path).read_block(0, 0)
    assert not isinstance(caught.value, BlockCorruptError)
