"""Batches made in worker processes, in an order that does not depend on how many there are."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from types import TracebackType
from typing import Any, Generic

import torch
from torch.utils.data import DataLoader, Dataset

from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.data.buffers import BatchMaker, BatchT, SharedBuffers, TaskT, shared_buffers
from tinyvit_kd.data.transfer import Transfer, transferring
from tinyvit_kd.errors import TinyVitKdError, WorkerError
from tinyvit_kd.runtime.allocator import keep_buffers
from tinyvit_kd.runtime.cores import Cores
from tinyvit_kd.runtime.files import require_open_files
from tinyvit_kd.runtime.foreign_errors import (
    error_chain,
    first_line_of,
    is_loader_timeout,
    is_raised_in_worker,
    is_worker_death,
)
from tinyvit_kd.runtime.parallel import require_threads
from tinyvit_kd.runtime.pinning import choose_cores, main_pinned, pin_worker
from tinyvit_kd.runtime.request_counts import Tally, counting
from tinyvit_kd.runtime.shared_memory import Parcel, start_method
from tinyvit_kd.runtime.signals import ignore_signals, starting_processes
from tinyvit_kd.runtime.watchdog import Notes, Watchdog, loading_here, register_worker

_OPEN_FILES = 384  # shards, blocks and pipes of one process
_OWN_THREADS = 3  # of the watchdog, and of what writes blocks or logs beside
_THREADS_PER_WORKER = 4  # the process, its two threads, and one that hands tasks to it
_CHECK_EVERY = 5.0  # seconds of waiting between torch's checks that its processes are alive
_IN_USE = 2  # batches outside the loader: one that a step computes on, and one whose copy may be under way


@dataclass(frozen=True)
class _Failure:
    error: TinyVitKdError


class _FillBuffers(Dataset[object], Generic[TaskT, BatchT]):
    """In a loading process: fills the buffer that was issued with each task."""

    def __init__(self, maker: BatchMaker[TaskT, BatchT], buffers: SharedBuffers) -> None:
        self.maker = maker
        self.buffers = buffers
        self.sent: list[Parcel] = []  # to processes that are being started, which have not taken them yet

    def __getitem__(self, issued: tuple[int, TaskT]) -> object:
        number, task = issued
        try:
            return self.maker.fill(task, self.maker.layout.arrays(self.buffers.rows[number].numpy()))
        except TinyVitKdError as error:
            # torch would turn an exception into the text of a traceback; ours have fields that the user should read.
            return _Failure(error)

    def __reduce__(self) -> tuple[Any, ...]:
        self.sent.append(Parcel((self.maker, self.buffers)))
        return _from_parcel, (self.sent[-1],)


def _from_parcel(parcel: Parcel) -> _FillBuffers[Any, Any]:
    return _FillBuffers(*parcel.content)


class _IssueBuffers(Generic[TaskT]):
    """In the main process: issues a buffer with each task, in turn. Batches come back in the order of their tasks."""

    def __init__(self, tasks: Iterable[TaskT], buffers: torch.Tensor) -> None:
        self.tasks = tasks
        self.transfer = Transfer(buffers)

    def __iter__(self) -> Iterator[tuple[int, TaskT]]:
        for task, number in zip(self.tasks, self.numbers(), strict=False):
            self.transfer.wait_for(number)
            yield number, task

    def numbers(self) -> Iterator[int]:
        """Numbers of the buffers, in the order in which they are issued and come back."""
        return cycle(range(len(self.transfer.buffers)))


def steps_in_work(runtime: RuntimeConfig) -> int:
    """Within how many consecutive tasks all those lie that loading processes work on at the same time."""
    return runtime.workers * runtime.prefetch if runtime.workers > 1 else 1


@contextmanager
def loading(
    maker: BatchMaker[TaskT, BatchT],
    tasks: Iterable[TaskT],
    runtime: RuntimeConfig,
    device: torch.device,
    check_every: float = _CHECK_EVERY,
) -> Iterator[Iterator[BatchT]]:
    """Make batches of ``tasks`` in worker processes. They come in the order of the tasks, on the device.

    The processes end with the context. A batch may be used until the next one is asked for; its memory is then reused.

    Args:
        maker: a pure function from a task to a batch; it is copied into each worker.
        tasks: read lazily, a few ahead of the batches that are yielded.
        runtime: how many workers, how far they run ahead, and how long to wait for a batch.
        device: of the batches; for a GPU, memory is pinned.
        check_every: seconds of waiting between torch's checks that its processes are alive.

    Raises:
        ConfigError: the system allows too few open files for this many workers, or has too little memory.
        TinyVitKdError: what ``maker`` raised, unchanged.
        WorkerError: a process died.
        StalledError: no batch came for ``runtime.data_timeout`` seconds; it names what is being read.
    """
    with loading_in_turns(maker, [tasks], runtime, device, check_every) as loaded:
        yield loaded


@contextmanager
def loading_in_turns(
    maker: BatchMaker[TaskT, BatchT],
    turns: Iterable[Iterable[TaskT]],
    runtime: RuntimeConfig,
    device: torch.device,
    check_every: float = _CHECK_EVERY,
) -> Iterator[Iterator[BatchT]]:
    """As ``loading``, for tasks that come turn by turn, of which the next may have to be waited for.

    While it is, there are no processes, no batches that were made ahead, and no ``runtime.data_timeout``.

    Args:
        turns: the tasks of each turn; read when all batches of the turn before have been taken.
    """
    loaded = _load_in_turns(maker, turns, runtime, device, check_every)
    try:
        with closing(loaded):
            yield loaded
    except Exception as error:
        # torch reports a dead process from a signal handler, wherever the main process is at that moment. The code that
        # it interrupts may turn that into another error, or into several.
        # Texts, not errors: an error that its own frame holds would keep the loader, and its processes, alive.
        deaths = [first_line_of(each) for each in error_chain(error) if is_worker_death(each)]
        if not deaths or isinstance(error, WorkerError):
            raise
        raise _ended(deaths[-1]) from error


def _load_in_turns(
    maker: BatchMaker[TaskT, BatchT],
    turns: Iterable[Iterable[TaskT]],
    runtime: RuntimeConfig,
    device: torch.device,
    check_every: float,
) -> Generator[BatchT, None, None]:
    for tasks in turns:
        with (
            counting(runtime.workers) as tally,
            maker.shared() if runtime.workers > 1 else nullcontext(),
            closing(_load(maker, tasks, runtime, device, check_every, tally)) as loaded,
        ):
            yield from loaded


def _ended(found: str) -> WorkerError:
    return WorkerError(
        "a data loading process ended unexpectedly",
        found=found,
        fix="memory may have run out: lower runtime.workers, runtime.prefetch or the batch size, then run the same "
        "command again, which continues where it stopped",
    )


def _load(
    maker: BatchMaker[TaskT, BatchT],
    tasks: Iterable[TaskT],
    runtime: RuntimeConfig,
    device: torch.device,
    check_every: float,
    tally: Tally,
) -> Generator[BatchT, None, None]:
    workers, method = runtime.workers, start_method() if runtime.workers else None
    layout = maker.layout
    cores = choose_cores(device, workers) if runtime.pin_workers and workers else None
    require_open_files(_OPEN_FILES, workers)
    require_threads(_OWN_THREADS + _THREADS_PER_WORKER * workers)
    buffers = shared_buffers(workers * runtime.prefetch + _IN_USE, layout.nbytes)
    issue = _IssueBuffers(tasks, buffers.rows)
    notes = Notes(workers)
    watchdog = Watchdog(notes, runtime.data_timeout)
    iterator: Any = None
    try:
        with nullcontext() if cores is None else _cores_are_told(), starting_processes(method):
            filling = _FillBuffers(maker, buffers)
            loader: DataLoader[object] = DataLoader(
                filling,
                batch_size=None,
                sampler=issue,
                num_workers=workers,
                prefetch_factor=runtime.prefetch if workers else None,
                worker_init_fn=partial(_start_worker, notes, cores, tally),
                multiprocessing_context=method,
                collate_fn=_unchanged,
                timeout=min(check_every, runtime.data_timeout) if workers else 0,
            )
            iterator = iter(loader)  # starts the processes, before memory is pinned that they would inherit
            filling.sent.clear()
        with (
            # Before memory is pinned, which lies near the core that first touches it.
            main_pinned(cores),
            watchdog.watching(),
            nullcontext() if workers else loading_here(notes),
            transferring(buffers.rows, device) as issue.transfer,
        ):
            for number in issue.numbers():
                with watchdog.waiting():
                    received = _receive(iterator, watchdog) if workers else next(iterator)
                if isinstance(received, _Failure):
                    raise received.error
                yield maker.join(layout.tensors(issue.transfer.take(number)), received)
    except StopIteration:
        return
    finally:
        notes.dismiss()
        del iterator  # ends the processes, and waits for them


@contextmanager
def _cores_are_told() -> Iterator[None]:
    """Keep torch from warning of more workers than cores.

    Where processes are pinned, a line has told of it; and a main process that is pinned has few cores, of which torch
    would think that they are all.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        yield


def _receive(iterator: Iterator[Any], watchdog: Watchdog) -> Any:
    """What a process sent with the next batch, or its failure.

    torch's signal handler reports a dead process at once, by an exception. The code that it interrupts may swallow that
    (``threading.Condition.notify`` does), so waiting goes in slices, after each of which torch checks by itself.
    """
    given_up = time.monotonic() + watchdog.timeout
    while True:
        try:
            return _next(iterator)
        except RuntimeError as error:
            if not is_loader_timeout(error):
                raise
            if time.monotonic() >= given_up:
                raise watchdog.error() from None


def _next(iterator: Iterator[Any]) -> Any:
    try:
        return next(iterator)
    except (EOFError, ConnectionError, FileNotFoundError) as error:
        if is_raised_in_worker(error):
            raise
        # The process died while it handed over a batch.
        raise _ended(f"{type(error).__name__} while a batch was handed over") from error


def _unchanged(made: object) -> object:
    # torch's own collate function would turn arrays into tensors and tuples into lists.
    return made


def _start_worker(notes: Notes, cores: Cores | None, tally: Tally, worker: int) -> None:
    pin_worker(cores, worker)  # before there are threads
    torch.set_num_threads(1)
    os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")  # for a transform that imports it; else it takes all cores
    if (opencv := sys.modules.get("cv2")) is not None:
        opencv.setNumThreads(1)
    keep_buffers()
    sys.excepthook = _unless_left_alone
    tally.count_here(worker)
    register_worker(notes, worker)  # first: where no thread can be started, a signal has to do
    # Preemption and Ctrl-C reach the whole process group. The main process decides; until then workers carry on.
    ignore_signals()


def _unless_left_alone(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    # A main process that stops while a batch is handed over has said so itself; the thread need not repeat it.
    if not issubclass(kind, EOFError | ConnectionError):
        sys.__excepthook__(kind, error, trace)
