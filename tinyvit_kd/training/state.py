"""What changes during training; checkpoints hold exactly this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import nn

from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.training.batch_norm import RunningStats


class Average:
    """The moving average of a network's weights and running statistics, in timm's arithmetic.

    ``ModelEmaV3.update`` builds both state dicts at each step, and copies each counter of a batch norm by itself.

    Args:
        ema: the average; its decay at each step, too.
        model: the network, which keeps its tensors.
    """

    def __init__(self, ema: ModelEmaV3, model: nn.Module) -> None:
        self._decay = ema.get_decay
        self._averages, self._counters = _split(ema.module)
        self._values, self._counted = _split(model)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average after step number ``step``; timm copies the weights after the first two."""
        torch._foreach_lerp_(self._averages, self._values, weight=1.0 - self._decay(step))
        if self._counters:
            torch._foreach_copy_(self._counters, self._counted)


def _split(network: nn.Module) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """A network's weights and statistics, and its other tensors, such as counters of steps."""
    tensors = network.state_dict().values()
    floats = [each for each in tensors if each.is_floating_point()]
    return floats, [each for each in tensors if not each.is_floating_point()]


@dataclass
class TrainState:
    """Weights, their average, the optimiser, and counters."""

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
        self.trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self._average = None if self.ema is None else Average(self.ema, self.model)

    def update_average(self) -> None:
        """Move the average of the weights, if there is one, towards the weights after the current step."""
        if self._average is not None:
            self._average.update(self.step)

    def hold_gradients(self) -> None:
        """Give each trained parameter a gradient of zeros in memory of its own."""
        for parameter in self.trained:
            parameter.grad = torch.zeros_like(parameter)

    def gather(self, job: Job) -> dict[str, Any]:
        """What a checkpoint holds; every process must call.

        Tensors, numbers and strings only, so that loading it executes no code.
        """
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
        """Continue from what ``gather`` returned, with any number of processes."""
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self._match_memory_format()
        if self.ema is not None:
            self.ema.module.load_state_dict(saved["ema"])
        self._all_stats.restore(saved["running_stats"], job)
        self.step = saved["step"]
        self.digests_checked = saved["digests_checked"]
        self.skipped_steps = saved["skipped_steps"]

    def _match_memory_format(self) -> None:
        # A checkpoint's moments may be in another memory format, and fused kernels assume that of the parameters.
        for parameter, moments in self.optimizer.state.items():
            for name, value in moments.items():
                if torch.is_tensor(value) and value.shape == parameter.shape:
                    moments[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)

    def average_running_stats(self, job: Job) -> None:
        """Average batch norm statistics before the weights are scored or written; every process must call."""
        self._all_stats.average(job)

    @property
    def scored(self) -> nn.Module:
        """The network that is evaluated and exported: the averaged one, if there is an average."""
        return self.ema.module if self.ema is not None else self.model
