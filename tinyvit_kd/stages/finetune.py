"""Stage three, ``finetune``: labelled shards, from a stage-two student or from scratch."""

from __future__ import annotations

from tinyvit_kd.config.recipes import FinetuneConfig
from tinyvit_kd.runs.labelled_data import open_labelled_data
from tinyvit_kd.runs.student_run import train_student
from tinyvit_kd.runtime.distributed import Job


def finetune(config: FinetuneConfig, job: Job) -> dict[str, float]:
    """Train on labels.

    Raises:
        ConfigError: the number of classes is unknown, smaller than a label needs, or not that of the class list.
    """
    return train_student(config, open_labelled_data(config, job), job)
