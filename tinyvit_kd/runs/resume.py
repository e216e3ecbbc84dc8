"""Whether a run goes on where it was: the newest checkpoint, and the end that it came to."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tinyvit_kd.config.recipes import TrainingConfig
from tinyvit_kd.errors import CheckpointError
from tinyvit_kd.models.modelfile import MODEL, load_model_file
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.files import write_json
from tinyvit_kd.runtime.log import say
from tinyvit_kd.training.checkpoint import CHECKPOINTS, checkpoint_path, load_checkpoint, load_latest

SHOWN_WITHIN = 60  # seconds


SUMMARY = "summary.json"


def newest_checkpoint(config: TrainingConfig, identity: dict[str, str], job: Job) -> dict[str, Any] | None:
    """Rank 0's choice, for every process; a shared disk may show it to other machines a little later.

    Raises:
        CheckpointError: none can be read, or it is of another recipe or of other data.
    """
    folder, saved = config.output / CHECKPOINTS, None
    if job.is_main:
        saved = load_latest(folder, lambda error: say(job, f"passing over a checkpoint: {error}"))
    step = job.broadcast(None if saved is None else int(saved["step"]))
    if step is not None and saved is None:
        path = checkpoint_path(folder, step)
        for _ in range(SHOWN_WITHIN):
            if path.exists():
                break
            time.sleep(1)
        saved = load_checkpoint(path)
    if saved is not None:
        _require_same_run(saved["identity"], identity, config)
    return saved


def _require_same_run(found: dict[str, str], identity: dict[str, str], config: TrainingConfig) -> None:
    for name, expected in identity.items():
        if found.get(name) != expected:
            raise CheckpointError(
                f"the run folder holds a checkpoint with another {name}",
                where=str(config.output),
                found=str(found.get(name)),
                expected=expected,
                fix="restore the recipe to continue that run, or set output to a new folder; student.init_from starts "
                "the new run with that run's weights, where it has ended",
            )


def write_summary(folder: Path, results: dict[str, float], identity: dict[str, str], fsync: bool) -> None:
    """Write ``summary.json``: a run with it and a whole model file has ended."""
    write_json(folder / SUMMARY, {"results": results, "identity": identity}, fsync)


def finished_summary(config: TrainingConfig, identity: dict[str, str]) -> dict[str, float] | None:
    """The summary of a run that has ended, if it was this one."""
    path = config.output / SUMMARY
    if not path.is_file() or not (config.output / MODEL).is_file():
        return None
    try:
        saved = json.loads(path.read_bytes())
        if saved["identity"] != identity:
            return None
        load_model_file(config.output)
        return dict(saved["results"])
    except (ValueError, KeyError, TypeError):  # one of them is damaged: the last checkpoint makes it again
        return None
