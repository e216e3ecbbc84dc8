"""Where a run keeps the lines that it printed."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from tinyvit_kd import __version__
from tinyvit_kd.config.recipes import DumpConfig, TrainingConfig
from tinyvit_kd.runs.run_files import LOG
from tinyvit_kd.runs.work_folder import dump_path, run_folder
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.lines import log_file
from tinyvit_kd.runtime.wording import counted


def student_log(config: TrainingConfig, job: Job) -> AbstractContextManager[None]:
    """Append rank 0's lines to ``log.txt`` in the run folder, which exists."""
    return log_file(run_folder(config) / LOG, _title("training", job)) if job.is_main else nullcontext()


def dump_log(config: DumpConfig, part: tuple[int, int], job: Job) -> AbstractContextManager[None]:
    """Append rank 0's lines to a file beside the store, one for each part: ``store.log``, ``store.part-2-of-8.log``.

    Not in the store, which holds what zarr and a check know.
    """
    return log_file(dump_path(config, "log", part), _title("dump-logits", job)) if job.is_main else nullcontext()


def _title(stage: str, job: Job) -> str:
    return f"{stage}, tinyvit_kd {__version__}, {counted(job.world_size, 'process')} on {job.device.type}"
