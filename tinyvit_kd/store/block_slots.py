"""The slots of a block cache and the tables that say what is in them, for one process or for several that share them.

The lock is held for table entries alone, never while a block is read, decompressed or copied: a process that hangs or
is killed there keeps nobody waiting. What is copied out of a slot may be overwritten meanwhile; the slot's version, odd
while it is filled, then differs afterwards. Both looks at the version are under the lock, which orders them with the
copying on every processor.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from tinyvit_kd.runtime.shared_memory import SharedBytes, shared_lock
from tinyvit_kd.store.encodings import Rows

Bool = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]
Memory = torch.Tensor | SharedBytes

_NONE = -1
_NEVER = np.iinfo(np.int64).max


class SlotSizes(NamedTuple):
    """How many blocks there are and how many slots, and the records of a slot and bytes of a record."""

    blocks: int
    slots: int
    slot_rows: int
    row_bytes: int

    @property
    def memory_bytes(self) -> int:
        """Bytes of all slots."""
        return self.slots * self.slot_rows * self.row_bytes

    @property
    def table_bytes(self) -> int:
        """Bytes of the tables."""
        return (1 + 2 * self.blocks + 3 * self.slots) * 8


class BlockSlots:
    """Memory for blocks in slots of equal size, and tables under a lock.

    Args:
        memory: of the slots, uint8 [``sizes.memory_bytes``].
        tables: uint8 [``sizes.table_bytes``]; zeros where nothing has been read yet.
        lock: of the tables.
    """

    def __init__(self, sizes: SlotSizes, memory: Memory, tables: Memory, lock: AbstractContextManager[object]) -> None:
        self._given = sizes, memory, tables, lock
        self._lock = lock
        self._sizes = sizes
        self._memory: Rows = _array(memory).reshape(-1, sizes.row_bytes)
        numbers = _array(tables).view(np.int64)
        bounds = np.cumsum([1, sizes.blocks, sizes.blocks, sizes.slots, sizes.slots])
        # All of them begin with zeros, so places count from 1 there: 0 is none.
        self._clock, self._place_of, self._read_since, self._block_in, self._used, self._version = np.split(
            numbers, bounds
        )

    @classmethod
    def private(cls, sizes: SlotSizes) -> BlockSlots:
        """Slots of this process alone. Memory is used up only as blocks are read."""
        tables = torch.zeros(sizes.table_bytes, dtype=torch.uint8)
        memory = torch.from_numpy(np.empty(sizes.memory_bytes, dtype=np.uint8))  # numpy asks for huge pages
        return cls(sizes, memory, tables, nullcontext())

    @classmethod
    def shared(cls, sizes: SlotSizes, start_method: str | None = None) -> BlockSlots:
        """Slots that this process shares with all that it starts later, in this way or as it starts them by itself.

        Raises:
            OSError, RuntimeError: there is not enough memory.
        """
        memory, tables = (SharedBytes(size, start_method) for size in (sizes.memory_bytes, sizes.table_bytes))
        return cls(sizes, memory, tables, shared_lock(start_method))

    def next_turn(self) -> int:
        """A number for a call that reads. It keeps what it needs itself from being replaced by itself."""
        with self._lock:
            self._clock += 1
            return int(self._clock[0])

    def copy(self, blocks: Int64, indexes: npt.NDArray[np.int32], turn: int) -> tuple[Bool, Rows]:
        """Copy those records of n that are here.

        Args:
            blocks: block number of each record, int64 [n].
            indexes: index of each record in its block, int32 [n].

        Returns:
            which of them were here, bool [n], and those, uint8 [number of them, bytes per record].
        """
        with self._lock:
            slots = self._place_of[blocks] - 1
            here = slots >= 0
            slots = slots[here]
            versions = self._version[slots]
            self._used[slots] = turn
        rows = self._memory.take(slots * self._sizes.slot_rows + indexes[here], axis=0)
        with self._lock:
            same = self._version[slots] == versions
        if not same.all():  # another process has put another block there meanwhile
            rows = rows[same]
            here[np.flatnonzero(here)[~same]] = False
        return here, rows

    def claim(self, blocks: Int64, patience: float) -> int | None:
        """Claim the first of some blocks that nobody is reading, so that this process reads it, and no other.

        Args:
            blocks: block numbers, int64 [n].
            patience: seconds after which a process that reads a block is taken to be gone, or to hang.

        Returns:
            the block's number; None if each block is here meanwhile, or is being read by another process.
        """
        now = time.monotonic_ns()
        with self._lock:
            since = self._read_since[blocks]
            idle = (self._place_of[blocks] == 0) & ((since == 0) | (since < now - int(patience * 1e9)))
            if not idle.any():
                return None
            block = int(blocks[idle.argmax()])
            self._read_since[block] = now
            return block

    def release(self, block: int) -> None:
        """End what ``claim`` began."""
        with self._lock:
            self._read_since[block] = 0

    @contextmanager
    def slot_for(self, block: int, turn: int) -> Iterator[Rows | None]:
        """The memory of the least recently used slot, uint8 [records, bytes per record], for a block to be put in.

        Others find the block once the context has ended without an error. None if the block is here already, or all
        slots are being filled or hold what this turn needs.
        """
        slot = self._empty_slot(block, turn)
        if slot == _NONE:
            yield None
            return
        filled = False
        start = slot * self._sizes.slot_rows
        try:
            yield self._memory[start : start + self._sizes.slot_rows]
            filled = True
        finally:
            with self._lock:
                self._version[slot] += 1
                if filled:
                    self._block_in[slot], self._place_of[block], self._used[slot] = block + 1, slot + 1, turn

    def _empty_slot(self, block: int, turn: int) -> int:
        with self._lock:
            used = np.where((self._version % 2 == 0) & (self._used < turn), self._used, _NEVER)
            slot = int(used.argmin())
            if self._place_of[block] or used[slot] == _NEVER:
                return _NONE
            evicted = self._block_in[slot] - 1
            if evicted >= 0 and self._place_of[evicted] == slot + 1:
                self._place_of[evicted] = 0
            self._block_in[slot], self._used[slot] = 0, 0
            self._version[slot] += 1
            return slot

    def __reduce__(self) -> tuple[Any, ...]:
        # For processes that are started anew: memory travels as a file, and arrays are made of it there.
        return BlockSlots, self._given


def _array(memory: Memory) -> npt.NDArray[np.uint8]:
    tensor = memory.tensor if isinstance(memory, SharedBytes) else memory
    return tensor.numpy()
