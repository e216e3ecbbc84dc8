"""How stage one's work is divided: missing blocks into groups, and groups into tasks of one batch each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import overload

import numpy as np
import numpy.typing as npt

from tinyvit_kd.config.recipes import BlockOrder
from tinyvit_kd.views.mixing import pairs


@dataclass(frozen=True)
class Group:
    """Missing blocks of one shard that are made together, so that each image is decoded once for all of them.

    Attributes:
        views: numbers of the views whose blocks are missing.
        samples: number of samples in the shard.
        pairs_seed: the store's seed if views are mixed, so that samples are visited pair after pair; else None.
    """

    shard: int
    views: tuple[int, ...]
    samples: int
    pairs_seed: int | None = None

    @property
    def unit(self) -> int:
        """Samples that should be in one batch: both of a pair, or just one."""
        return 1 if self.pairs_seed is None else 2


@dataclass(frozen=True)
class Span:
    """A run of a group's samples in all of its views: the samples at ``start`` to ``stop - 1`` of the group's order."""

    group: Group
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """Number of views in this span."""
        return (self.stop - self.start) * len(self.group.views)

    @property
    def indexes(self) -> npt.NDArray[np.int64]:
        """Indexes of its samples in their shard: int64 [stop - start]."""
        return _sample_order(self.group)[self.start : self.stop]


@lru_cache(maxsize=4)
def _sample_order(group: Group) -> npt.NDArray[np.int64]:
    if group.pairs_seed is None:
        return np.arange(group.samples)
    return pairs(group.pairs_seed, group.shard, group.views[0], group.samples)


DumpTask = tuple[Span, ...]


class Groups(Sequence[Group]):
    """Missing blocks in groups that are made together, with at most ``views_per_decode`` views of a shard per group.

    A group is made when it is asked for: a billion samples in 90 views have 900,000 of them.

    Args:
        missing: whether a block is missing: bool [shards, views].
        lengths: number of samples of every shard.
        pairs_seed: the store's seed if views are mixed. Every view number has pairs of its own, so groups then have a
            single view: with more, images would have to be decoded more than once.
        order: of the groups, which are the same in any order: shard by shard or, with ``views``, by their first views,
            so that the lowest view numbers are complete first.
    """

    def __init__(
        self,
        missing: npt.NDArray[np.bool_],
        lengths: Sequence[int],
        views_per_decode: int,
        pairs_seed: int | None = None,
        order: BlockOrder = "shards",
    ) -> None:
        self._missing, self._lengths, self._pairs_seed = missing, lengths, pairs_seed
        self._size = views_per_decode if pairs_seed is None else 1
        blocks = missing.sum(axis=1)
        counts = -(-blocks // self._size)  # groups of each shard
        self._shards = np.repeat(np.arange(len(missing), dtype=np.int32), counts)
        # Numbers of the groups within their shards.
        self._numbers = (np.arange(len(self._shards)) - np.repeat(np.cumsum(counts) - counts, counts)).astype(np.int32)
        if order == "views":
            firsts = np.repeat(np.cumsum(blocks) - blocks, counts) + self._numbers * self._size
            views = np.flatnonzero(missing)[firsts] % missing.shape[1]
            by_view = np.lexsort((self._shards, views))
            self._shards, self._numbers = self._shards[by_view], self._numbers[by_view]

    def __len__(self) -> int:
        return len(self._shards)

    @overload
    def __getitem__(self, number: int) -> Group: ...
    @overload
    def __getitem__(self, number: slice) -> list[Group]: ...
    def __getitem__(self, number: int | slice) -> Group | list[Group]:
        if isinstance(number, slice):
            return [self[each] for each in range(len(self))[number]]
        shard, first = int(self._shards[number]), int(self._numbers[number]) * self._size
        views = np.flatnonzero(self._missing[shard])[first : first + self._size]
        return Group(shard, tuple(views.tolist()), self._lengths[shard], self._pairs_seed)

    @property
    def views(self) -> int:
        """Number of views in all groups together."""
        return int(self._missing.sum(axis=1) @ np.asarray(self._lengths, dtype=np.int64))


def claim_groups(groups: Sequence[Group], counter: Iterator[int]) -> Iterator[Group]:
    """Yield groups that no other process of the job has claimed; ``counter`` gives each number to one process."""
    for number in counter:
        if number >= len(groups):
            return
        yield groups[number]


def tasks_of(groups: Iterator[Group], batch_size: int) -> Iterator[DumpTask]:
    """Divide groups into tasks of at most ``batch_size`` views; a task may contain parts of several groups."""
    pending: list[Span] = []
    room = batch_size
    for group in groups:
        start = 0
        unit = min(group.unit, batch_size)
        while start < group.samples:
            take = min(group.samples - start, room // len(group.views) // unit * unit)
            if take:
                pending.append(Span(group, start, start + take))
                start += take
                room -= take * len(group.views)
            if start < group.samples:
                yield tuple(pending)
                pending = []
                room = batch_size
    if pending:
        yield tuple(pending)
