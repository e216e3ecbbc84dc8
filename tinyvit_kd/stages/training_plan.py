"""Which samples, in which views, a rank trains on at each step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import numpy.typing as npt

from tinyvit_kd.config.training import ScheduleConfig
from tinyvit_kd.data.order import EpochOrder
from tinyvit_kd.stages.sample_views import Pairing

Int32 = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Plan:
    """Which samples a rank trains on, step by step; a pure function of its fields.

    A step of B views takes B / M samples, M = ``schedule.views_per_sample``; an epoch is a pass over the samples.
    """

    shard_lengths: tuple[int, ...]
    schedule: ScheduleConfig
    lanes: range  # the lanes of this rank
    pairing: Pairing | None = None  # where views are mixed: samples that the order keeps together

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

    def view_numbers(self, epoch: int) -> range:
        """Numbers of the M views that a sample has in an epoch, counted through all epochs."""
        return range(epoch * self.views_per_sample, (epoch + 1) * self.views_per_sample)

    @property
    def _samples_a_step(self) -> int:
        return self.schedule.global_batch_size // self.views_per_sample

    def _order(self, epoch: int) -> EpochOrder:
        schedule = self.schedule
        return _epoch_order(schedule.seed, epoch, self.shard_lengths, schedule.lanes, schedule.window, self.pairing)


@lru_cache(maxsize=2)
def _epoch_order(
    seed: int, epoch: int, lengths: tuple[int, ...], lanes: int, window: int, pairing: Pairing | None
) -> EpochOrder:
    pairs = None if pairing is None else partial(pairing.pairs, epoch, lengths)
    return EpochOrder(seed, epoch, np.asarray(lengths, dtype=np.int64), lanes, window, pairs)
