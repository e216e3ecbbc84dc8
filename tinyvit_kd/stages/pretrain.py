"""Stage two, ``pretrain``: a student from the store alone.

Nothing here imports or builds a teacher; a test holds this.
"""

from __future__ import annotations

from tinyvit_kd.config.recipes import PretrainConfig
from tinyvit_kd.runs.stored_data import open_stored_data
from tinyvit_kd.runs.student_run import train_student
from tinyvit_kd.runtime.distributed import Job


def pretrain(config: PretrainConfig, job: Job) -> dict[str, float]:
    """Train a student on the views of a store, and on the probabilities of it and of further teachers' stores.

    Raises:
        StoreError: a store is missing, incomplete, or belongs to other shards, views or to another renderer.
        ConfigError: the loss needs labels, and there are none of the store's classes.
        ReplayError: a replayed view is not the teacher's.
    """
    return train_student(config, open_stored_data(config, job), job)
