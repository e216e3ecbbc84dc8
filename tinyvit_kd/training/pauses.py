"""At which steps a run is interrupted: by evaluations, and by checkpoints."""

from __future__ import annotations

import math

from tinyvit_kd.training.run import Run


def evaluation_due(run: Run, step: int) -> bool:
    """Whether a run that evaluates does so after this many steps."""
    return step == run.total_steps or step % _steps_between_evaluations(run) == 0


def checkpoint_due(run: Run, step: int) -> bool:
    """Whether a checkpoint is written after this many steps, whatever else happens there."""
    return step == run.total_steps or step % run.config.checkpoint_every == 0


def pauses_left(run: Run, evaluates: bool, done: int) -> dict[str, int]:
    """How many evaluations and checkpoints come after step ``done``.

    A checkpoint is written before each evaluation, too.
    """
    between, every = _steps_between_evaluations(run), run.config.checkpoint_every
    evaluations = _multiples(run, done, between) if evaluates else 0
    checkpoints = _multiples(run, done, every)
    if evaluates:
        checkpoints += evaluations - _multiples(run, done, math.lcm(between, every))
    return {"evaluation": evaluations, "checkpoint": checkpoints}


def _steps_between_evaluations(run: Run) -> int:
    return run.steps_per_epoch * run.config.evaluate_every


def _multiples(run: Run, done: int, every: int) -> int:
    """Multiples of ``every`` among the steps that are left; the last step counts as one."""
    total = run.total_steps
    return total // every - done // every + (total % every != 0 and done < total)
