"""Stage one's batches: views for the teacher, with the seed, digest and status of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from tinyvit_kd.batches.dump_tasks import DumpTask
from tinyvit_kd.batches.fresh_batches import FreshBatches
from tinyvit_kd.batches.holes import make_hole
from tinyvit_kd.data.buffers import Arrays, Layout, Tensors
from tinyvit_kd.errors import BadImageError, ImageTooLargeError, TruncatedImageError
from tinyvit_kd.store.records import RecordStatus
from tinyvit_kd.views.render import view_digest

_STATUS_OF = {
    BadImageError: RecordStatus.UNREADABLE,
    TruncatedImageError: RecordStatus.TRUNCATED,
    ImageTooLargeError: RecordStatus.TOO_LARGE,
}


class DumpBatch(NamedTuple):
    """Views for one forward pass of the teacher: sample by sample, and view by view within a sample."""

    views: torch.Tensor  # uint8 [batch_size, 3, S, S]; the last rows may be padding
    task: DumpTask
    seeds: npt.NDArray[np.uint32]  # [rows]
    digests: npt.NDArray[np.uint32]  # [rows]
    status: npt.NDArray[np.uint8]  # [rows], a RecordStatus


# The task, and the seed, digest and status of every row.
DumpExtra = tuple[DumpTask, npt.NDArray[np.uint32], npt.NDArray[np.uint32], npt.NDArray[np.uint8]]


@dataclass
class DumpBatches(FreshBatches[DumpTask, DumpBatch]):
    """Makes the views of a task, for one forward pass of the teacher."""

    batch_size: int

    @property
    def layout(self) -> Layout:
        """Views alone. Batches are always of full size, as the teacher's arithmetic may depend on the batch's shape."""
        size = self.samples.spec.size
        return Layout(views=((self.batch_size, 3, size, size), np.uint8))

    def fill(self, task: DumpTask, arrays: Arrays) -> DumpExtra:
        """Make the views, with zeros for holes and padding; returns what else the records hold."""
        rows = sum(span.rows for span in task)
        views = arrays["views"]
        seeds = np.zeros(rows, dtype=np.uint32)
        digests = np.zeros(rows, dtype=np.uint32)
        status = np.zeros(rows, dtype=np.uint8)
        first = 0
        for span in task:
            shard = span.group.shard
            numbers = span.group.views
            for index in span.indexes.tolist():
                own_rows = slice(first, first + len(numbers))
                own_seeds = self.samples.seeds(shard, index, numbers)
                seeds[own_rows] = list(own_seeds.values())
                rendered = self.render(shard, index, own_seeds, numbers[0], views[own_rows])
                if isinstance(rendered, BadImageError):
                    make_hole(views, own_rows)
                    status[own_rows] = _STATUS_OF[type(rendered)]
                else:
                    digests[own_rows] = [view_digest(view) for view in views[own_rows]]
                first = own_rows.stop
        views[rows:] = 0
        self.check_rendered()
        return task, seeds, digests, status

    def join(self, tensors: Tensors, extra: DumpExtra) -> DumpBatch:
        """The batch, with the views on the device."""
        return DumpBatch(tensors["views"], *extra)
