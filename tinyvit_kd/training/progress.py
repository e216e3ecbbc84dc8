"""What a run reports while it trains: the bar, lines of progress, the figures that are logged, ``progress.json``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager

import torch

from tinyvit_kd.runtime.log import progress_bar, say
from tinyvit_kd.runtime.wording import duration
from tinyvit_kd.training.evaluation_metrics import COUNTS
from tinyvit_kd.training.meters import Meters
from tinyvit_kd.training.pauses import pauses_left
from tinyvit_kd.training.run import Run
from tinyvit_kd.training.state import TrainState


class Reports:
    """Everything that a run reports while it trains. No step waits for the device because of it.

    Args:
        step: steps that are done.
        evaluates: whether the run scores its network.
    """

    def __init__(self, run: Run, step: int, evaluates: bool) -> None:
        self._run = run
        self.progress = run.progress
        self.progress.pace.expect(run.total_steps, lambda done: pauses_left(run, evaluates, done))
        self._at(step)
        self.bar = progress_bar(
            run.job,
            run.total_steps,
            "step",
            initial=step,
            label="train",
            about=lambda: self.progress.figures("image"),
        )

    def made_step(self, step: int, seconds: float) -> None:
        """Note that a step is done, and how long it took with all that belongs to it."""
        self.progress.pace.made(1, seconds)
        self._at(step)
        self.bar.update()

    def log(self, state: TrainState, meters: Meters) -> dict[str, float]:
        """Log the steps since the last call, and print the line of progress; every process must call.

        Returns:
            the means over these steps: what the objective reports, and what is added here.
        """
        run, progress = self._run, self.progress
        values = meters.read(run.job)  # synchronises with the device and between processes
        values["lr"] = max(group["lr"] for group in state.optimizer.param_groups)
        values["skipped_steps"] = state.skipped_steps
        values |= _counted(run)
        run.metrics.write("train", state.step, values)
        progress.loss, progress.data_wait = values.get("loss", math.nan), values["data_wait"]
        say(run.job, self._line(state.step, values))
        return values

    def log_scores(self, step: int, scores: dict[str, float]) -> None:
        """Log an evaluation, and print its line."""
        self._run.metrics.write("eval", step, scores)
        say(self._run.job, f"eval at step {step}: {told_scores(scores)}")

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Time an evaluation, and say that there is one."""
        self.progress.enter("evaluating")
        with self.progress.pace.pausing("evaluation"):
            yield
        self.progress.enter("running")

    def writing_checkpoint(self) -> AbstractContextManager[None]:
        """Time the writing of a checkpoint."""
        return self.progress.pace.pausing("checkpoint")

    def _at(self, step: int) -> None:
        self.progress.done, self.progress.epoch = step, step / self._run.steps_per_epoch

    def _line(self, step: int, values: dict[str, float]) -> str:
        run = self._run
        rate = run.global_batch_size / values["step_seconds"]
        seconds = self.progress.pace.seconds_left(step)
        left = "" if not seconds else f"  {duration(seconds)} left"
        left_out = "".join(f"  {name} {values[name]:.2%}" for name in ("holes", "unlabelled") if values.get(name))
        return (
            f"step {step}/{run.total_steps}  epoch {step / run.steps_per_epoch:.2f}  "
            f"loss {values.get('loss', math.nan):.4f}  lr {values['lr']:.2e}  {rate:,.0f} images/s  "
            f"waiting for data {values['data_wait']:.0%}{left}{left_out}"
        )


def _counted(run: Run) -> dict[str, float]:
    """What all ranks have counted since the last line, added up; every process must call."""
    own = run.counted()
    if not own:
        return {}
    return dict(zip(own, run.job.sum(torch.tensor(list(own.values()), dtype=torch.float64)).tolist(), strict=True))


@contextmanager
def reporting(run: Run, step: int, evaluates: bool) -> Iterator[Reports]:
    """Show a bar while the run trains."""
    reports = Reports(run, step, evaluates)
    with closing(reports.bar):
        run.progress.enter("running")
        yield reports


def told_scores(scores: dict[str, float]) -> str:
    """An evaluation's scores in a line: counts are whole, and samples left out are told where there are any."""
    return "  ".join(
        f"{name} {value:,.0f}" if name.startswith(COUNTS) else f"{name} {value:.2f}"
        for name, value in scores.items()
        if value or not name.startswith("left_out")
    )
