"""Which samples, in which views, a rank trains on at each step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from tinyvit_kd.batches.view_schedule import ViewSchedule
from tinyvit_kd.config.training import ScheduleConfig
from tinyvit_kd.data.order import EpochOrder
from tinyvit_kd.views.mixing import pairs

Int32 = npt.NDArray[np.int32]


@dataclass(frozen=True)
class StepPlan:
    """Which samples a rank trains on, step by step; a pure function of its fields.

    A step of B views takes B / M samples, M = ``schedule.views_per_sample``; an epoch is a pass over the samples.

    Attributes:
        lanes: of this rank.
        pairs_seed: where views are mixed: seed of the pairs, which the order keeps together.
        stored: which of a store's views each epoch uses; None: every epoch makes new ones.
    """

    shard_lengths: tuple[int, ...]
    schedule: ScheduleConfig
    lanes: range
    pairs_seed: int | None = None
    stored: ViewSchedule | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps an epoch."""
        return self._order(0).steps(self._samples_a_step)

    @property
    def views_per_sample(self) -> int:
        """M, views of a sample in an epoch, next to each other in a batch."""
        return self.schedule.views_per_sample

    @property
    def batch_size(self) -> int:
        """This rank's views a step."""
        return self.schedule.global_batch_size // self.schedule.lanes * len(self.lanes)

    @property
    def blocks_at_a_time(self) -> int:
        """Blocks that this rank's lanes read from at a time: a window begins and ends somewhere inside a shard."""
        mean = max(1, sum(self.shard_lengths) // len(self.shard_lengths))
        return len(self.lanes) * (2 + self.schedule.window // mean) * self.views_per_sample

    def samples(self, step: int) -> tuple[int, Int32, Int32]:
        """Epoch, shards [B/M] and indexes [B/M] of this rank's batch at a step."""
        epoch, inside = divmod(step, self.steps_per_epoch)
        return epoch, *self._order(epoch).batch(inside, self._samples_a_step, self.lanes)

    def view_numbers(self, epoch: int) -> Sequence[int]:
        """Numbers of the M views that a sample has in an epoch; new ones are counted through all epochs."""
        if self.stored is not None:
            return self.stored.numbers(epoch)
        return range(epoch * self.views_per_sample, (epoch + 1) * self.views_per_sample)

    def pairs_view(self, epoch: int) -> int:
        """The view number whose pairs an epoch keeps together: of new views its own, of stored ones their first's."""
        return epoch if self.stored is None else self.stored.numbers(epoch)[0]

    @property
    def _samples_a_step(self) -> int:
        return self.schedule.global_batch_size // self.views_per_sample

    def _order(self, epoch: int) -> EpochOrder:
        schedule, paired = self.schedule, None
        if self.pairs_seed is not None:
            paired = self.pairs_seed, self.pairs_view(epoch)
        return _epoch_order(schedule.seed, epoch, self.shard_lengths, schedule.lanes, schedule.window, paired)


@lru_cache(maxsize=2)
def _epoch_order(
    seed: int, epoch: int, lengths: tuple[int, ...], lanes: int, window: int, paired: tuple[int, int] | None
) -> EpochOrder:
    """The order of an epoch; ``paired`` by the pairs of a seed and a view number."""

    def shard_pairs(shard: int) -> npt.NDArray[np.int64]:
        assert paired is not None
        return pairs(paired[0], shard, paired[1], lengths[shard])

    order = None if paired is None else shard_pairs
    return EpochOrder(seed, epoch, np.asarray(lengths, dtype=np.int64), lanes, window, order)
