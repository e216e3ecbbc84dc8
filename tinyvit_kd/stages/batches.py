"""Steps to batches: where order, shards, store and views meet, inside the loader's workers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import numpy.typing as npt
import torch

from tinyvit_kd.config.data import StoredTargetsConfig
from tinyvit_kd.config.training import ScheduleConfig
from tinyvit_kd.config.views import EvalViewSpec
from tinyvit_kd.data.order import EpochOrder
from tinyvit_kd.data.shards import ShardReader
from tinyvit_kd.errors import BadImageError, ReplayError
from tinyvit_kd.runtime.batch import Batch, MixedLabels, SparseTargets
from tinyvit_kd.runtime.seeding import Draws
from tinyvit_kd.stages.sample_views import Pairing, Partner, SampleViews
from tinyvit_kd.store.cache import BlockCache
from tinyvit_kd.views.mixing import Mix
from tinyvit_kd.views.render import render_eval, view_digest

Uint8 = npt.NDArray[np.uint8]
Int32 = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Plan:
    """Which samples a rank trains on, step by step; a pure function of its fields."""

    shard_lengths: tuple[int, ...]
    schedule: ScheduleConfig
    lanes: range  # the lanes of this rank
    pairing: Pairing | None = None  # where views are mixed: samples that the order keeps together

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps an epoch."""
        return self._order(0).steps(self.schedule.global_batch_size)

    def samples(self, step: int) -> tuple[int, Int32, Int32]:
        """Epoch, shards [B] and indexes [B] of this rank's batch at a step."""
        epoch, inside = divmod(step, self.steps_per_epoch)
        return epoch, *self._order(epoch).batch(inside, self.schedule.global_batch_size, self.lanes)

    def _order(self, epoch: int) -> EpochOrder:
        schedule = self.schedule
        return _epoch_order(schedule.seed, epoch, self.shard_lengths, schedule.lanes, schedule.window, self.pairing)


@lru_cache(maxsize=2)
def _epoch_order(
    seed: int, epoch: int, lengths: tuple[int, ...], lanes: int, window: int, pairing: Pairing | None
) -> EpochOrder:
    pairs = None if pairing is None else partial(pairing.pairs, epoch, lengths)
    return EpochOrder(seed, epoch, np.asarray(lengths, dtype=np.int64), lanes, window, pairs)


@dataclass
class StoredBatches:
    """Stage two: replays the teacher's views and hands out its probabilities.

    Epoch e uses view number e mod V of every sample.
    """

    samples: SampleViews
    blocks: BlockCache
    targets: StoredTargetsConfig
    view_count: int
    plan: Plan

    def __call__(self, step: int) -> Batch:
        """The batch of one step.

        Raises:
            ReplayError: a view differs from the one that the teacher saw; it names the sample's key.
        """
        epoch, shards, indexes = self.plan.samples(step)
        view = epoch % self.view_count
        records = self.blocks.gather(shards, indexes, view)
        size = self.samples.spec.size
        views = np.zeros((len(shards), 3, size, size), dtype=np.uint8)
        checked = 0
        for row in np.flatnonzero(records.valid):
            shard, index, seed = int(shards[row]), int(indexes[row]), int(records.seeds[row])
            views[row] = self._replay(shard, index, seed, view)
            if self._is_checked(epoch, seed):
                self._verify(views[row], int(records.digests[row]), shard, index)
                checked += 1
        return Batch(
            views=torch.from_numpy(views),
            weights=torch.from_numpy(records.valid.astype(np.float32)),
            labels=None,
            targets=SparseTargets(
                torch.from_numpy(records.indices.astype(np.int64)),
                torch.from_numpy(records.probs),
                torch.from_numpy(records.residual),
            ),
            checked=checked,
        )

    def _replay(self, shard: int, index: int, seed: int, view: int) -> Uint8:
        decoded = index
        try:
            own = self.samples.view(shard, index, seed)
            partner = self.samples.partner(shard, index, view)
            if partner < 0:
                return own
            record = self.blocks.records(shard, view, np.array([partner], dtype=np.int32))
            if not record.valid[0]:
                return own
            decoded = partner
            return self.samples.mixed(shard, own, seed, Partner(partner, int(record.seeds[0])))[0]
        except BadImageError as error:
            raise ReplayError(
                "an image that the teacher saw can no longer be decoded",
                where=place(self.samples.reader, shard, decoded),
                found=error.what,
                fix="restore the shard that the store was dumped from, or dump this shard again",
            ) from None

    def _is_checked(self, epoch: int, seed: int) -> bool:
        rate = self.targets.verify_rate
        return rate == 1 or Draws(seed, epoch, 0x636865636B).random() < rate

    def _verify(self, view: Uint8, stored: int, shard: int, index: int) -> None:
        found = view_digest(view)
        if found != stored:
            raise ReplayError(
                "a replayed view is not the view that the teacher saw",
                where=place(self.samples.reader, shard, index),
                found=f"digest {found:08x}",
                expected=f"digest {stored:08x}, from the store",
                fix="the image's bytes have changed since the dump: restore the shard, or dump it again",
            )


@dataclass
class LabelledBatches:
    """Stage three: a fresh view of every sample in every epoch, with its label."""

    samples: SampleViews
    plan: Plan
    on_bad_image: str

    def __call__(self, step: int) -> Batch:
        """The batch of one step; seeds follow from (schedule seed, shard, index, epoch)."""
        epoch, shards, indexes = self.plan.samples(step)
        reader, size = self.samples.reader, self.samples.spec.size
        views = np.zeros((len(shards), 3, size, size), dtype=np.uint8)
        weights, lam = np.ones(len(shards), dtype=np.float32), np.ones(len(shards), dtype=np.float32)
        mixed_in = indexes.copy()
        for row, (shard, index) in enumerate(zip(shards.tolist(), indexes.tolist(), strict=True)):
            try:
                views[row], partner, mix = self._view(shard, index, epoch)
            except BadImageError as error:
                weights[row] = 0
                refuse_hole(self.on_bad_image, error, reader, shard, index)
                continue
            if mix is not None:
                mixed_in[row], lam[row] = partner, mix.lam
        labels, others = gather_labels(reader, shards, indexes), gather_labels(reader, shards, mixed_in)
        weights[(labels < 0) | (others < 0)] = 0
        mixed = MixedLabels(torch.from_numpy(others), torch.from_numpy(lam)) if self.samples.spec.mixes else None
        return Batch(torch.from_numpy(views), torch.from_numpy(weights), torch.from_numpy(labels), None, mixed)

    def _view(self, shard: int, index: int, epoch: int) -> tuple[Uint8, int, Mix | None]:
        seed = self.samples.seed(shard, index, epoch)
        own = self.samples.view(shard, index, seed)
        partner = self.samples.partner(shard, index, epoch)
        if partner < 0:
            return own, index, None
        other = Partner(partner, self.samples.seed(shard, partner, epoch))
        view, mix = self.samples.mixed_if_whole(shard, own, seed, other)
        return view, partner, mix


@dataclass
class EvalBatches:
    """Every sample once: task (shard, start, stop) to its fixed views."""

    reader: ShardReader
    spec: EvalViewSpec

    def __call__(self, task: tuple[int, int, int]) -> Batch:
        """The batch of one run of samples; undecodable and unlabelled ones get weight 0."""
        shard, start, stop = task
        indexes = np.arange(start, stop, dtype=np.int32)
        views = np.zeros((len(indexes), 3, self.spec.size, self.spec.size), dtype=np.uint8)
        weights = np.ones(len(indexes), dtype=np.float32)
        for row, index in enumerate(indexes.tolist()):
            try:
                views[row] = render_eval(self.reader.read(shard, index), self.spec)
            except BadImageError:
                weights[row] = 0
        labels = gather_labels(self.reader, np.full_like(indexes, shard), indexes)
        weights[labels < 0] = 0
        return Batch(torch.from_numpy(views), torch.from_numpy(weights), torch.from_numpy(labels), None)


def gather_labels(reader: ShardReader, shards: Int32, indexes: Int32) -> npt.NDArray[np.int64]:
    """Labels of samples from several shards: int64 [B], -1 where there is none."""
    labels = np.empty(len(shards), dtype=np.int64)
    for shard in np.unique(shards):
        rows = shards == shard
        labels[rows] = reader.labels(int(shard), indexes[rows])
    return labels


def refuse_hole(policy: str, error: BadImageError, reader: ShardReader, shard: int, index: int) -> None:
    """Raise ``error``, with the sample's name, where the recipe says ``on_bad_image: error``."""
    if policy != "error":
        return
    error.where = place(reader, shard, index)
    error.fix = "mend or remove the image, or set on_bad_image: hole to go on without it"
    raise error


def place(reader: ShardReader, shard: int, index: int) -> str:
    """A sample's name in messages."""
    return f"sample {reader.key(shard, index)} of shard {reader.name(shard)}"
