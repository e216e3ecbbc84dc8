"""Finds what an earlier start of a run left in its folder: the newest checkpoint, or the summary of a finished run.

What goes before what stands as a numbered list in ``runs.student_run.train_student``, which asks here.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tinyvit_kd.config.recipes import TrainingConfig
from tinyvit_kd.errors import CheckpointError
from tinyvit_kd.models.modelfile import MODEL, load_model_file
from tinyvit_kd.runs.identity import describe_changes, differing, joined
from tinyvit_kd.runs.run_files import SUMMARY
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.files import write_json
from tinyvit_kd.runtime.log import say
from tinyvit_kd.runtime.shared_disks import await_visible
from tinyvit_kd.training.checkpoint import CHECKPOINTS, checkpoint_path, load_checkpoint, load_latest


def newest_checkpoint(config: TrainingConfig, identity: dict[str, str], job: Job) -> dict[str, Any] | None:
    """Load the newest checkpoint that rank 0 can read, in every process; None if there are no checkpoints.

    Raises:
        CheckpointError: no checkpoint can be read, or it belongs to another recipe or other data.
    """
    folder = config.output / CHECKPOINTS
    saved: dict[str, Any] | None = None
    if job.is_main:
        saved = load_latest(folder, lambda error: say(job, f"passing over a checkpoint: {error}"))
    step = job.broadcast(None if saved is None else int(saved["step"]))
    if step is not None and saved is None:
        path = checkpoint_path(folder, step)
        await_visible(lambda: os.path.exists(path))
        saved = load_checkpoint(path)
    if saved is not None:
        _require_same_run(saved["identity"], identity, config)
    return saved


def _require_same_run(found: dict[str, str], identity: dict[str, str], config: TrainingConfig) -> None:
    names = differing(found, identity)
    if names:
        raise CheckpointError(
            f"the run folder holds a checkpoint with another {joined(names)}",
            where=str(config.output),
            found=f"from the checkpoint to this run: {describe_changes(found, identity)}",
            fix="restore the recipe to continue that run, or set output to a new folder; once that run has "
            "finished, student.init_from can start the new one with its weights",
        )


def write_summary(folder: Path, results: dict[str, float], identity: dict[str, str], fsync: bool) -> None:
    """Write ``summary.json``. A run folder with it and a model file is that of a finished run."""
    write_json(folder / SUMMARY, {"results": results, "identity": identity}, fsync)


def finished_summary(config: TrainingConfig, identity: dict[str, str]) -> dict[str, float] | None:
    """The results of the finished run in the run folder; None if there is none, or its identity is another one."""
    path = config.output / SUMMARY
    if not path.is_file() or not (config.output / MODEL).is_file():
        return None
    try:
        saved = json.loads(path.read_bytes())
        if saved["identity"] != identity:
            return None
        load_model_file(config.output)
        return dict(saved["results"])
    except (ValueError, KeyError, TypeError):  # summary or model is damaged: the last checkpoint makes them again
        return None
