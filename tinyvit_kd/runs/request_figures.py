"""What a job tells of its requests to object stores: into the metrics of a run, and at the end of a dump."""

from __future__ import annotations

from collections.abc import Callable

import torch

from tinyvit_kd.runtime import request_counts
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.request_counts import Counts
from tinyvit_kd.runtime.wording import binary_size


def request_figures(job: Job) -> Callable[[], dict[str, float]]:
    """What a rank's processes have asked of object stores since the last call; every process of a job must call this.

    The names are those of the metrics. There are none where no rank has asked any so far.
    """
    job.barrier()  # what one process did before may have taken longer than a collective operation may
    if not job.sum(torch.tensor([request_counts.total().requests])).item():
        return dict
    last = request_counts.total()

    def since_last() -> dict[str, float]:
        nonlocal last
        now = request_counts.total()
        made, last = now - last, now
        return {
            "storage_requests": made.requests,
            "storage_refused": made.refused,
            "storage_read_mib": made.read / 2**20,
            "storage_written_mib": made.written / 2**20,
        }

    return since_last


def told_requests(job: Job, since: Counts) -> str:
    """What all ranks have asked of object stores since then, in a clause; empty if nothing."""
    made = request_counts.total() - since
    requests, refused, read, written = job.sum(torch.tensor(made)).tolist()
    if not requests:
        return ""
    again = f", {refused:,} of them refused or cut off and made again" if refused else ""
    return f"; {requests:,} requests to object stores{again}: {binary_size(read)} read, {binary_size(written)} written"
