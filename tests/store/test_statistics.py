"""The figures of a store agree with its blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.local_files import block_file
from tests.store.blocks import block_for, manifest_of
from tinyvit_kd.store.records import RecordStatus
from tinyvit_kd.store.statistics import holes, statistics
from tinyvit_kd.store.store import LogitStore

WRITTEN = [(0, 0), (0, 1), (2, 3)]


@pytest.fixture
def store(tmp_path: Path) -> LogitStore:
    """A toy store with three of its twelve blocks."""
    store = LogitStore.create(tmp_path / "store", manifest_of())
    for shard, view in WRITTEN:
        store.write_block(shard, view, block_for(store.manifest, shard, view))
    return store


def test_figures_are_those_of_the_blocks_that_are_there(store: LogitStore) -> None:
    figures = statistics(store)
    assert (figures.blocks, figures.total_blocks) == (3, 12)
    assert figures.records == 30 + 30 + 17
    assert figures.bytes == sum(block_file(store, *place).stat().st_size for place in WRITTEN)
    assert figures.bytes_per_record == figures.bytes / 77


def test_holes_are_named_once_a_sample(store: LogitStore) -> None:
    expected = [
        (shard, index, RecordStatus.TRUNCATED)
        for shard, view in [(0, 0), (2, 3)]
        for index in np.flatnonzero(block_for(store.manifest, shard, view).status).tolist()
    ]
    assert list(holes(store)) == expected
    assert statistics(store).holes == {"truncated": len(expected)}


def test_an_empty_store_has_figures_too(tmp_path: Path) -> None:
    figures = statistics(LogitStore.create(tmp_path / "store", manifest_of()))
    assert (figures.blocks, figures.records, figures.bytes, figures.bytes_per_record) == (0, 0, 0, 0)
    assert figures.holes == {}
