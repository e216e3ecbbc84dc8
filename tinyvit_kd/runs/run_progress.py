"""Where a job keeps how far it is: ``progress.json`` in a run folder, a file beside the store for a dump."""

from __future__ import annotations

import math
from pathlib import Path

from tinyvit_kd.config.recipes import DumpConfig, TrainingConfig
from tinyvit_kd.runs.work_folder import dump_path, run_folder
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.files import read_small_json
from tinyvit_kd.runtime.pace import Pace
from tinyvit_kd.runtime.progress import Progress
from tinyvit_kd.runtime.progress_file import PROGRESS, ProgressFile


def student_progress(config: TrainingConfig, job: Job) -> ProgressFile:
    """The file of a run, from rank 0; it knows how long evaluations and checkpoints took before the run was stopped."""
    path = run_folder(config) / PROGRESS
    progress = Progress(
        _stage(config),
        "step",
        config.schedule.global_batch_size,
        job.world_size,
        pace=Pace(pause_seconds=_paused(path)),
    )
    return ProgressFile(path if job.is_main else None, progress)


def dump_progress(config: DumpConfig, part: tuple[int, int], job: Job) -> ProgressFile:
    """The file of a dump or of a part of one, from rank 0."""
    path = dump_path(config, PROGRESS, part) if job.is_main else None
    return ProgressFile(path, Progress(config.stage, "view", 1, job.world_size))


def _stage(config: TrainingConfig) -> str:
    return str(getattr(config, "stage", "training"))


def _paused(path: Path) -> dict[str, float]:
    """Seconds of pauses by kind, as an earlier start of the run left them."""
    found = read_small_json(path).get("pause_seconds")
    try:
        return {kind: seconds for kind, seconds in dict(found or {}).items() if 0 <= float(seconds) < math.inf}
    except (ValueError, TypeError, OverflowError):
        return {}
