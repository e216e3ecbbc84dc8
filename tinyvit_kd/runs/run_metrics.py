"""Where a run's figures are logged, and what the loggers are told of it."""

from __future__ import annotations

from typing import Any

from tinyvit_kd.config.recipes import TrainingConfig
from tinyvit_kd.data.locating.urls import without_command
from tinyvit_kd.runs.work_folder import run_folder
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.machine import machine, versions
from tinyvit_kd.runtime.metric_loggers import MetricsWriter, require_loggers


def student_metrics(config: TrainingConfig, job: Job) -> MetricsWriter:
    """Open the loggers of a run, on rank 0.

    Raises:
        ConfigError: a logger's package is missing, or its settings are wrong.
    """
    if not job.is_main:
        return MetricsWriter()
    require_loggers(config.logging)
    about = {
        "recipe": _without_commands(config.model_dump(mode="json")),
        "versions": versions(),
        "machine": machine(),
        "world_size": job.world_size,
    }
    return MetricsWriter(job, run_folder(config), config.logging, about)


def _without_commands(tree: Any) -> Any:
    """A recipe for a server, without the commands that fetch shards: these may hold tokens."""
    if isinstance(tree, dict):
        return {name: _without_commands(value) for name, value in tree.items()}
    if isinstance(tree, list):
        return [_without_commands(value) for value in tree]
    return without_command(tree) if isinstance(tree, str) else tree
