"""Some records of many blocks, with a bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tinyvit_kd.store.codec import Rows, decode_rows, row_bytes, rows_of
from tinyvit_kd.store.manifest import Manifest
from tinyvit_kd.store.records import Block
from tinyvit_kd.store.store import LogitStore

Int32 = npt.NDArray[np.int32]


def block_bytes(manifest: Manifest) -> int:
    """What a cache takes for each block: room for the longest."""
    return max(1, *manifest.shard_lengths) * row_bytes(manifest.encoding, manifest.topk, manifest.num_classes)


class BlockCache:
    """Keeps the blocks that were read last, as they are encoded: less than half the memory of their records.

    All lie in one array, in slots of equal size: a batch's records come out of any number of blocks by one call, and
    memory is neither asked for nor given back as one block replaces another.

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
        slots = max(1, min(max_bytes // block_bytes(manifest), manifest.views * len(self._lengths)))
        self._shape = slots * self._slot_rows, self._row_bytes
        # By block; first is the one that has been asked for least recently. No shard is number -1: its slots are free.
        self._slots = OrderedDict(((-1, slot), slot) for slot in range(slots))

    def gather(self, shards: Int32, indexes: Int32, view: int) -> Block:
        """Records of one view of samples of several shards, in the order given: arrays [B, …], copies.

        Raises:
            BlockMissingError, BlockCorruptError: see ``LogitStore.read_planes``.
        """
        assert (indexes < self._lengths[shards]).all(), "behind a shard's end its slot holds other records"
        rows = np.empty((len(shards), self._row_bytes), dtype=np.uint8)
        distinct, numbers = np.unique(shards, return_inverse=True)
        at_once = len(self._slots)
        for first in range(0, len(distinct), at_once):
            some = distinct[first : first + at_once]
            slots = np.array([self._slot(shard, view) for shard in some.tolist()])
            here = np.flatnonzero((numbers >= first) & (numbers < first + len(some)))
            rows[here] = self._memory.take(slots[numbers[here] - first] * self._slot_rows + indexes[here], axis=0)
        return decode_rows(rows, *self._coding)

    def records(self, shard: int, view: int, indexes: Int32) -> Block:
        """Records of samples of one shard; as ``gather``."""
        return self.gather(np.full(len(indexes), shard, dtype=np.int32), indexes, view)

    @cached_property
    def _memory(self) -> Rows:
        # Made where it is first used: a copy of this object is sent to each loading process.
        return np.empty(self._shape, dtype=np.uint8)

    def _slot(self, shard: int, view: int) -> int:
        key = shard, view
        if key not in self._slots:
            rows = rows_of(self.store.read_planes(shard, view))
            _, slot = self._slots.popitem(last=False)
            start = slot * self._slot_rows
            self._memory[start : start + len(rows)] = rows
            self._slots[key] = slot
        self._slots.move_to_end(key)
        return self._slots[key]
