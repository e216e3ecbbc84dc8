"""A shard set that counts how often each image is read, which is how often it is decoded."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields

from tinyvit_kd.data.shard_reader import ShardReader
from tinyvit_kd.data.shards import ShardSet

Reads = Counter[tuple[int, int]]  # by shard and index


class CountingReader(ShardReader):
    """Counts how often it reads each image."""

    def __init__(self, shards: ShardSet, reads: Reads, shards_at_a_time: int) -> None:
        super().__init__(shards, shards_at_a_time)
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

    def reader(self, shards_at_a_time: int = 0) -> CountingReader:
        """Random access to the samples."""
        return CountingReader(self, self.reads, shards_at_a_time)
