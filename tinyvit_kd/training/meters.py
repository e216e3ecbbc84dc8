"""Running means that stay on the device until they are read."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from tinyvit_kd.errors import NonFiniteLossError
from tinyvit_kd.runtime.distributed import Job

_NEVER = 1 << 62
_NAMED = 5  # samples that an error names, of each process
NameSamples = Callable[[int, Sequence[int]], list[str]]  # a step and rows of this process's batch, to samples' names


class Step(NamedTuple):
    """What one optimiser step came to."""

    parts: dict[str, torch.Tensor]  # named scalars, "loss" among them
    finite_rows: torch.Tensor  # bool [B]: whether the student's outputs of a sample were all finite
    applied: bool = True  # False: it was left out


class Meters:
    """Collects a step's scalars without waiting for the device.

    Reading (at log steps) and ``require_finite`` (before a checkpoint) are the only host-device synchronisations.
    """

    def __init__(self, device: torch.device, name_samples: NameSamples) -> None:
        self._name_samples = name_samples
        self.first_bad_step = torch.full((), _NEVER, dtype=torch.int64, device=device)
        self.finite_rows: torch.Tensor | None = None  # of the first bad step, or of the last one
        self._restart()

    def _restart(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        self.steps, self.waited, self.begin, self.applied = 0, 0.0, time.perf_counter(), 0

    def update(self, step: Step, number: int, waited: float) -> None:
        """Add one step's scalars and the seconds it waited for data."""
        self.steps += 1
        self.waited += waited
        if not step.applied:
            return
        self.applied += 1
        for name, value in step.parts.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        # Every part, not the loss alone: a norm that is not finite has spoilt the weights, one step before the loss.
        bad = ~torch.isfinite(torch.stack([value.detach().float() for value in step.parts.values()])).all()
        seen = self.first_bad_step < number
        rows = step.finite_rows
        self.finite_rows = rows if self.finite_rows is None else torch.where(seen, self.finite_rows, rows)
        self.first_bad_step = torch.where(bad, self.first_bad_step.clamp(max=number), self.first_bad_step)

    def require_finite(self, job: Job) -> None:
        """Stop every process of a run whose loss or gradient was not finite (synchronises with the device).

        Raises:
            NonFiniteLossError: naming the first such step, and samples.
        """
        number = int(job.min(self.first_bad_step).item())
        if number == _NEVER:
            return
        rows = self.finite_rows
        if rows is None or int(self.first_bad_step.item()) != number:  # it was another process's
            rows = torch.ones(0, dtype=torch.bool)
        raise non_finite_error(job, self._name_samples, number, rows)

    def read(self, job: Job) -> dict[str, float]:
        """Means since the last reading, over steps and processes; starts anew (synchronises with the device)."""
        self.require_finite(job)
        names = sorted(self.sums)
        sums = torch.stack([self.sums[name].double() for name in names]) if names else torch.zeros(0)
        total = job.sum(sums) / (max(self.applied, 1) * job.world_size)
        seconds = time.perf_counter() - self.begin
        values = dict(zip(names, total.tolist(), strict=True))
        values |= {"step_seconds": seconds / self.steps, "data_wait": self.waited / max(seconds, 1e-9)}
        self._restart()
        return values


def non_finite_error(job: Job, name_samples: NameSamples, number: int, finite_rows: torch.Tensor) -> NonFiniteLossError:
    """The error for one step; every process must call (synchronises with the device).

    Args:
        number: of the step.
        finite_rows: bool [B] of this process's batch; [0] where nothing is known.
    """
    bad = torch.nonzero(~finite_rows).flatten().tolist()
    rows = bad or range(len(finite_rows))
    told = job.gather((len(bad), name_samples(number, rows[:_NAMED])))
    count = sum(each for each, _ in told)
    samples = [name for each, names in told if each or not count for name in names]
    what = f"outputs that are not finite for {count} samples" if count else "finite outputs, but not a finite gradient"
    return NonFiniteLossError(
        "the loss or its gradient became NaN or infinite",
        where=f"step {number}",
        found=f"{what}, in a batch with {', '.join(samples)}{', …' if len(samples) >= _NAMED else ''}",
        fix="lower optim.base_lr, clip gradients harder (optim.clip_grad) or use float32; with other settings, start a "
        "run in another output folder; train.on_non_finite: skip leaves such steps out",
    )
