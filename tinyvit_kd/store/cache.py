"""A cache of encoded blocks: it reads a few records from each of many blocks, in a limited amount of memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runtime.watchdog import doing
from tinyvit_kd.storage.together import together
from tinyvit_kd.store.block_slots import BlockSlots, SlotSizes
from tinyvit_kd.store.codec import decode_rows, row_bytes, rows_of
from tinyvit_kd.store.encodings import Planes, Rows
from tinyvit_kd.store.manifest import Manifest
from tinyvit_kd.store.records import Block
from tinyvit_kd.store.store import LogitStore

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

_PATIENCE = 10.0  # seconds; a read takes milliseconds, and one that hangs is not waited for by all
_POLL = 0.002  # seconds


def block_bytes(manifest: Manifest) -> int:
    """Bytes that a cache reserves per block: enough for the store's longest."""
    return max(1, *manifest.shard_lengths) * row_bytes(manifest.encoding, manifest.topk, manifest.num_classes)


class BlockCache:
    """Keeps the most recently used blocks, encoded, which takes less than half the memory of decoded records.

    All blocks lie in one array, in slots of equal size, and a table maps each block to its slot. A batch needs only a
    few records of each of many blocks, and one call gathers them all. Replacing a block allocates no memory.

    Processes that are started within ``shared`` have one cache: what one of them has read, all of them find. Otherwise
    each process has a cache of its own.

    Args:
        store: where the blocks are read from.
        max_bytes: limit of the encoded blocks that are kept, though at least one is. Memory is used up only as blocks
            are read.
        patience: seconds for which a block is waited for that another process is reading; then it is read here, too.
    """

    def __init__(self, store: LogitStore, max_bytes: int, patience: float = _PATIENCE) -> None:
        manifest = store.manifest
        self.store = store
        self._patience = patience
        self._coding = manifest.encoding, manifest.topk, manifest.num_classes
        self._lengths = np.array(manifest.shard_lengths, dtype=np.int64)
        blocks = manifest.views * len(self._lengths)  # numbered as view * shards + shard
        self.slots = max(1, min(max_bytes // block_bytes(manifest), blocks))
        self._sizes = SlotSizes(blocks, self.slots, max(1, *manifest.shard_lengths), row_bytes(*self._coding))
        self._shared: BlockSlots | None = None

    @contextmanager
    def shared(self, start_method: str | None = None) -> Iterator[None]:
        """While this lasts, all processes that are started have one cache, empty at first.

        Raises:
            ConfigError: there is not enough memory.
        """
        try:
            self._shared = BlockSlots.shared(self._sizes, start_method)
        except (OSError, RuntimeError) as error:
            raise ConfigError(
                "there is not enough memory for the blocks of a store",
                where="store.block_cache_mib",
                found=f"{self._sizes.memory_bytes / 2**20:,.0f} MiB for {self.slots} blocks; {error}",
                fix="set store.block_cache_mib to less, or use fewer lanes per process",
            ) from error
        try:
            yield
        finally:
            self._shared = None

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

    @property
    def _slots(self) -> BlockSlots:
        return self._private if self._shared is None else self._shared

    @cached_property
    def _private(self) -> BlockSlots:
        return BlockSlots.private(self._sizes)

    def __getstate__(self) -> dict[str, Any]:
        # A process that is sent this object has blocks of its own, unless they are shared with it.
        return {name: value for name, value in vars(self).items() if name != "_private"}

    def _rows(self, blocks: Int64, indexes: Int32) -> Rows:
        """Encoded records of samples in any blocks: [B, bytes per record]."""
        slots = self._slots
        turn = slots.next_turn()
        here, copied = slots.copy(blocks, indexes, turn)
        if here.all():
            return copied
        rows = np.empty((len(blocks), self._sizes.row_bytes), dtype=np.uint8)
        rows[here] = copied
        left = np.flatnonzero(~here)
        noted = False
        while len(left):
            claimed = self._claim(slots, blocks[left])
            if claimed:
                done = np.isin(blocks[left], claimed)
                for block, planes in self._read(slots, claimed):
                    here = left[blocks[left] == block]
                    rows[here] = self._keep(slots, block, planes, indexes[here], turn)
                noted = False
            else:
                done, copied = slots.copy(blocks[left], indexes[left], turn)
                rows[left[done]] = copied
                if not done.any():
                    if not noted:
                        self._note_waiting(int(blocks[left[0]]))
                        noted = True
                    time.sleep(_POLL)
            left = left[~done]
        return rows

    def _claim(self, slots: BlockSlots, blocks: Int64) -> list[int]:
        """Claim as many blocks as the storage answers requests at a time."""
        claimed: list[int] = []
        while len(claimed) < self.store.storage.at_a_time:
            block = slots.claim(blocks, self._patience)
            if block is None:
                break
            claimed.append(block)
        return claimed

    def _read(self, slots: BlockSlots, claimed: list[int]) -> Iterator[tuple[int, Planes]]:
        """Read claimed blocks, and release each once it has been taken; all of them whatever happens."""

        def read(block: int) -> Planes:
            view, shard = divmod(block, len(self._lengths))
            return self.store.read_planes(shard, view)

        left = set(claimed)
        try:
            for block, planes in zip(claimed, together(self.store.storage, read, claimed), strict=True):
                yield block, planes
                slots.release(block)
                left.remove(block)
        finally:
            for block in left:
                slots.release(block)

    @staticmethod
    def _keep(slots: BlockSlots, block: int, planes: Planes, indexes: Int32, turn: int) -> Rows:
        """Put a block into a slot, if one can be had, and take records of it: [n, bytes per record]."""
        with slots.slot_for(block, turn) as slot:
            rows = rows_of(planes, None if slot is None else slot[: planes.shape[1]])
            return rows[indexes]

    def _note_waiting(self, block: int) -> None:
        view, shard = divmod(block, len(self._lengths))
        doing(f"waiting for {self.store.block_location(shard, view)}, which another loading process is reading")
