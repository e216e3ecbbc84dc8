"""Rewrite blocks of a finished store, for example with holes."""

from __future__ import annotations

import numpy as np

from benchmarks.local_files import block_file, store_folder
from tinyvit_kd.store.records import Block, RecordStatus
from tinyvit_kd.store.store import LogitStore


def rewrite(store: LogitStore, shard: int, view: int, block: Block) -> None:
    """Replace a block."""
    block_file(store, shard, view).unlink()
    LogitStore.open(store_folder(store), writable=True).write_block(shard, view, block)


def with_hole(block: Block, index: int) -> Block:
    """The block as a dump would write it if it could not read one image."""
    seed = block.seeds[index]
    block.put(np.array([index]), Block.empty(1, block.probs.shape[1]))
    block.seeds[index], block.status[index] = seed, RecordStatus.TRUNCATED
    return block
