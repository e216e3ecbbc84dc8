"""Stage one's batches: views for the teacher, with what a record keeps of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from tinyvit_kd.batches.dump_tasks import DumpTask
from tinyvit_kd.batches.fresh import FreshBatches
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
    """Views for one forward pass of the teacher, sample by sample and within it view by view."""

    views: torch.Tensor  # uint8 [batch_size, 3, S, S]; the last rows may be padding
    task: DumpTask
    seeds: npt.NDArray[np.uint32]  # [rows]
    digests: npt.NDArray[np.uint32]  # [rows]
    status: npt.NDArray[np.uint8]  # [rows], a RecordStatus


# The task, and of every row seed, digest and status.
DumpExtra = tuple[DumpTask, npt.NDArray[np.uint32], npt.NDArray[np.uint32], npt.NDArray[np.uint8]]


@dataclass
class DumpBatches(FreshBatches[DumpTask, DumpBatch]):
    """The views of a task, for one forward pass of the teacher."""

    batch_size: int

    @property
    def layout(self) -> Layout:
        """Views alone: batches are always of full size, as the teacher's arithmetic may depend on its batch's shape."""
        size = self.samples.spec.size
        return Layout(views=((self.batch_size, 3, size, size), np.uint8))

    def fill(self, task: DumpTask, arrays: Arrays) -> DumpExtra:
        """The views, with zeros for holes and padding; returns what else a record keeps."""
        rows = sum(span.rows for span in task)
        views = arrays["views"]
        seeds = np.zeros(rows, dtype=np.uint32)
        digests = np.zeros(rows, dtype=np.uint32)
        status = np.zeros(rows, dtype=np.uint8)
        first = 0
        for span in task:
            shard, numbers = span.group.shard, span.group.views
            for index in span.indexes.tolist():
                chosen = slice(first, first + len(numbers))
                own_seeds = self.samples.seeds(shard, index, numbers)
                seeds[chosen] = list(own_seeds.values())
                made = self.render(shard, index, own_seeds, numbers[0], views[chosen])
                if isinstance(made, BadImageError):
                    status[chosen] = _STATUS_OF[type(made)]
                else:
                    digests[chosen] = [view_digest(view) for view in views[chosen]]
                first = chosen.stop
        views[rows:] = 0
        self.check_rendered()
        return task, seeds, digests, status

    def join(self, tensors: Tensors, extra: DumpExtra) -> DumpBatch:
        """The views on the device."""
        return DumpBatch(tensors["views"], *extra)
