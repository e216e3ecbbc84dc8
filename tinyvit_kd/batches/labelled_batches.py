"""Stage three's batches: new views of every sample in every epoch, with its label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinyvit_kd.batches.fresh_batches import FreshBatches
from tinyvit_kd.batches.holes import leave_out_unlabelled, make_hole
from tinyvit_kd.batches.labels import Labels, write_labels
from tinyvit_kd.batches.layout import batch_layout, by_sample
from tinyvit_kd.batches.step_plan import StepPlan
from tinyvit_kd.data.buffers import Arrays, Layout, Tensors
from tinyvit_kd.errors import BadImageError
from tinyvit_kd.training.batch import Batch


@dataclass
class LabelledBatches(FreshBatches[int, Batch]):
    """New views of every sample in every epoch, with its label.

    Seeds follow from (schedule seed, shard, index, view number), pairs from (schedule seed, shard, epoch).
    """

    plan: StepPlan

    @property
    def layout(self) -> Layout:
        """Views, weights and labels, and the labels of mixed-in samples if the spec mixes."""
        spec = self.samples.spec
        return batch_layout(self.plan.batch_size, spec.size, labels=True, mixed=spec.mixes)

    def fill(self, task: int, arrays: Arrays) -> int:
        """Make the batch of step ``task``. Holes and samples without a label weigh zero. No digests are compared: 0."""
        epoch, shards, indexes = self.plan.samples(task)
        numbers = self.plan.view_numbers(epoch)
        pairing_view = self.plan.pairing_view(epoch)
        grouped = by_sample(arrays, len(shards))
        weights = grouped["weights"]
        weights[:] = 1
        mixed_in = np.repeat(indexes[:, None], weights.shape[1], axis=1)
        lam = grouped.get("lam", np.empty_like(weights))
        lam[:] = 1
        for row, (shard, index) in enumerate(zip(shards.tolist(), indexes.tolist(), strict=True)):
            seeds = self.samples.seeds(shard, index, numbers)
            rendered = self.render(shard, index, seeds, pairing_view, grouped["views"][row])
            if isinstance(rendered, BadImageError):
                make_hole(grouped["views"], row, weights)
            else:
                mixed_in[row] = rendered.partner
                lam[row] = rendered.lam
        self.check_rendered()
        write_labels(grouped, Labels(self.samples.reader), shards, indexes, mixed_in)
        leave_out_unlabelled(weights, grouped["labels"], grouped.get("mixed_labels", grouped["labels"]))
        return 0

    def join(self, tensors: Tensors, extra: int) -> Batch:
        """The batch on the device; ``extra`` is the number of digests compared."""
        return Batch.of(tensors, extra)
