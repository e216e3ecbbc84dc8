"""The batches that a student run would train on, at any step and without training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tinyvit_kd.batches.step_plan import StepPlan
from tinyvit_kd.config.recipes import FinetuneConfig, PretrainConfig
from tinyvit_kd.data.buffers import BatchMaker
from tinyvit_kd.data.loader import loading, steps_in_work
from tinyvit_kd.runs.batch_sizes import check_schedule
from tinyvit_kd.runs.labelled_data import open_labelled_data
from tinyvit_kd.runs.stored_data import open_stored_data
from tinyvit_kd.runs.training_data import TrainingData, step_plan
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.training.batch import Batch


class BatchRows(NamedTuple):
    """The sample and the view in each row of a batch."""

    epoch: int
    shards: npt.NDArray[np.int32]  # [B]
    indexes: npt.NDArray[np.int32]  # [B], within their shards
    views: npt.NDArray[np.int32]  # [B], view numbers


@dataclass(frozen=True, eq=False)
class TrainingBatches:
    """The batches of a run that starts now in one process, in training order.

    A batch depends on nothing but its step, so ``batches[step]`` makes only that batch. ``len(batches)`` is the number
    of steps. Batches are on the CPU and stay valid: later batches do not overwrite them.
    """

    config: PretrainConfig | FinetuneConfig
    data: TrainingData
    plan: StepPlan

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps per epoch."""
        return self.plan.steps_per_epoch

    def __len__(self) -> int:
        return self.config.schedule.epochs * self.steps_per_epoch

    def __getitem__(self, step: int) -> Batch:
        """The batch of a step; negative steps count from the end.

        Raises:
            IndexError: the run has no such step.
            ReplayError: a view differs from the one that the teacher saw.
        """
        return self._maker(range(len(self))[step])

    def __iter__(self) -> Iterator[Batch]:
        return self.iterate()

    def iterate(self, start: int = 0, stop: int | None = None, workers: int = 0) -> Iterator[Batch]:
        """Yield the batches of steps ``start`` to ``stop - 1``.

        Args:
            stop: None: the number of steps.
            workers: number of processes that prepare batches ahead; they end with the iterator. 0: each batch is made
                in this process when it is asked for.

        Raises:
            ReplayError: a view differs from the one that the teacher saw.
            WorkerError, StalledError: a process died, or no batch came for ``runtime.data_timeout`` seconds.
        """
        steps = range(len(self))[start:stop]
        if workers == 0:
            yield from map(self._maker, steps)
            return
        runtime = self.config.runtime.model_copy(update={"workers": workers})
        maker = self.data.batch_maker(self.plan, steps_in_work(runtime))
        with loading(maker, steps, runtime, solo_job().device) as loaded:
            for batch in loaded:
                yield batch.clone()

    def rows(self, step: int) -> BatchRows:
        """The samples and views in the batch of a step.

        Raises:
            IndexError: the run has no such step.
        """
        epoch, shards, indexes = self.plan.samples(range(len(self))[step])
        numbers = np.array(self.plan.view_numbers(epoch), dtype=np.int32)
        views_per_sample = len(numbers)
        return BatchRows(
            epoch,
            shards=shards.repeat(views_per_sample),
            indexes=indexes.repeat(views_per_sample),
            views=np.tile(numbers, len(shards)),
        )

    @cached_property
    def _maker(self) -> BatchMaker[int, Batch]:
        return self.data.batch_maker(self.plan)


def open_training_batches(config: PretrainConfig | FinetuneConfig) -> TrainingBatches:
    """Open and check what a run would train on. No network is built; only missing byte indexes are written.

    Raises:
        StoreError, ShardError, ConfigError: the stage itself would raise it.
    """
    job = solo_job()
    # A stage ends its process if a disk hangs for too long. A notebook must not end: it may hold hours of work.
    patient = config.runtime.model_copy(update={"data_timeout": math.inf})
    opened = config.model_copy(update={"runtime": patient})
    if isinstance(opened, PretrainConfig):
        store = opened.store.model_copy(update={"follow": False})  # nor must it wait for a dump
        data: TrainingData = open_stored_data(opened.model_copy(update={"store": store}), job)
    else:
        data = open_labelled_data(opened, job)
    check_schedule(config.schedule, data.shards, job)
    return TrainingBatches(config, data, step_plan(config, data, job, None))
