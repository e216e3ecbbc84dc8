"""Which samples and views a rank trains on at each step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit_kd.batches.view_schedule import ViewSchedule
from tinyvit_kd.config.training import ScheduleConfig
from tinyvit_kd.data.order import EpochOrder
from tinyvit_kd.views.mixing import pairs

Int32 = npt.NDArray[np.int32]


@dataclass(frozen=True)
class StepPlan:
    """Which samples a rank trains on, step by step; it depends on its fields alone.

    A step of B views takes B / M samples, M = ``schedule.views_per_sample``; an epoch is a pass over the samples.

    Attributes:
        shard_lengths: samples of each shard; 0 where none are trained on.
        lanes: the lanes of this rank.
        pairs_seed: seed of the pairs, which the order keeps together, if views are mixed; else None.
        stored: which of a store's views each epoch uses; None: every epoch makes new ones.
    """

    shard_lengths: tuple[int, ...]
    schedule: ScheduleConfig
    lanes: range
    pairs_seed: int | None = None
    stored: ViewSchedule | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps per epoch."""
        return self._order(0).steps(self._samples_per_step)

    @property
    def views_per_sample(self) -> int:
        """M, views of each sample per epoch; in a batch they are next to each other."""
        return self.schedule.views_per_sample

    @property
    def batch_size(self) -> int:
        """Views per step on this rank."""
        return self.schedule.global_batch_size // self.schedule.lanes * len(self.lanes)

    @property
    def shards_at_a_time(self) -> int:
        """Enough shards for all that this rank's lanes read at once; a window may begin and end inside shards.

        Where lanes are many, it is the shards of this rank's part of the epoch, and some more, as their lengths differ.
        """
        return self._shards_of(windows=1)

    def blocks_at_a_time(self, steps: int = 1) -> int:
        """Enough blocks for all that this rank's lanes read at once.

        Args:
            steps: how many consecutive steps processes work on at the same time. Those of more than one may lie in
                several windows of a lane; all lanes change windows at the same step.
        """
        samples = steps * self._samples_per_step // self.schedule.lanes
        windows = 1 if steps == 1 else 2 + max(0, samples - 2) // self.schedule.window
        return self._shards_of(windows) * self.views_per_sample

    def samples(self, step: int) -> tuple[int, Int32, Int32]:
        """The epoch of a step, and shards [B/M] and indexes [B/M] of the samples in this rank's batch."""
        epoch, step_in_epoch = divmod(step, self.steps_per_epoch)
        return epoch, *self._order(epoch).batch(step_in_epoch, self._samples_per_step, self.lanes)

    def shard_uses(self, epoch: int, lanes: range) -> list[tuple[int, int, int]]:
        """The first and the last step of an epoch that read a shard, and the shard, for each lane that reads it.

        Args:
            lanes: any lanes of the run.

        Returns:
            in the order of the first steps and, of those of one step, of the lanes, as a batch has them. Steps count
            from the beginning of the run.
        """
        order = self._order(epoch)
        per_step = self._samples_per_step // self.schedule.lanes
        steps = self.steps_per_epoch
        begin = epoch * steps
        uses = [
            (first // per_step, lane, min((stop - 1) // per_step, steps - 1), shard)
            for lane in lanes
            for shard, first, stop in order.shards_of(lane).tolist()
        ]
        return [(begin + first, begin + last, shard) for first, _, last, shard in sorted(uses) if first < steps]

    def view_numbers(self, epoch: int) -> Sequence[int]:
        """Numbers of the M views of each sample in an epoch. New views are numbered through all epochs."""
        if self.stored is not None:
            return self.stored.numbers(epoch)
        return range(epoch * self.views_per_sample, (epoch + 1) * self.views_per_sample)

    def pairing_view(self, epoch: int) -> int:
        """The view number whose pairs an epoch keeps together.

        For stored views it is the first of the epoch's numbers. New views are all paired by the number of the epoch.
        """
        return epoch if self.stored is None else self.stored.numbers(epoch)[0]

    def _shards_of(self, windows: int) -> int:
        """Shards of so many consecutive windows of each lane of this rank, or of its part of an epoch if it has fewer.

        The lengths of shards differ, so that a part may have some more.
        """
        # A shard that holds no sample takes no room; in a plan, those that it leaves out have none either.
        shards, lanes = max(1, sum(length > 0 for length in self.shard_lengths)), self.schedule.lanes
        mean_length = max(1, sum(self.shard_lengths) // shards)
        part = shards * len(self.lanes) * 5 // (lanes * 4) + 4
        return min(len(self.lanes) * (2 + windows * self.schedule.window // mean_length), part, shards)

    @property
    def _samples_per_step(self) -> int:
        return self.schedule.global_batch_size // self.views_per_sample

    def _order(self, epoch: int) -> EpochOrder:
        schedule = self.schedule
        pairing = None if self.pairs_seed is None else (self.pairs_seed, self.pairing_view(epoch))
        return self._orders(schedule.seed, epoch, schedule.lanes, schedule.window, pairing)

    @cached_property
    def _orders(self) -> Callable[..., EpochOrder]:
        # A cache of this plan's own: lengths are no part of its key, as hashing 100,000 takes a millisecond per step.
        return lru_cache(maxsize=2)(partial(_epoch_order, self.shard_lengths))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_orders"}


def _epoch_order(
    lengths: tuple[int, ...], seed: int, epoch: int, lanes: int, window: int, pairing: tuple[int, int] | None
) -> EpochOrder:
    """The order of an epoch; ``pairing`` is the seed and the view number that the pairs follow from."""

    def pairs_of(shard: int) -> npt.NDArray[np.int64]:
        assert pairing is not None
        pairs_seed, view = pairing
        return pairs(pairs_seed, shard, view, lengths[shard])

    pairs_or_none = None if pairing is None else pairs_of
    return EpochOrder(seed, epoch, np.asarray(lengths, dtype=np.int64), lanes, window, pairs_or_none)
