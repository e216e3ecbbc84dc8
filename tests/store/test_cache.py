"""Records out of many blocks: the right ones, copies, within a bounded memory."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.local_files import block_file
from tests.store.blocks import block_for, manifest_of, same
from tinyvit_kd.errors import BlockMissingError
from tinyvit_kd.store.cache import BlockCache
from tinyvit_kd.store.records import Block
from tinyvit_kd.store.store import LogitStore


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LogitStore:
    """A full toy store that no test changes."""
    return filled(tmp_path_factory.mktemp("cache") / "store")


def filled(path: Path) -> LogitStore:
    store = LogitStore.create(path, manifest_of(encoding="compact"))
    for shard, view in store.missing_blocks():
        store.write_block(shard, view, block_for(store.manifest, shard, view))
    return store


def test_chosen_records_are_those_of_the_block(store: LogitStore) -> None:
    indexes = np.array([29, 0, 7, 7], np.int32)
    assert same(BlockCache(store, 1 << 20).records(1, 2, indexes), store.read_block(1, 2), indexes)


@given(
    places=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 16)), max_size=30),
    max_bytes=st.sampled_from([0, 1 << 20]),
)
def test_records_of_several_shards_come_in_the_order_asked_for(
    store: LogitStore, places: list[tuple[int, int]], max_bytes: int
) -> None:
    shards, indexes = np.array(places, np.int32).reshape(-1, 2).T
    gathered = BlockCache(store, max_bytes).gather(shards, indexes, view=3)
    expected = Block.empty(len(places), store.manifest.topk)
    for row, (shard, index) in enumerate(places):
        block = store.read_block(shard, 3)
        for name, values in vars(expected).items():
            values[row] = getattr(block, name)[index]
    assert same(gathered, expected)


def test_records_are_copies(store: LogitStore) -> None:
    cache, indexes = BlockCache(store, 1 << 20), np.arange(30, dtype=np.int32)
    for array in vars(cache.records(0, 0, indexes)).values():
        array[:] = 0
    assert same(cache.records(0, 0, indexes), store.read_block(0, 0))


def test_the_blocks_that_were_read_last_are_kept_and_no_more(tmp_path: Path) -> None:
    store, some = filled(tmp_path / "store"), np.array([0], np.int32)
    cache = BlockCache(store, 2 * store.read_planes(0, 0).nbytes)
    for view in (0, 1, 0, 2):  # 1 has not been read for longest when 2 comes
        cache.records(0, view, some)
    for view in range(3):
        block_file(store, 0, view).unlink()
    cache.records(0, 0, some)
    cache.records(0, 2, some)
    with pytest.raises(BlockMissingError):
        cache.records(0, 1, some)


def test_a_record_behind_the_end_of_its_shard_is_our_own_bug(store: LogitStore) -> None:
    with pytest.raises(AssertionError):
        BlockCache(store, 1 << 20).records(2, 0, np.array([17], np.int32))


def test_a_cache_that_has_read_nothing_is_small_when_it_is_sent_to_a_process(store: LogitStore) -> None:
    assert len(pickle.dumps(BlockCache(store, 1 << 30))) < 10_000


def test_a_block_that_cannot_be_read_leaves_the_others_as_they_were(tmp_path: Path) -> None:
    store, some = filled(tmp_path / "store"), np.array([4], np.int32)
    block_file(store, 1, 0).unlink()
    cache = BlockCache(store, 1)
    before = cache.records(0, 0, some)
    with pytest.raises(BlockMissingError):
        cache.records(1, 0, some)
    block_file(store, 0, 0).unlink()
    assert same(cache.records(0, 0, some), before)
