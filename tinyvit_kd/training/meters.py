"""Running means that stay on the device until they are read."""

from __future__ import annotations

import time

import torch

from tinyvit_kd.errors import NonFiniteLossError
from tinyvit_kd.runtime.distributed import Job

_NEVER = 1 << 62


class Meters:
    """Collects a step's scalars without waiting for the device.

    Reading (at log steps) and ``require_finite`` (before a checkpoint) are the only host-device synchronisations.
    """

    def __init__(self, device: torch.device) -> None:
        self.first_bad_step = torch.full((), _NEVER, dtype=torch.int64, device=device)
        self._restart()

    def _restart(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        self.steps, self.waited, self.begin = 0, 0.0, time.perf_counter()

    def update(self, parts: dict[str, torch.Tensor], step: int, waited: float) -> None:
        """Add one step's scalars and the seconds it waited for data."""
        for name, value in parts.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        # Every part, not the loss alone: a norm that is not finite has spoilt the weights, one step before the loss.
        bad = ~torch.isfinite(torch.stack([value.detach().float() for value in parts.values()])).all()
        self.first_bad_step = torch.where(bad, self.first_bad_step.clamp(max=step), self.first_bad_step)
        self.steps += 1
        self.waited += waited

    def require_finite(self, job: Job) -> None:
        """Stop every process of a run whose loss or gradient was not finite (synchronises with the device).

        Raises:
            NonFiniteLossError: naming the first such step.
        """
        step = int(job.min(self.first_bad_step).item())
        if step != _NEVER:
            raise NonFiniteLossError(
                "the loss or its gradient became NaN or infinite",
                where=f"step {step}",
                fix="lower optim.base_lr, clip gradients harder (optim.clip_grad) or use float32; "
                "with other settings, start a run in another output folder",
            )

    def read(self, job: Job) -> dict[str, float]:
        """Means since the last reading, over steps and processes; starts anew (synchronises with the device)."""
        self.require_finite(job)
        names = sorted(self.sums)
        total = job.sum(torch.stack([self.sums[name].double() for name in names])) / (self.steps * job.world_size)
        seconds = time.perf_counter() - self.begin
        values = dict(zip(names, total.tolist(), strict=True))
        values |= {"step_seconds": seconds / self.steps, "data_wait": self.waited / max(seconds, 1e-9)}
        self._restart()
        return values
