"""Some records of many blocks, with a bounded memory."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import numpy.typing as npt

from tinyvit_kd.store.codec import Planes, decode, read_header
from tinyvit_kd.store.records import Block
from tinyvit_kd.store.store import LogitStore


class BlockCache:
    """Keeps the blocks that were read last, as they are encoded: less than half the memory of their records.

    Args:
        store: where the blocks are.
        max_bytes: of encoded blocks that are kept; one block is kept in any case.
    """

    def __init__(self, store: LogitStore, max_bytes: int) -> None:
        self.store, self.max_bytes = store, max_bytes
        self._kept: OrderedDict[tuple[int, int], Planes] = OrderedDict()
        self._bytes = 0

    def gather(self, shards: npt.NDArray[np.int32], indexes: npt.NDArray[np.int32], view: int) -> Block:
        """Records of one view of samples of several shards, in the order given: arrays [B, …], copies."""
        gathered = Block.empty(len(shards), self.store.manifest.topk)
        for shard in np.unique(shards).tolist():
            rows = np.flatnonzero(shards == shard)
            gathered.put(rows, self.records(shard, view, indexes[rows]))
        return gathered

    def records(self, shard: int, view: int, indexes: npt.NDArray[np.int32]) -> Block:
        """Records of samples of one shard; only these are decoded.

        Raises:
            BlockMissingError, BlockCorruptError: see ``LogitStore.read_planes``.
        """
        planes = self._planes(shard, view)
        header = read_header(planes)
        assert header is not None, "read_planes has checked it"
        return decode(planes, header, indexes)

    def _planes(self, shard: int, view: int) -> Planes:
        key = (shard, view)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        planes = self.store.read_planes(shard, view)
        self._kept[key] = planes
        self._bytes += planes.nbytes
        while self._bytes > self.max_bytes and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return planes
