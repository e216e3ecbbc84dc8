"""Evaluation batches: every sample once, in its fixed view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinyvit_kd.batches.holes import leave_out_unlabelled, make_hole
from tinyvit_kd.batches.layout import batch_layout
from tinyvit_kd.config.view_spec import EvalViewSpec
from tinyvit_kd.data.buffers import Arrays, BatchMaker, Layout, Tensors
from tinyvit_kd.data.shard_reader import ShardReader
from tinyvit_kd.errors import BadImageError
from tinyvit_kd.training.batch import Batch
from tinyvit_kd.views.render import render_eval


@dataclass
class EvalBatches(BatchMaker[tuple[int, int, int], Batch]):
    """Every sample once, in its fixed view. A task is a run of samples: (shard, start, stop)."""

    reader: ShardReader
    spec: EvalViewSpec
    batch_size: int  # samples per task, at most

    @property
    def layout(self) -> Layout:
        """Views, weights and labels."""
        return batch_layout(self.batch_size, self.spec.size, labels=True)

    def fill(self, task: tuple[int, int, int], arrays: Arrays) -> int:
        """Make the batch of a run of samples; returns their number. Holes and samples without a label weigh zero."""
        shard, start, stop = task
        indexes = np.arange(start, stop, dtype=np.int32)
        views, weights, labels = (arrays[name][: len(indexes)] for name in ("views", "weights", "labels"))
        weights[:] = 1
        for row, index in enumerate(indexes.tolist()):
            try:
                render_eval(self.reader.read(shard, index), self.spec, out=views[row])
            except BadImageError:
                make_hole(views, row, weights)
        labels[:] = self.reader.labels(shard, indexes)
        leave_out_unlabelled(weights, labels)
        return len(indexes)

    def join(self, tensors: Tensors, extra: int) -> Batch:
        """The batch on the device, without the rows that a run shorter than the batch leaves unused."""
        return Batch.of({name: tensor[:extra] for name, tensor in tensors.items()})
