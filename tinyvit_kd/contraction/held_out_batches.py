"""Loads the held-out samples, each in the same few stored views, and keeps them in memory where they are few."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch

from tinyvit_kd.batches.labels import Int64, Labels
from tinyvit_kd.batches.sample_views import SampleViews
from tinyvit_kd.batches.shard_uses import uses_of
from tinyvit_kd.batches.shards_ahead import fetching_ahead, following
from tinyvit_kd.batches.step_plan import StepPlan
from tinyvit_kd.batches.stored_batches import StoredBatches, block_caches
from tinyvit_kd.batches.view_schedule import ViewSchedule
from tinyvit_kd.config.training import ScheduleConfig
from tinyvit_kd.contraction.held_out import Split
from tinyvit_kd.data.buffers import Arrays, BatchMaker, Layout, Tensors
from tinyvit_kd.data.loader import loading, steps_in_work
from tinyvit_kd.runs.stored_data import StoredData
from tinyvit_kd.training.batch import Batch

KEPT_BYTES = 512 << 20  # of held-out batches that are kept in memory; more are rendered anew for each score
_CPU = torch.device("cpu")
Run = tuple[int, int, int]  # samples ``start`` to ``stop - 1`` of a shard: (shard, start, stop)


@dataclass
class HeldOutBatches(BatchMaker[Run, Batch]):
    """Runs of samples, each in the same stored views, with the teachers' probabilities and, where given, labels.

    Attributes:
        stored: replays views; its plan says which, and how many there are in a batch.
    """

    stored: StoredBatches

    @property
    def layout(self) -> Layout:
        """That of a full batch."""
        return self.stored.layout

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Loading processes that are started meanwhile read each block once between them."""
        with self.stored.shared():
            yield

    def fill(self, task: Run, arrays: Arrays) -> tuple[int, int]:
        """Make the batch of a run of samples; returns how many views it has, and how many digests were compared.

        Raises:
            ReplayError: a view differs from the one that a teacher saw; it names the sample's key.
        """
        shard, start, stop = task
        indexes = np.arange(start, stop, dtype=np.int32)
        rows = len(indexes) * self.stored.plan.views_per_sample
        filled = {name: array[:rows] for name, array in arrays.items()}
        return rows, self.stored.replay(0, np.full_like(indexes, shard), indexes, filled)

    def join(self, tensors: Tensors, extra: tuple[int, int]) -> Batch:
        """The batch on the device, without the rows that a run shorter than the batch leaves unused."""
        rows, checked = extra
        return Batch.of({name: tensor[:rows] for name, tensor in tensors.items()}, checked)


@dataclass(frozen=True)
class HeldOutSamples:
    """The held-out samples of a store, for any number of scores.

    Attributes:
        data: shards and stores.
        split: which shards are held out.
        views: V: stored views 0 to V - 1 of each sample are scored.
        batch_size: views in a batch, at most, though at least those of one sample.
        class_map: position in the head of each class of the labels; None: the same (see ``Labels``).
        has_labels: whether batches have labels.
    """

    data: StoredData
    split: Split
    views: int
    batch_size: int
    class_map: Int64 | None
    has_labels: bool
    _kept: list[Batch] = field(default_factory=list, init=False, repr=False)

    @contextmanager
    def batches(self) -> Iterator[Iterator[Batch]]:
        """All samples once, shard by shard, on the device of the job; the views of a sample follow each other.

        They are loaded anew each time, unless all of them take no more than ``KEPT_BYTES``.

        Raises:
            ReplayError, WorkerError, StalledError: see ``loading``.
        """
        device = self.data.job.device
        if self._kept:
            yield (batch.to(device) for batch in self._kept)
            return
        runtime, shards = self.data.config.runtime, self.data.shards
        uses = uses_of(shards.locations[shard] for shard, _, _ in self.runs)
        maker = HeldOutBatches(self._stored)
        with (
            fetching_ahead(shards) as ahead,
            loading(maker, following(ahead, self.runs, uses, runtime), runtime, device) as batches,
        ):
            yield batches if self.nbytes(maker.layout) > KEPT_BYTES else self._keeping(batches)

    def _keeping(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        kept = []
        for batch in batches:
            kept.append(batch.to(_CPU, copy=True))
            yield batch
        self._kept.extend(kept)  # not before all are there

    @cached_property
    def runs(self) -> list[Run]:
        """The samples of each batch."""
        return self.split.runs(self._samples_per_batch)

    def nbytes(self, layout: Layout) -> int:
        """Bytes of all batches, given the layout of a full one."""
        samples = sum(self.split.scored)
        return -(-samples * layout.nbytes // self._samples_per_batch)

    @property
    def _samples_per_batch(self) -> int:
        return max(1, self.batch_size // self.views)

    @property
    def _stored(self) -> StoredBatches:
        """Replays views 0 to V - 1, by a plan of one lane that has the held-out shards alone."""
        data = self.data
        schedule = ScheduleConfig(
            epochs=1,
            views_per_sample=self.views,
            global_batch_size=self._samples_per_batch * self.views,
            lanes=1,
            window=1,
        )
        every_view = ViewSchedule(self.views, ((0, self.views),))
        plan = StepPlan(self.split.scored, schedule, range(1), data.pairs_seed, every_view)
        caches = block_caches(data.config.store, data.stores, plan, steps_in_work(data.config.runtime))
        reader = data.shards.reader(plan.shards_at_a_time)
        labels = Labels(reader, self.class_map) if self.has_labels else None
        samples = SampleViews(reader, data.spec, data.stores[0].manifest.seed)
        return StoredBatches(samples, caches, data.config.store, plan, labels)
