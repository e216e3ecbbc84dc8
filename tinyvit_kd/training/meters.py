"""Means of training scalars that stay on the device until they are read."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from tinyvit_kd.errors import NonFiniteLossError
from tinyvit_kd.runtime.distributed import Job

_NEVER = 1 << 62
_SAMPLES_NAMED = 5  # samples that an error names, of each process
NameSamples = Callable[[int, Sequence[int]], list[str]]  # from a step and rows of this process's batch to sample names


class StepResult(NamedTuple):
    """The result of one optimiser step."""

    scalars: dict[str, torch.Tensor]  # by name, "loss" among them
    finite_rows: torch.Tensor  # bool [B]: whether all of the student's outputs for a view were finite
    applied: bool = True  # False: the step was skipped


class Meters:
    """Sums up the scalars of steps without waiting for the device.

    Only ``read`` (at log steps) and ``require_finite`` (before a checkpoint) synchronise host and device.
    """

    def __init__(self, device: torch.device, name_samples: NameSamples) -> None:
        self._name_samples = name_samples
        self.first_bad_step = torch.full((), _NEVER, dtype=torch.int64, device=device)
        self.finite_rows: torch.Tensor | None = None  # of the first bad step; until there is one, of the last step
        self._restart()

    def _restart(self) -> None:
        self.names: tuple[str, ...] = ()
        self.sums = torch.zeros(0)
        self.steps = 0
        self.applied = 0
        self.waited = 0.0
        self.begin = time.perf_counter()

    def update(self, result: StepResult, step: int, waited: float) -> None:
        """Add the scalars of step number ``step``, and the seconds that it waited for data."""
        self.steps += 1
        self.waited += waited
        if not result.applied:
            return
        self.applied += 1
        self.names = tuple(result.scalars)
        values = torch.stack([value.detach().float() for value in result.scalars.values()])
        self.sums = self.sums + values if len(self.sums) else values
        # All scalars, not the loss alone: with an infinite gradient norm, the weights are spoilt one step before the
        # loss becomes infinite.
        finite = (values.abs() < math.inf).all()
        seen = self.first_bad_step < step
        rows = result.finite_rows
        self.finite_rows = rows if self.finite_rows is None else torch.where(seen, self.finite_rows, rows)
        self.first_bad_step = torch.where(finite, self.first_bad_step, self.first_bad_step.clamp(max=step))

    def leave_out(self, seconds: float) -> None:
        """Leave out time that was spent on something else than steps, since the last reading."""
        self.begin += seconds

    def require_finite(self, job: Job) -> None:
        """Stop every process if the loss or gradient of any was not finite (synchronises with the device).

        Raises:
            NonFiniteLossError: naming the first such step, and samples.
        """
        step = int(job.min(self.first_bad_step).item())
        if step == _NEVER:
            return
        rows = self.finite_rows
        if rows is None or int(self.first_bad_step.item()) != step:  # it was bad in another process
            rows = torch.ones(0, dtype=torch.bool)
        raise non_finite_error(job, self._name_samples, step, rows)

    def read(self, job: Job) -> dict[str, float]:
        """Means over steps and processes since the last call, which starts them anew (synchronises with the device)."""
        self.require_finite(job)
        total = job.sum(self.sums.double()) / (max(self.applied, 1) * job.world_size)
        seconds = time.perf_counter() - self.begin
        values = dict(sorted(zip(self.names, total.tolist(), strict=True)))
        values |= {"step_seconds": seconds / self.steps, "data_wait": self.waited / max(seconds, 1e-9)}
        self._restart()
        return values


def finite_rows(*heads: torch.Tensor) -> torch.Tensor:
    """Which samples have finite logits in all of their heads: bool [B], from one [B, C] or several.

    The largest and the smallest tell; NaN is both, and fails both comparisons. That is two passes that read, where
    ``isfinite`` takes four, three of which also write.
    """
    rows = [(logits.amin(dim=1) > -math.inf) & (logits.amax(dim=1) < math.inf) for logits in heads]
    return rows[0] if len(rows) == 1 else torch.stack(rows).all(dim=0)


def non_finite_error(job: Job, name_samples: NameSamples, step: int, finite_rows: torch.Tensor) -> NonFiniteLossError:
    """The error for one step; every process must call (synchronises with the device).

    Args:
        finite_rows: bool [B] of this process's batch; [0] where nothing is known.
    """
    bad = torch.nonzero(~finite_rows).flatten().tolist()
    rows = bad or range(len(finite_rows))
    reports = job.gather((len(bad), name_samples(step, rows[:_SAMPLES_NAMED])))
    count = sum(bad_rows for bad_rows, _ in reports)
    samples = [name for bad_rows, names in reports if bad_rows or not count for name in names]
    what = f"outputs that are not finite for {count} samples" if count else "finite outputs, but not a finite gradient"
    return NonFiniteLossError(
        "the loss or its gradient became NaN or infinite",
        where=f"step {step}",
        found=f"{what}, in a batch with {', '.join(samples)}{', …' if len(samples) >= _SAMPLES_NAMED else ''}",
        fix="lower optim.base_lr, clip gradients harder (optim.clip_grad) or use float32, and start a run in another "
        "output folder; or skip such steps with train.on_non_finite: skip",
    )
