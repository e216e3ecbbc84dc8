"""A cache of encoded blocks: it reads a few records from each of many blocks, in a limited amount of memory."""

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
    """Bytes that a cache reserves per block: enough for the store's longest."""
    return max(1, *manifest.shard_lengths) * row_bytes(manifest.encoding, manifest.topk, manifest.num_classes)


class BlockCache:
    """Keeps the most recently used blocks, encoded, which takes less than half the memory of decoded records.

    All blocks lie in one array, in slots of equal size, and a table maps each block to its slot. A batch needs only a
    few records of each of many blocks, and one call gathers them all. Replacing a block allocates no memory.

    Args:
        store: where the blocks are read from.
        max_bytes: limit of the encoded blocks that are kept, though at least one is. Memory is used up only as blocks
            are read.
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
        self._slot_of = np.full(blocks, -1, dtype=np.int32)  # by block number: view * shards + shard
        self._block_in = np.full(slots, -1, dtype=np.int64)
        self._last_used = np.zeros(slots, dtype=np.int64)  # number of the call that last read from a slot
        self._calls = 0

    def gather(self, shards: Int32, indexes: Int32, view: int) -> Block:
        """Gather the records of one view of B samples, from any shards.

        Args:
            shards: shard of each sample, [B].
            indexes: index of each sample in its shard, [B].
            view: the view number.

        Returns:
            copies of B records, in the order of the samples.

        Raises:
            BlockMissingError, BlockCorruptError: see ``LogitStore.read_planes``.
        """
        assert (indexes < self._lengths[shards]).all(), "past a shard's end, its slot holds another block's records"
        return decode_rows(self._rows(shards + np.int64(view * len(self._lengths)), indexes), *self._coding)

    def records(self, shard: int, view: int, indexes: Int32) -> Block:
        """As ``gather``, for samples of one shard."""
        return self.gather(np.full(len(indexes), shard, dtype=np.int32), indexes, view)

    @cached_property
    def _memory(self) -> Rows:
        # Allocated on first use: this object is sent to each loading process, which needs memory of its own.
        return np.empty((len(self._last_used) * self._slot_rows, self._row_bytes), dtype=np.uint8)

    def _rows(self, blocks: Int64, indexes: Int32) -> Rows:
        """Encoded records of samples in any blocks: [B, bytes per record]."""
        self._read_missing(blocks)
        slots = self._slot_of[blocks]
        if (slots >= 0).all():
            return self._memory.take(slots * np.int64(self._slot_rows) + indexes, axis=0)
        rows = np.empty((len(blocks), self._row_bytes), dtype=np.uint8)
        for block in np.unique(blocks):  # more blocks than slots: one block at a time
            wanted = blocks == block
            rows[wanted] = self._rows(blocks[wanted], indexes[wanted])
        return rows

    def _read_missing(self, blocks: Int64) -> None:
        """Read the missing blocks into the least recently used slots, but not into slots that this call needs."""
        self._calls += 1
        slots = self._slot_of[blocks]
        self._last_used[slots[slots >= 0]] = self._calls
        missing = np.unique(blocks[slots < 0])
        if len(missing):
            replaceable = np.flatnonzero(self._last_used < self._calls)
            oldest_first = replaceable[np.argsort(self._last_used[replaceable], kind="stable")]
            for block, slot in zip(missing.tolist(), oldest_first.tolist(), strict=False):
                self._read(block, slot)

    def _read(self, block: int, slot: int) -> None:
        view, shard = divmod(block, len(self._lengths))
        planes = self.store.read_planes(shard, view)
        if self._block_in[slot] >= 0:
            self._slot_of[self._block_in[slot]] = -1  # first, so that no half-replaced slot is ever found
        start = slot * self._slot_rows
        rows_of(planes, self._memory[start : start + planes.shape[1]])
        self._block_in[slot] = block
        self._last_used[slot] = self._calls
        self._slot_of[block] = slot
