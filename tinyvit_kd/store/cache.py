"""Some records of many blocks, with a bounded memory."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from tinyvit_kd.store.codec import decode_rows, row_bytes, rows_of
from tinyvit_kd.store.encodings import Rows
from tinyvit_kd.store.manifest import Manifest
from tinyvit_kd.store.records import Block
from tinyvit_kd.store.store import LogitStore

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


def block_bytes(manifest: Manifest) -> int:
    """What a cache takes for each block: room for the longest."""
    return max(1, *manifest.shard_lengths) * row_bytes(manifest.encoding, manifest.topk, manifest.num_classes)


class BlockCache:
    """Keeps the blocks that were read last, as they are encoded: less than half the memory of their records.

    All lie in one array, in slots of equal size, and a table says which slot holds a block. A batch holds but a few
    records of each of many blocks: its records come out of all of them by one call. Nor is memory asked for or given
    back as one block replaces another.

    Args:
        store: where the blocks are.
        max_bytes: of encoded blocks that are kept; one block is kept in any case. It is taken as blocks are read.
    """

    def __init__(self, store: LogitStore, max_bytes: int) -> None:
        manifest = store.manifest
        self.store = store
        self._coding = manifest.encoding, manifest.topk, manifest.num_classes
        self._lengths = np.array(manifest.shard_lengths, dtype=np.int64)
        self._row_bytes = row_bytes(*self._coding)
        self._slot_rows = block_bytes(manifest) // self._row_bytes
        blocks = manifest.views * len(self._lengths)
        slots = max(1, min(max_bytes // block_bytes(manifest), blocks))
        self._slot_of = np.full(blocks, -1, dtype=np.int32)  # by view * shards + shard
        self._block_in = np.full(slots, -1, dtype=np.int64)
        self._used = np.zeros(slots, dtype=np.int64)  # when a slot was last read from
        self._now = 0

    def gather(self, shards: Int32, indexes: Int32, view: int) -> Block:
        """Records of one view of samples of several shards, in the order given: arrays [B, …], copies.

        Raises:
            BlockMissingError, BlockCorruptError: see ``LogitStore.read_planes``.
        """
        assert (indexes < self._lengths[shards]).all(), "behind a shard's end its slot holds other records"
        return decode_rows(self._rows(shards + np.int64(view * len(self._lengths)), indexes), *self._coding)

    def records(self, shard: int, view: int, indexes: Int32) -> Block:
        """Records of samples of one shard; as ``gather``."""
        return self.gather(np.full(len(indexes), shard, dtype=np.int32), indexes, view)

    @cached_property
    def _memory(self) -> Rows:
        # Made where it is first used: a copy of this object is sent to each loading process.
        return np.empty((len(self._used) * self._slot_rows, self._row_bytes), dtype=np.uint8)

    def _rows(self, blocks: Int64, indexes: Int32) -> Rows:
        """Encoded records of any blocks: [B, bytes of a record]."""
        self._read_missing(blocks)
        slots = self._slot_of[blocks]
        if (slots >= 0).all():
            return self._memory.take(slots * np.int64(self._slot_rows) + indexes, axis=0)
        rows = np.empty((len(blocks), self._row_bytes), dtype=np.uint8)
        for block in np.unique(blocks):  # more than there are slots: one after the other
            here = blocks == block
            rows[here] = self._rows(blocks[here], indexes[here])
        return rows

    def _read_missing(self, blocks: Int64) -> None:
        """Read blocks into the slots that have not been read from for longest, but into none that these need."""
        self._now += 1
        slots = self._slot_of[blocks]
        self._used[slots[slots >= 0]] = self._now
        missing = np.unique(blocks[slots < 0])
        if len(missing):
            free = np.flatnonzero(self._used < self._now)
            oldest = free[np.argsort(self._used[free], kind="stable")]
            for block, slot in zip(missing.tolist(), oldest.tolist(), strict=False):
                self._read(block, slot)

    def _read(self, block: int, slot: int) -> None:
        view, shard = divmod(block, len(self._lengths))
        planes = self.store.read_planes(shard, view)
        if self._block_in[slot] >= 0:
            self._slot_of[self._block_in[slot]] = -1  # before its records go
        start = slot * self._slot_rows
        rows_of(planes, self._memory[start : start + planes.shape[1]])
        self._block_in[slot], self._used[slot], self._slot_of[block] = block, self._now, slot
