"""Stage three's batches: fresh views of every sample in every epoch, with its label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinyvit_kd.batches.fresh import FreshBatches
from tinyvit_kd.batches.labels import Labels, write_labels
from tinyvit_kd.batches.layout import batch_layout, by_sample
from tinyvit_kd.batches.step_plan import StepPlan
from tinyvit_kd.data.buffers import Arrays, Layout, Tensors
from tinyvit_kd.errors import BadImageError
from tinyvit_kd.training.batch import Batch


@dataclass
class LabelledBatches(FreshBatches[int, Batch]):
    """Fresh views of every sample in every epoch, with its label.

    Seeds follow from (schedule seed, shard, index, view number), pairs from (schedule seed, shard, epoch).
    """

    plan: StepPlan

    @property
    def layout(self) -> Layout:
        """Views, weights and labels, and those of mixed-in samples where the spec mixes."""
        spec = self.samples.spec
        return batch_layout(self.plan.batch_size, spec.size, labels=True, mixed=spec.mixes)

    def fill(self, task: int, arrays: Arrays) -> int:
        """The batch of a step; holes and samples without a label get weight zero. Returns 0 digests compared."""
        epoch, shards, indexes = self.plan.samples(task)
        numbers, paired_by = self.plan.view_numbers(epoch), self.plan.pairs_view(epoch)
        rows = by_sample(arrays, len(shards))
        weights = rows["weights"]
        weights[:] = 1
        mixed_in = np.repeat(indexes[:, None], weights.shape[1], axis=1)
        lam = rows.get("lam", np.empty_like(weights))
        lam[:] = 1
        for row, (shard, index) in enumerate(zip(shards.tolist(), indexes.tolist(), strict=True)):
            seeds = self.samples.seeds(shard, index, numbers)
            made = self.render(shard, index, seeds, paired_by, rows["views"][row])
            if isinstance(made, BadImageError):
                weights[row] = 0
            else:
                mixed_in[row] = made.partner
                lam[row] = made.lam
        self.check_rendered()
        write_labels(rows, Labels(self.samples.reader), shards, indexes, mixed_in)
        weights[(rows["labels"] < 0) | (rows.get("mixed_labels", rows["labels"]) < 0)] = 0
        return 0

    def join(self, tensors: Tensors, extra: int) -> Batch:
        """The batch on the device."""
        return Batch.of(tensors, extra)
