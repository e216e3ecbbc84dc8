"""A network whose gradients are averaged over processes."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.foreign_errors import ignore_stride_warning


def data_parallel(model: nn.Module, job: Job) -> nn.Module:
    """The network, averaging its gradients over the processes of a job; itself if there is one process."""
    if job.world_size == 1:
        return model
    ignore_stride_warning()
    with warnings.catch_warnings():
        # torch 2.15 has another argument for this, which torch 2.6 does not know and which would still sync at first.
        warnings.simplefilter("ignore", FutureWarning)
        # Each rank keeps its own batch norm statistics; they are averaged before they are used.
        return DistributedDataParallel(model, broadcast_buffers=False)


def gradient_sync(forward: nn.Module, last: bool) -> AbstractContextManager[None]:
    """Put this around each micro-batch: gradients are averaged after the last one alone."""
    return nullcontext() if last or not isinstance(forward, DistributedDataParallel) else forward.no_sync()
