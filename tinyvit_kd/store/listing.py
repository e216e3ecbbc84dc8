"""Which blocks a store has, in a table that takes a byte per block."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from tinyvit_kd.storage.base import Storage
from tinyvit_kd.store.folders import array_entries
from tinyvit_kd.store.names import chunk_name

Bool = npt.NDArray[np.bool_]


def missing_table(storage: Storage, lengths: Sequence[int], views: Sequence[int], shards: range | None = None) -> Bool:
    """Whether each block is missing: bool [shards, views]. A shard without samples has no block.

    Args:
        lengths: samples of each shard.
        views: the view numbers to look for.
        shards: those that are looked at; nothing is said to be missing of others. None: all.
    """
    names = [chunk_name(view) for view in views]
    table = np.zeros((len(lengths), len(names)), dtype=np.bool_)
    with_samples = [shard for shard in (range(len(lengths)) if shards is None else shards) if lengths[shard]]
    for shard, entries in array_entries(storage, with_samples, len(with_samples) * len(names)):
        present = {entry.base for entry in entries}
        table[shard] = [name not in present for name in names]
    return table


def present_blocks(
    missing: Collection[tuple[int, int]] | Bool, lengths: Sequence[int], views: int
) -> Iterator[tuple[int, int]]:
    """(shard, view) of every block that is not missing, shard by shard.

    Args:
        missing: a table, or (shard, view) of each missing block.
        lengths: samples of each shard.
        views: how many views the store has.
    """
    table = missing
    if not isinstance(table, np.ndarray):
        table = np.zeros((len(lengths), views), dtype=np.bool_)
        table[tuple(np.array(list(missing), dtype=np.int64).reshape(-1, 2).T)] = True
    for shard, length in enumerate(lengths):
        if length:
            yield from ((shard, view) for view in np.flatnonzero(~table[shard]).tolist())
