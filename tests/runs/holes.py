"""Blocks of a finished store, written again as another dump would have written them."""

from __future__ import annotations

import numpy as np

from benchmarks.local_files import block_file, store_folder
from tinyvit_kd.store.records import Block, RecordStatus
from tinyvit_kd.store.store import LogitStore


def rewrite(store: LogitStore, shard: int, view: int, block: Block) -> None:
    """Put a block in the place of the one that is there."""
    block_file(store, shard, view).unlink()
    LogitStore.open(store_folder(store), writable=True).write_block(shard, view, block)


def with_hole(block: Block, index: int) -> Block:
    """The block as a dump writes it that could not read one image."""
    seed = block.seeds[index]
    block.put(np.array([index]), Block.empty(1, block.probs.shape[1]))
    block.seeds[index], block.status[index] = seed, RecordStatus.TRUNCATED
    return block
