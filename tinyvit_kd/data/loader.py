"""Batches made in worker processes, in an order that does not depend on how many there are."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.errors import TinyVitKdError, WorkerError, chain
from tinyvit_kd.runtime.files import require_open_files
from tinyvit_kd.runtime.signals import ignore_signals
from tinyvit_kd.runtime.watchdog import Notes, Patience, join_loading, loading_here

Task = TypeVar("Task")
Made = TypeVar("Made")
_OPEN_FILES = 384  # shards, blocks and pipes of one process
_NO_PINNING = "the thread that copies batches into pinned memory, see above"
_FILES_A_BATCH = 10  # a tensor that is handed over is an open file in two processes


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


@contextmanager
def loading(
    make: Callable[[Task], Made], tasks: Iterable[Task], runtime: RuntimeConfig, device: torch.device
) -> Iterator[Iterator[Made]]:
    """Run ``make`` over ``tasks`` in worker processes; results come in the order of the tasks.

    The processes are ended with the context.

    Args:
        make: pure function from a task to a batch; it is copied into each worker.
        tasks: consumed lazily, a few ahead of what is yielded.
        runtime: number of workers, how far they run ahead, and how long to wait for one.
        device: memory is pinned where this is a GPU.

    Raises:
        ConfigError: the system allows too few open files for so many workers.
        TinyVitKdError: what ``make`` raised, unchanged.
        WorkerError: a process died.
        StalledError: no batch came for ``runtime.data_timeout`` seconds; it names what is being read.
    """
    loaded = _load(make, tasks, runtime, device)
    try:
        with closing(loaded):
            yield loaded
    except Exception as error:
        # torch tells of a dead process from a signal handler, wherever the main process is then: what it interrupts
        # may make another error of it, or several.
        told = [str(each) for each in chain(error) if "DataLoader worker (pid" in str(each)]
        if not told or isinstance(error, WorkerError):
            raise
        raise _ended(told[-1]) from error


def _ended(told: str) -> WorkerError:
    return WorkerError(
        "a data loading process ended unexpectedly",
        found=told.partition("\n")[0],
        fix="often memory ran out: lower runtime.workers, runtime.prefetch or the batch; run the same command "
        "again: it goes on where it was",
    )


def _load(
    make: Callable[[Task], Made], tasks: Iterable[Task], runtime: RuntimeConfig, device: torch.device
) -> Generator[Made, None, None]:
    workers = runtime.workers
    require_open_files(_OPEN_FILES + _FILES_A_BATCH * workers * runtime.prefetch)
    notes = Notes(workers)
    patience = Patience(notes, runtime.data_timeout)
    loader: DataLoader[object] = DataLoader(
        _Tasks(make),
        batch_size=None,
        sampler=tasks,
        num_workers=workers,
        prefetch_factor=runtime.prefetch if workers else None,
        pin_memory=device.type == "cuda",
        worker_init_fn=partial(_start_worker, notes),
        collate_fn=_as_it_is,
        timeout=runtime.data_timeout if workers else 0,
    )
    iterator = iter(loader)
    try:
        with patience.watching(), nullcontext() if workers else loading_here(notes):
            while True:
                with patience.waiting():
                    made = _receive(iterator) if workers else next(iterator)
                if isinstance(made, _Failure):
                    raise made.error
                yield made
    except StopIteration:
        return
    except RuntimeError as error:
        if "DataLoader timed out" in str(error):
            pinning = getattr(iterator, "_pin_memory_thread", None)
            raise patience.error() if pinning is None or pinning.is_alive() else _ended(_NO_PINNING) from None
        raise
    finally:
        notes.dismiss()
        del iterator  # ends the processes, and waits for them


def _receive(iterator: Iterator[Any]) -> Any:
    try:
        return next(iterator)
    except (EOFError, ConnectionError, FileNotFoundError) as error:
        # The process died while it handed a batch over. What a process itself raised is marked by torch.
        if "Caught " in str(error):
            raise
        raise _ended(f"{type(error).__name__} while a batch was handed over") from error


def _as_it_is(made: object) -> object:
    # torch's own would turn arrays into tensors and tuples into lists.
    return made


def _start_worker(notes: Notes, worker: int) -> None:
    torch.set_num_threads(1)
    # Preemption and Ctrl-C reach the whole process group; the main process decides, workers carry on until then.
    ignore_signals()
    sys.excepthook = _unless_left_alone
    join_loading(notes, worker)


def _unless_left_alone(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    # A main process that is stopped while a batch is handed over has said so; the thread that hands it over need not.
    if not issubclass(kind, EOFError | ConnectionError):
        sys.__excepthook__(kind, error, trace)
