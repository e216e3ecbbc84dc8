"""The shards that no candidate is trained on, and on which all are scored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinyvit_kd.errors import StoreError
from tinyvit_kd.runtime.seeding import hash64, permutation
from tinyvit_kd.runtime.wording import counted

_HELD_OUT = 0x68656C64  # keeps this use of the seed apart from others


@dataclass(frozen=True)
class Split:
    """The samples of each shard that are trained on, and those that are held out; of a shard all are, or none.

    Attributes:
        lengths: samples of each shard.
        held_out: numbers of the shards that are held out, ascending.
    """

    lengths: tuple[int, ...]
    held_out: tuple[int, ...]

    @property
    def trained(self) -> tuple[int, ...]:
        """Samples of each shard that are trained on."""
        held_out = set(self.held_out)
        return tuple(0 if shard in held_out else length for shard, length in enumerate(self.lengths))

    @property
    def scored(self) -> tuple[int, ...]:
        """Samples of each shard that are held out."""
        held_out = set(self.held_out)
        return tuple(length if shard in held_out else 0 for shard, length in enumerate(self.lengths))

    def runs(self, size: int) -> list[tuple[int, int, int]]:
        """All held-out samples once, in runs of at most ``size`` that stay within a shard: (shard, start, stop)."""
        return [
            (shard, start, min(start + size, self.lengths[shard]))
            for shard in self.held_out
            for start in range(0, self.lengths[shard], size)
        ]


def split_shards(lengths: Sequence[int], fraction: float, seed: int, where: str) -> Split:
    """Hold out a fraction of the shards that hold samples: at least one, and never all. The seed decides which.

    Args:
        lengths: samples of each shard.
        where: the store, for messages.

    Raises:
        StoreError: fewer than two shards hold samples.
    """
    filled = np.flatnonzero(np.asarray(lengths))
    if len(filled) < 2:
        raise StoreError(
            "a store without held-out blocks",
            where=where,
            found=counted(len(filled), "shard") + " with samples",
            expected="at least two: whole shards are held out, to score what was trained on the others",
            fix="build the images into more shards (shards build --samples-per-shard), and dump these",
        )
    count = min(max(1, math.floor(fraction * len(filled) + 0.5)), len(filled) - 1)
    chosen = filled[permutation(hash64(seed, _HELD_OUT), len(filled))[:count]]
    return Split(tuple(map(int, lengths)), tuple(sorted(chosen.tolist())))
