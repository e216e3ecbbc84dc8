"""What a run reports while it trains: the figures of a line of progress, and the line."""

from __future__ import annotations

import math

from tinyvit_kd.runtime.log import say
from tinyvit_kd.runtime.metric_loggers import MetricsWriter
from tinyvit_kd.training.evaluation_metrics import COUNTS
from tinyvit_kd.training.meters import Meters
from tinyvit_kd.training.run import Run
from tinyvit_kd.training.state import TrainState


def log_progress(run: Run, state: TrainState, meters: Meters, writer: MetricsWriter) -> dict[str, float]:
    """Log a step's figures and print the line of progress; every process must call.

    Returns:
        the means since the last line: what the objective reports, and what is added here.
    """
    values = meters.read(run.job)  # synchronises with the device and between processes
    values["lr"] = max(group["lr"] for group in state.optimizer.param_groups)
    values["skipped_steps"] = state.skipped_steps
    writer.write("train", state.step, values)
    rate = run.global_batch_size / values["step_seconds"]
    left_out = "".join(f"  {name} {values[name]:.2%}" for name in ("holes", "unlabelled") if values.get(name))
    say(
        run.job,
        f"step {state.step}/{run.total_steps}  epoch {state.step / run.steps_per_epoch:.2f}  "
        f"loss {values.get('loss', math.nan):.4f}  lr {values['lr']:.2e}  {rate:,.0f} images/s  "
        f"waiting for data {values['data_wait']:.0%}{left_out}",
    )
    return values


def told_scores(scores: dict[str, float]) -> str:
    """An evaluation's scores in a line: counts are whole, and samples left out are told where there are any."""
    return "  ".join(
        f"{name} {value:,.0f}" if name.startswith(COUNTS) else f"{name} {value:.2f}"
        for name, value in scores.items()
        if value or not name.startswith("left_out")
    )
