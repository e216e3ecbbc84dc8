"""Batches made in worker processes, in an order that does not depend on how many there are."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.errors import TinyVitKdError, WorkerError

Task = TypeVar("Task")
Made = TypeVar("Made")


@dataclass(frozen=True)
class _Failure:
    error: TinyVitKdError


class _Tasks(Dataset[object], Generic[Task, Made]):
    def __init__(self, make: Callable[[Task], Made]) -> None:
        self.make = make

    def __getitem__(self, task: Task) -> Made | _Failure:
        # torch would turn an exception into a traceback text; ours carry parts that the user should read.
        try:
            return self.make(task)
        except TinyVitKdError as error:
            return _Failure(error)


def load(
    make: Callable[[Task], Made], tasks: Iterable[Task], runtime: RuntimeConfig, device: torch.device
) -> Iterator[Made]:
    """Run ``make`` over ``tasks`` in worker processes; results come in the order of the tasks.

    Args:
        make: pure function from a task to a batch; it is copied into each worker.
        tasks: consumed lazily, a few ahead of what is yielded.
        runtime: number of workers and how far they run ahead.
        device: memory is pinned where this is a GPU.

    Raises:
        TinyVitKdError: what ``make`` raised, unchanged.
    """
    workers = runtime.workers
    loader: DataLoader[object] = DataLoader(
        _Tasks(make),
        batch_size=None,
        sampler=tasks,
        num_workers=workers,
        prefetch_factor=runtime.prefetch if workers else None,
        pin_memory=device.type == "cuda",
        worker_init_fn=_start_worker,
        collate_fn=_as_it_is,
    )
    try:
        for made in loader:
            if isinstance(made, _Failure):
                raise made.error
            yield made
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise WorkerError(
            "a data loading process ended unexpectedly",
            found=str(error).partition("\n")[0],
            fix="often memory ran out: lower runtime.workers, runtime.prefetch or the batch, and run again",
        ) from error


def _as_it_is(made: object) -> object:
    # torch's own would turn arrays into tensors and tuples into lists.
    return made


def _start_worker(_worker: int) -> None:
    torch.set_num_threads(1)
    # Preemption and Ctrl-C reach the whole process group; the main process decides, workers carry on until then.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
