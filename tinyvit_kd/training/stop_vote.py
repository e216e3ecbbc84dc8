"""The vote by which all processes stop at the same step."""

from __future__ import annotations

import torch
import torch.distributed as dist

from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.signals import StopRequest


class StopVote:
    """Tells every process of a stop request at the same step, without waiting for an answer.

    A vote that is cast at one step is collected at the next.
    """

    def __init__(self, job: Job, stop: StopRequest) -> None:
        self.job = job
        self.stop = stop
        self.pending: tuple[dist.Work, torch.Tensor] | None = None

    def collect(self) -> bool:
        """Whether any process had been asked to stop when it last voted. Casts the next vote."""
        if self.job.control is None:
            return bool(self.stop)
        decided = False
        if self.pending is not None:
            work, flag = self.pending
            work.wait()
            decided = bool(flag.item())
        flag = torch.tensor(int(bool(self.stop)))
        work = dist.all_reduce(flag, group=self.job.control, async_op=True)
        assert work is not None
        self.pending = (work, flag)
        return decided
