"""A store holds what was written, resumes, grows, and reads from a disk that cannot be written."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from benchmarks.local_files import block_file, store_folder
from benchmarks.stored.records import simulated
from tests.store.blocks import block_for, manifest_of, same
from tinyvit_kd.config.data import Encoding
from tinyvit_kd.errors import BlockMissingError, ManifestMismatchError, StoreArrayError, StoreError
from tinyvit_kd.storage.local import LocalStorage
from tinyvit_kd.store.arrays import complete_arrays
from tinyvit_kd.store.encodings import ENCODINGS
from tinyvit_kd.store.manifest import Manifest
from tinyvit_kd.store.names import MANIFEST
from tinyvit_kd.store.store import LogitStore


@pytest.fixture
def store(tmp_path: Path) -> LogitStore:
    """An empty toy store."""
    return LogitStore.create(tmp_path / "store", manifest_of())


def fill(store: LogitStore, blocks: list[tuple[int, int]] | None = None) -> None:
    for shard, view in store.missing_blocks() if blocks is None else blocks:
        store.write_block(shard, view, block_for(store.manifest, shard, view))


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder with its size and time of change."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in [folder, *folder.rglob("*")]}


def test_every_block_reads_back_as_it_was_written(store: LogitStore) -> None:
    fill(store)
    reader = LogitStore.open(store_folder(store))
    for shard in range(3):
        for view in range(4):
            assert same(reader.read_block(shard, view), block_for(store.manifest, shard, view))


def test_a_block_is_one_file(store: LogitStore) -> None:
    before = set(store_folder(store).rglob("*"))
    fill(store, [(1, 2)])
    assert set(store_folder(store).rglob("*")) - before == {block_file(store, 1, 2)}


def test_missing_blocks_are_those_without_a_file(store: LogitStore) -> None:
    fill(store, [(0, 0), (2, 1)])
    everything = {(shard, view) for shard in range(3) for view in range(4)}
    assert set(store.missing_blocks()) == everything - {(0, 0), (2, 1)}
    assert store.missing_blocks(views=[1]) == [(0, 1), (1, 1)]
    assert store.has_block(2, 1)
    assert not store.has_block(2, 0)


def test_a_missing_block_does_not_read_as_zeros(store: LogitStore) -> None:
    with pytest.raises(BlockMissingError, match="dump-logits") as caught:
        store.read_block(1, 3)
    assert str(block_file(store, 1, 3)) in str(caught.value)


def test_an_empty_shard_has_no_blocks(tmp_path: Path) -> None:
    store = LogitStore.create(tmp_path / "store", manifest_of(lengths=(4, 0)))
    assert {shard for shard, _ in store.missing_blocks()} == {0}


def test_making_a_store_again_opens_it_with_its_blocks(store: LogitStore) -> None:
    fill(store, [(0, 0)])
    before = files(store_folder(store))
    again = LogitStore.create(store_folder(store), manifest_of(versions={"numpy": "3"}))
    assert files(store_folder(store)) == before
    assert again.manifest == store.manifest
    assert again.has_block(0, 0)


def test_a_store_of_something_else_is_refused(store: LogitStore) -> None:
    fill(store, [(0, 0)])
    with pytest.raises(ManifestMismatchError, match=r"seed is 7 in the store and 8 in this run.*another store"):
        LogitStore.create(store_folder(store), manifest_of(seed=8))


def test_a_store_of_something_else_that_has_no_block_yet_may_be_removed(store: LogitStore) -> None:
    with pytest.raises(ManifestMismatchError, match=r"seed is 7 in the store and 8 in this run.*remove the folder"):
        LogitStore.create(store_folder(store), manifest_of(seed=8))


def test_a_store_grows_by_views_and_keeps_its_blocks(store: LogitStore) -> None:
    fill(store)
    reader = LogitStore.open(store_folder(store))
    grown = LogitStore.create(store_folder(store), manifest_of(views=6))
    assert set(grown.missing_blocks()) == {(shard, view) for shard in range(3) for view in (4, 5)}
    fill(grown)
    assert same(LogitStore.open(store_folder(store)).read_block(2, 5), block_for(store.manifest, 2, 5))
    assert same(reader.read_block(2, 3), block_for(store.manifest, 2, 3))


def test_asking_for_fewer_views_keeps_them_all(store: LogitStore) -> None:
    fill(store)
    fewer = LogitStore.create(store_folder(store), manifest_of(views=1))
    assert fewer.manifest.views == 4
    assert same(fewer.read_block(0, 3), block_for(store.manifest, 0, 3))


def test_a_lost_array_is_named_and_made_again_with_its_blocks(store: LogitStore) -> None:
    fill(store)
    metadata = store_folder(store) / "s000001" / "zarr.json"
    metadata.unlink()
    with pytest.raises(StoreError, match="dump-logits") as caught:
        LogitStore.open(store_folder(store)).read_block(1, 0)
    assert type(caught.value) is StoreArrayError
    assert str(metadata) in str(caught.value)
    again = LogitStore.create(store_folder(store), manifest_of())
    assert same(again.read_block(1, 0), block_for(store.manifest, 1, 0))


def test_a_store_whose_making_was_cut_off_is_made_anew(tmp_path: Path) -> None:
    complete_arrays(LocalStorage(str(tmp_path)), manifest_of(topk=9, views=1))  # killed before the manifest
    store = LogitStore.create(tmp_path, manifest_of())
    fill(store)
    assert len(list((tmp_path / "s000000").glob("c.*"))) == store.manifest.views
    assert same(store.read_block(0, 3), block_for(store.manifest, 0, 3))


@pytest.mark.parametrize("change", [{}, {"views": 1}, {"views": 9}, {"topk": 9}], ids=str)
def test_making_arrays_never_removes_a_block(store: LogitStore, change: dict[str, Any]) -> None:
    fill(store)  # by a job that was faster than the one below, which did not see a manifest yet
    blocks = {path: path.read_bytes() for path in store_folder(store).glob("s*/c.*")}
    complete_arrays(LocalStorage(str(store_folder(store))), manifest_of(**change))
    assert {path: path.read_bytes() for path in store_folder(store).glob("s*/c.*")} == blocks
    assert len(blocks) == 12


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_store_cannot_be_made_in_place_of_a_file(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("something")
    with pytest.raises(StoreError, match="cannot be made") as caught:
        LogitStore.create(tmp_path / "file" / below, manifest_of())
    assert str(tmp_path / "file") in str(caught.value)
    assert (tmp_path / "file").read_text() == "something"


@pytest.mark.parametrize("text", ["", "[]", "{}"])
def test_a_damaged_description_of_the_group_hurts_nobody(store: LogitStore, text: str) -> None:
    fill(store)
    (store_folder(store) / "zarr.json").write_text(text)
    grown = LogitStore.create(store_folder(store), manifest_of(views=5))
    fill(grown)
    assert same(grown.read_block(1, 4), block_for(store.manifest, 1, 4))


def test_a_store_is_a_group_for_other_readers_of_zarr(store: LogitStore) -> None:
    fill(store)
    group = zarr.open_group(store_folder(store), mode="r")
    assert (np.asarray(group["s000002"][1]) == store.read_planes(2, 1)).all()


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    ("length", "topk", "num_classes"), [(1, 1, 1), (1, 1, 2**17), (1, 7, 7), (63, 2, 256), (64, 3, 257), (65, 9, 65537)]
)
def test_blocks_of_any_size_pass_through_the_store(
    tmp_path: Path, length: int, topk: int, num_classes: int, encoding: Encoding
) -> None:
    manifest = manifest_of((length,), topk=topk, num_classes=num_classes, encoding=encoding)
    store = LogitStore.create(tmp_path / "store", manifest)
    block = block_for(manifest, 0, 2)
    store.write_block(0, 2, block)
    found = LogitStore.open(store_folder(store)).read_block(0, 2)
    assert (found.indices == block.indices).all()
    assert np.abs(found.probs - block.probs).max() < 0.02
    assert encoding == "compact" or same(found, block)


def test_blocks_without_a_manifest_are_not_taken_over_and_not_lost(store: LogitStore) -> None:
    fill(store, [(1, 0)])
    (store_folder(store) / MANIFEST).unlink()
    with pytest.raises(StoreError, match=r"s000001/c\.0\.0\.0"):
        LogitStore.create(store_folder(store), manifest_of())
    assert store.has_block(1, 0)


def test_reading_writes_nothing_so_a_read_only_disk_will_do(store: LogitStore) -> None:
    fill(store)
    folders = [store_folder(store), *(path for path in store_folder(store).iterdir() if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)  # holds for all but root, for whom the comparison below speaks
    before = files(store_folder(store))
    reader = LogitStore.open(store_folder(store))
    assert same(reader.read_block(0, 0), block_for(store.manifest, 0, 0))
    assert reader.missing_blocks() == []
    assert files(store_folder(store)) == before
    for folder in folders:
        folder.chmod(0o755)


def test_a_store_that_was_opened_for_reading_is_not_written(store: LogitStore) -> None:
    with pytest.raises(AssertionError):
        fill(LogitStore.open(store_folder(store)), [(0, 0)])
    assert not store.has_block(0, 0)


def test_a_store_can_be_moved(store: LogitStore, tmp_path: Path) -> None:
    fill(store, [(0, 0)])
    shutil.move(store_folder(store), tmp_path / "elsewhere")
    assert same(LogitStore.open(tmp_path / "elsewhere").read_block(0, 0), block_for(store.manifest, 0, 0))


def test_a_store_travels_to_workers(store: LogitStore) -> None:
    fill(store, [(0, 0)])
    copy = pickle.loads(pickle.dumps(store))
    assert same(copy.read_block(0, 0), store.read_block(0, 0))
    assert (copy.manifest, copy.writable, copy.fsync) == (store.manifest, store.writable, store.fsync)


@pytest.mark.parametrize("field", ["probs", "residual"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_teacher_that_is_not_finite_is_not_stored(store: LogitStore, field: str, value: float) -> None:
    block = block_for(store.manifest, 0, 0)
    getattr(block, field)[11] = value
    with pytest.raises(StoreError, match="index 11"):
        store.write_block(0, 0, block)
    assert not store.has_block(0, 0)


@pytest.mark.parametrize("fsync", [True, False])
def test_a_block_is_flushed_to_the_disk_before_it_takes_its_place_if_so_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fsync: bool
) -> None:
    store = LogitStore.create(tmp_path / "store", manifest_of(), fsync=fsync)
    path, there = block_file(store, 0, 0), list[bool]()

    def flush(descriptor: int, really: Callable[[int], None] = os.fsync) -> None:
        there.append(path.exists())
        really(descriptor)

    monkeypatch.setattr(os, "fsync", flush)
    fill(store, [(0, 0)])
    assert same(store.read_block(0, 0), block_for(store.manifest, 0, 0))
    assert there == ([False, True] if fsync else [])  # the file, then its folder


def test_what_a_killed_writer_left_behind_is_listed(store: LogitStore) -> None:
    names = [".c.0.0.0.0123abcd.partial", "c.1.0.0123456789abcdef0123456789abcdef.partial"]
    for name in names:
        (block_file(store, 1, 0).parent / name).touch()
    assert store.unfinished([1, 2]) == [f"s000001/{name}" for name in names]
    assert store.unfinished([0, 2]) == []


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_block_of_zeros_is_written_like_any_other(tmp_path: Path, encoding: Encoding) -> None:
    store = LogitStore.create(tmp_path / "store", manifest_of(lengths=(8,), encoding=encoding))
    block = block_for(store.manifest, 0, 0)
    for array in vars(block).values():
        array[:] = 0
    block.status[:] = 1
    store.write_block(0, 0, block)
    assert same(store.read_block(0, 0), block)


@pytest.mark.parametrize(("name", "most"), [("in22k_k100", 166), ("in1k_k10", 28)])
def test_a_compact_record_takes_this_many_bytes(shared_data: Path, tmp_path: Path, name: str, most: int) -> None:
    block, num_classes = simulated(shared_data / "topk_sim" / f"{name}.npz")
    length, topk = block.probs.shape
    manifest: Manifest = manifest_of((length,), encoding="compact", num_classes=num_classes, topk=topk)
    store = LogitStore.create(tmp_path / "store", manifest)
    store.write_block(0, 0, block)
    assert os.path.getsize(block_file(store, 0, 0)) / length <= most
