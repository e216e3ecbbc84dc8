"""A shard set that counts how often each image is read, which is how often it is decoded."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields

from tinyvit_kd.data.shards import ShardReader, ShardSet

Reads = Counter[tuple[int, int]]  # by shard and index


class CountingReader(ShardReader):
    """Counts how often it reads each image."""

    def __init__(self, shards: ShardSet, reads: Reads) -> None:
        super().__init__(shards)
        self.reads = reads

    def read(self, shard: int, index: int) -> bytes:
        """Count and read."""
        self.reads[shard, index] += 1
        return super().read(shard, index)


@dataclass(frozen=True, eq=False)
class CountingShards(ShardSet):
    """A shard set whose readers count what they read in this process."""

    reads: Reads = field(default_factory=Reads)

    @classmethod
    def of(cls, shards: ShardSet, reads: Reads) -> CountingShards:
        """The same shards, counted in ``reads``."""
        return cls(**{each.name: getattr(shards, each.name) for each in fields(ShardSet)}, reads=reads)

    def reader(self) -> CountingReader:
        """Random access to the samples."""
        return CountingReader(self, self.reads)
