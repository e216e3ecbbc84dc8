"""What changes while training: exactly this is checkpointed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import nn

from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.training.batch_norm import RunningStats


@dataclass
class TrainState:
    """Weights, their average, the optimiser and what has been counted."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: ModelEmaV3 | None
    step: int = 0
    digests_checked: int = 0  # by all processes, up to the last ``gather``
    checked_here: int = 0  # by this process since then
    skipped_steps: int = 0

    def __post_init__(self) -> None:
        self.running_stats = RunningStats(self.model)
        self._all_stats = RunningStats(self.model, *([self.ema.module] if self.ema is not None else []))

    def gather(self, job: Job) -> dict[str, Any]:
        """Tensors, numbers and strings only, so that it loads without executing code; every process must call."""
        self.digests_checked += int(job.sum(torch.tensor(self.checked_here)).item())
        self.checked_here = 0
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.module.state_dict() if self.ema is not None else None,
            "running_stats": self._all_stats.gather(job),
            "step": self.step,
            "digests_checked": self.digests_checked,
            "skipped_steps": self.skipped_steps,
        }

    def restore(self, saved: dict[str, Any], job: Job) -> None:
        """Continue from what ``gather`` returned, with as many processes or another number."""
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self._lay_out_moments()
        if self.ema is not None:
            self.ema.module.load_state_dict(saved["ema"])
        self._all_stats.restore(saved["running_stats"], job)
        self.step, self.digests_checked = saved["step"], saved["digests_checked"]
        self.skipped_steps = saved["skipped_steps"]

    def _lay_out_moments(self) -> None:
        # A checkpoint may come from another memory format, and fused kernels walk through raw memory.
        for parameter, moments in self.optimizer.state.items():
            for name, value in moments.items():
                if torch.is_tensor(value) and value.shape == parameter.shape:
                    moments[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)

    def average_running_stats(self, job: Job) -> None:
        """Before the weights are scored or written; every process must call."""
        self._all_stats.average(job)

    @property
    def scored(self) -> nn.Module:
        """The weights that are evaluated and exported: the average where one is kept."""
        return self.ema.module if self.ema is not None else self.model
