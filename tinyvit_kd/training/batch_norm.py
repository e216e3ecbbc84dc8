"""Running statistics of batch norms, over micro-batches and over processes.

Each process keeps its own statistics while it trains, since training does not use them. They are averaged before a
network is scored or written. A checkpoint holds those of every process, so that training does not depend on whether or
when a checkpoint is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

from tinyvit_kd.runtime.distributed import Job

Chunk = TypeVar("Chunk")


class RunningStats:
    """Running means and variances of all batch norms of some networks, as one vector of n numbers."""

    def __init__(self, *networks: nn.Module) -> None:
        self._buffers: list[torch.Tensor] = []
        self._counters: list[torch.Tensor] = []
        for module in (module for network in networks for module in network.modules()):
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
                self._buffers += [module.get_buffer("running_mean"), module.get_buffer("running_var")]
                self._counters.append(module.get_buffer("num_batches_tracked"))

    def read(self) -> torch.Tensor:
        """A copy of the statistics: float32 [n], on the networks' device."""
        return torch.cat([buffer.reshape(-1) for buffer in self._buffers]) if self._buffers else torch.zeros(0)

    def write(self, values: torch.Tensor) -> None:
        """Set the statistics to what ``read`` returned: float32 [n]."""
        if self._buffers:
            parts = torch.split(values.to(self._buffers[0].device), [buffer.numel() for buffer in self._buffers])
            torch._foreach_copy_(self._buffers, list(parts))  # in one launch on a GPU

    def over_micro_batches(self, chunks: Sequence[Chunk]) -> Iterator[Chunk]:
        """Yield a step's micro-batches. Each updates the statistics from the same start; the mean of the updates stays.

        Two micro-batches in turn thus do what two processes do, whose statistics are averaged later.
        """
        if len(chunks) == 1:
            yield chunks[0]
            return
        before = self.read()
        counters_before = torch.stack(self._counters) if self._counters else None
        total = torch.zeros_like(before, dtype=torch.float64)  # in float64, unchanged statistics keep every bit
        for chunk in chunks:
            self.write(before)
            yield chunk
            total += self.read()
        self.write((total / len(chunks)).float())
        if counters_before is not None:
            counters = torch.minimum(torch.stack(self._counters), counters_before + 1)
            torch._foreach_copy_(self._counters, list(counters.unbind()))

    def average(self, job: Job) -> None:
        """Replace the statistics by their mean over all processes; every process must call."""
        if job.world_size > 1 and self._buffers:
            values = self.read().double()  # so frozen statistics, which are equal everywhere, keep every bit
            dist.all_reduce(values)
            self.write((values / job.world_size).float())

    def gather(self, job: Job) -> torch.Tensor:
        """The statistics of all processes: float32 [processes, n], on the CPU; every process must call."""
        own = self.read().cpu()
        if job.control is None:
            return own[None]
        everyone = [torch.empty_like(own) for _ in range(job.world_size)]
        dist.all_gather(everyone, own, group=job.control)
        return torch.stack(everyone)

    def restore(self, gathered: torch.Tensor, job: Job) -> None:
        """Restore this process's row of what ``gather`` returned; with another number of processes, the mean."""
        same_number = len(gathered) == job.world_size
        self.write(gathered[job.rank] if same_number else gathered.double().mean(dim=0).float())
