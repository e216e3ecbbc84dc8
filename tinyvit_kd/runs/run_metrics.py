"""Where a run's figures are logged, and what the loggers are told of it."""

from __future__ import annotations

from tinyvit_kd.config.recipes import TrainingConfig
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
        "recipe": config.model_dump(mode="json"),
        "versions": versions(),
        "machine": machine(),
        "world_size": job.world_size,
    }
    return MetricsWriter(job, config.output, config.logging, about)
