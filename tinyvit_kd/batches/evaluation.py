"""Evaluation's batches: every sample once, in its fixed view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinyvit_kd.batches.layout import batch_layout
from tinyvit_kd.config.views import EvalViewSpec
from tinyvit_kd.data.buffers import Arrays, BatchMaker, Layout, Tensors
from tinyvit_kd.data.shards import ShardReader
from tinyvit_kd.errors import BadImageError
from tinyvit_kd.training.batch import Batch
from tinyvit_kd.views.render import render_eval


@dataclass
class EvalBatches(BatchMaker[tuple[int, int, int], Batch]):
    """Every sample once: task (shard, start, stop) to its fixed views."""

    reader: ShardReader
    spec: EvalViewSpec
    batch_size: int  # the most samples of a task

    @property
    def layout(self) -> Layout:
        """Views, weights and labels."""
        return batch_layout(self.batch_size, self.spec.size, labels=True)

    def fill(self, task: tuple[int, int, int], arrays: Arrays) -> int:
        """The batch of one run of samples, whose number it returns; undecodable and unlabelled ones get weight 0."""
        shard, start, stop = task
        indexes = np.arange(start, stop, dtype=np.int32)
        views, weights, labels = (arrays[name][: len(indexes)] for name in ("views", "weights", "labels"))
        weights[:] = 1
        for row, index in enumerate(indexes.tolist()):
            try:
                views[row] = render_eval(self.reader.read(shard, index), self.spec)
            except BadImageError:
                views[row] = weights[row] = 0
        labels[:] = self.reader.labels(shard, indexes)
        weights[labels < 0] = 0
        return len(indexes)

    def join(self, tensors: Tensors, extra: int) -> Batch:
        """The batch on the device, without the rows that a short run leaves."""
        return Batch.of({name: tensor[:extra] for name, tensor in tensors.items()})
