"""Where the points of a run's curves stand: by optimiser step, by epoch, and by hours of training."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from tinyvit_kd.analysis.jobs.run_folder import Line, RunFolder


@dataclass(frozen=True)
class Axes:
    """The places of some lines of a run's metrics.

    Attributes:
        step: optimiser steps.
        epoch: None where it is not known how many steps an epoch has.
        hours: spent in training steps up to there, over all attempts; what evaluations, checkpoints and pauses took
            is not in it. None where no line says how long a step took.
    """

    step: list[float]
    epoch: list[float] | None
    hours: list[float] | None


def axes(run: RunFolder, lines: Sequence[Line], steps_per_epoch: float | None) -> Axes:
    """The places of some lines of a run."""
    steps = [float(line["step"]) for line in lines]
    spent = _time_by_step(run.of_kind("train"))
    return Axes(
        step=steps,
        epoch=[step / steps_per_epoch for step in steps] if steps_per_epoch else None,
        hours=[_hours_at(step, spent) for step in steps] if spent else None,
    )


def steps_per_epoch(run: RunFolder, total_steps: int | None) -> float | None:
    """Optimiser steps of an epoch; None where the recipe or the number of steps is not known.

    Args:
        total_steps: of the whole run.
    """
    schedule = (run.recipe or {}).get("schedule")
    epochs = schedule.get("epochs") if isinstance(schedule, dict) else None
    return total_steps / epochs if total_steps and isinstance(epochs, int | float) and epochs > 0 else None


def _time_by_step(lines: Sequence[Line]) -> list[tuple[float, float]]:
    """(step, hours of training up to there), from the mean time of a step that each line tells."""
    spent = [(0.0, 0.0)]
    for line in lines:
        seconds = line.get("step_seconds")
        if isinstance(seconds, int | float) and math.isfinite(seconds):
            step, hours = spent[-1]
            spent.append((float(line["step"]), hours + max(0.0, seconds) * (line["step"] - step) / 3600))
    return spent if len(spent) > 1 else []


def _hours_at(step: float, spent: Sequence[tuple[float, float]]) -> float:
    """The hours at a step, between two known ones in proportion; behind the last one, those of the last one."""
    place = bisect_left(spent, (step, -math.inf))
    if place >= len(spent):
        return spent[-1][1]
    after, later = spent[place]
    before, earlier = spent[max(0, place - 1)]
    share = (step - before) / (after - before) if after > before else 1.0
    return min(later, earlier + (later - earlier) * share)  # not above it by rounding
