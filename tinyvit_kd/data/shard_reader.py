"""Reads the samples of a shard set in any order."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from tinyvit_kd.data.indexing.index import Int64, ShardIndex
from tinyvit_kd.data.shard_files import ShardFiles
from tinyvit_kd.runtime.watchdog import doing

_KEPT_TABLES = 256  # by a reader: a lane reads two shards at a time, and a rank may own 64 lanes


class IndexedShards(Protocol):
    """What a reader takes of a shard set (``data.shards``)."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the shards."""

    @property
    def lengths(self) -> Int64:
        """Samples per shard: [shards]."""

    @property
    def locations(self) -> tuple[str, ...]:
        """A path or URL per shard."""

    def files(self) -> ShardFiles:
        """Opens the shards' files."""

    def index(self, shard: int, files: ShardFiles | None = None) -> ShardIndex:
        """A shard's byte index, with classes for labels."""


class _Table(NamedTuple):
    """What reading samples takes of an index, in a third of its memory: arrays [n], of the smallest types that do."""

    offsets: npt.NDArray[np.integer]
    sizes: npt.NDArray[np.integer]
    labels: npt.NDArray[np.integer]


class ShardReader:
    """Reads the samples of a shard set in any order.

    Files and tables of samples are opened when they are first needed, and kept: a few hundred, or as many tables as
    ``shards_at_a_time`` says. A reader may be forked or pickled. Within a process, only one thread may use it.
    """

    def __init__(self, shards: IndexedShards, shards_at_a_time: int = 0) -> None:
        self.shards = shards
        self.shards_at_a_time = shards_at_a_time
        self._files = shards.files()
        self._table = lru_cache(max(_KEPT_TABLES, shards_at_a_time))(self._read_table)

    def read(self, shard: int, index: int) -> bytes:
        """The encoded image of one sample.

        Raises:
            ShardError: the shard is missing, damaged, or has changed since it was opened.
        """
        assert index >= 0
        table = self._table(shard)
        location = self.shards.locations[shard]
        doing(f"reading sample {index} of {location}")
        return self._files.read_sample(location, int(table.offsets[index]), int(table.sizes[index]))

    def key(self, shard: int, index: int) -> str:
        """The key of one sample."""
        return self.shards.index(shard, self._files).key(index)

    def name(self, shard: int) -> str:
        """The name of one shard."""
        return self.shards.names[shard]

    def labels(self, shard: int, indexes: npt.NDArray[np.integer]) -> Int64:
        """The labels of samples of one shard: int64 [n], -1 if there is none."""
        labels: Int64 = self._table(shard).labels[indexes].astype(np.int64)
        return labels

    def _read_table(self, shard: int) -> _Table:
        index = self.shards.index(shard, self._files)
        return _Table(*(_smallest(column) for column in (index.offsets, index.sizes, index.labels)))

    def __reduce__(self) -> tuple[Callable[[IndexedShards, int], ShardReader], tuple[IndexedShards, int]]:
        return ShardReader, (self.shards, self.shards_at_a_time)


def _smallest(values: Int64) -> npt.NDArray[np.integer]:
    """The same numbers in the smallest type of integers that holds them: [n]."""
    lowest, highest = int(values.min(initial=0)), int(values.max(initial=0))
    return values.astype(np.promote_types(np.min_scalar_type(lowest), np.min_scalar_type(highest)))
