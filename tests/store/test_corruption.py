"""Whatever happens to a block's file is found when it is read, and the message says which file."""

from __future__ import annotations

import json
import resource
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import example, given
from hypothesis import strategies as st

from benchmarks.local_files import block_file, store_folder
from tests.store.blocks import block_for, manifest_of, same
from tinyvit_kd.errors import BlockCorruptError, BlockMissingError, StoreArrayError, StoreError
from tinyvit_kd.store.codec import encode
from tinyvit_kd.store.encodings import ENCODINGS
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
        LogitStore.open(store_folder(store)).read_block(shard, view)
    assert caught.value.where == str(block_file(store, shard, view))
    assert "dump-logits" in caught.value.fix
    return str(caught.value)


@pytest.fixture(scope="module", params=ENCODINGS)
def victim(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[LogitStore, bytes]:
    """A store whose first block is damaged again and again, and what that block was."""
    store = LogitStore.create(tmp_path_factory.mktemp("victim") / "store", manifest_of(encoding=request.param))
    store.write_block(0, 0, block_for(store.manifest, 0, 0))
    return store, block_file(store, 0, 0).read_bytes()


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@example(place=0.0, bit=0)
@example(place=0.99999, bit=7)
def test_a_flipped_bit_is_found(victim: tuple[LogitStore, bytes], place: float, bit: int) -> None:
    store, data = victim[0], bytearray(victim[1])
    data[int(place * len(data))] ^= 1 << bit
    block_file(store, 0, 0).write_bytes(data)
    assert "damaged" in refusal(store)


@given(share=st.floats(0, 1, exclude_max=True))
@example(share=0.0)
@example(share=0.001)
@example(share=0.99999)
def test_a_block_that_was_cut_short_is_found(victim: tuple[LogitStore, bytes], share: float) -> None:
    store, data = victim
    block_file(store, 0, 0).write_bytes(data[: int(share * len(data))])
    assert "cut short" in refusal(store)


@pytest.mark.parametrize("kept", [1, 3, 4, 5, -5, -4, -1])
def test_a_block_that_was_cut_at_its_checksum_is_found(victim: tuple[LogitStore, bytes], kept: int) -> None:
    store, data = victim
    block_file(store, 0, 0).write_bytes(data[:kept])
    assert "cut short" in refusal(store)


def test_bytes_behind_a_block_are_found(store: LogitStore) -> None:
    path = block_file(store, 0, 0)
    path.write_bytes(path.read_bytes() + b"\0")
    assert "damaged" in refusal(store)


def test_a_block_of_another_view_is_found(store: LogitStore) -> None:
    shutil.copy(block_file(store, 0, 1), block_file(store, 0, 0))
    assert "Found: view 1. Expected: view 0" in refusal(store)


def test_a_block_of_another_shard_is_found(store: LogitStore) -> None:
    shutil.copy(block_file(store, 1, 0), block_file(store, 0, 0))
    assert "Found: shard 1, key_hash" in refusal(store)


def test_a_block_of_a_shard_of_another_length_is_found(store: LogitStore) -> None:
    shutil.copy(block_file(store, 2, 0), block_file(store, 0, 0))
    assert "another size" in refusal(store)


OTHER_TEACHER = manifest_of().teacher.model_copy(update={"weights_hash": "cd" * 16})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"teacher": OTHER_TEACHER}, "another store"),
        ({"seed": 8}, "another store"),
        ({"view_spec": {"size": 192}}, "another store"),
        ({"num_classes": 999}, "num_classes 999"),
        ({"topk": 6}, "another size"),
        ({"encoding": "compact"}, "another size"),
    ],
    ids=["teacher", "seed", "views", "classes", "topk", "encoding"],
)
def test_a_block_of_another_store_is_found(
    store: LogitStore, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    other = LogitStore.create(tmp_path / "other", manifest_of(**change))
    other.write_block(0, 0, block_for(other.manifest, 0, 0))
    shutil.copy(block_file(other, 0, 0), block_file(store, 0, 0))
    assert words in refusal(store)


def test_a_block_of_other_samples_is_found(store: LogitStore, tmp_path: Path) -> None:
    other = LogitStore.create(tmp_path / "other", manifest_of(key_hashes=(1, 2, 3)))
    other.write_block(0, 0, block_for(other.manifest, 0, 0))
    shutil.copy(block_file(other, 0, 0), block_file(store, 0, 0))
    assert "other samples" in refusal(store)


def write_planes(store: LogitStore, planes: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    with zarr.config.set({"array.write_empty_chunks": True}):
        zarr.open_array(store_folder(store) / "s000000", mode="r+")[0] = planes


def test_a_block_of_a_later_format_is_found(store: LogitStore) -> None:
    manifest = store.manifest
    hashes = manifest.key_hashes[0], int(manifest.hash, 16)
    header = BlockHeader("exact", 0, 0, 30, manifest.topk, manifest.num_classes, *hashes)
    write_planes(store, encode(block_for(manifest, 0, 0), header))
    assert same(store.read_block(0, 0), block_for(manifest, 0, 0))
    write_planes(store, encode(block_for(manifest, 0, 0), replace(header, format_version=FORMAT_VERSION + 1)))
    assert f"format_version {FORMAT_VERSION + 1}" in refusal(store)


def test_bytes_that_are_no_block_are_found(store: LogitStore) -> None:
    write_planes(store, np.zeros_like(store.read_planes(0, 0)))
    assert "header" in refusal(store)


def test_a_block_that_was_removed_is_missing_even_for_a_store_that_is_open(store: LogitStore) -> None:
    store.read_block(0, 0)
    block_file(store, 0, 0).unlink()
    with pytest.raises(BlockMissingError):
        store.read_block(0, 0)


def test_one_damaged_block_does_not_touch_the_others(store: LogitStore) -> None:
    block_file(store, 0, 0).write_bytes(b"")
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


DESCRIPTIONS = {
    "empty": "",
    "cut": "{",
    "null": "null",
    "list": "[]",
    "number": "1",
    "bare": "{}",
    "of a group": '{"zarr_format": 3, "node_type": "group", "attributes": {}}',
    "without codecs": {"codecs": None},
    "with an unknown codec": {"codecs": [{"name": "bytes"}, {"name": "zip"}]},
    "without a type": {"data_type": None},
    "of another shape": {"shape": [4, 40, 30]},
    "with fewer views": {"shape": [1, 46, 30]},
}


@pytest.mark.parametrize("damage", DESCRIPTIONS.values(), ids=DESCRIPTIONS.keys())
def test_a_damaged_description_of_an_array_is_named_and_made_again_and_its_blocks_stay(
    store: LogitStore, damage: str | dict[str, object]
) -> None:
    path = store_folder(store) / "s000000" / "zarr.json"
    path.write_text(damage if isinstance(damage, str) else json.dumps(json.loads(path.read_bytes()) | damage))
    opened = LogitStore.open(store_folder(store), writable=True)
    with pytest.raises(StoreError, match="dump-logits") as reading:
        opened.read_block(0, 0)
    with pytest.raises(StoreError, match="dump-logits") as writing:
        opened.write_block(0, 0, block_for(store.manifest, 0, 0))
    for caught in (reading, writing):
        assert type(caught.value) is StoreArrayError  # the blocks are whole: they must not be thrown away
        assert caught.value.where == str(path)
    again = LogitStore.create(store_folder(store), manifest_of())
    assert all(same(again.read_block(0, view), block_for(store.manifest, 0, view)) for view in range(4))


def test_a_disk_that_cannot_take_a_block_is_named(store: LogitStore) -> None:
    path = block_file(store, 0, 0)
    path.unlink()
    path.mkdir()  # as good as a full disk
    with pytest.raises(StoreError, match="cannot be written") as caught:
        store.write_block(0, 0, block_for(store.manifest, 0, 0))
    assert caught.value.where == str(path)
    assert not list(path.parent.glob("*.partial"))
