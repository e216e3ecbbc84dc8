"""Work on many things at a time, whose results come in order; on shards in several processes."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from tinyvit_kd.errors import WorkerError
from tinyvit_kd.runtime.signals import Preempted, ignore_signals, on_parents_death

_OWN_THREADS = 3  # two of a pool, one of a progress bar
_THREADS_PER_PROCESS = 2  # what a process counts as, and the thread that looks after its parent
TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")


def run_parallel(function: Callable[[TaskT], ResultT], tasks: Iterable[TaskT], processes: int) -> Iterator[ResultT]:
    """Results of ``function`` for each of ``tasks``, in their order. Tasks are consumed only a few ahead.

    Args:
        function: importable by name, as are the types of tasks and results; it runs in newly started processes.
        tasks: its arguments.
        processes: number of processes; with 1, everything runs in this one.

    Raises:
        WorkerError: a process died.
        RuntimeError: the system refuses to start so many processes and threads.
    """
    if processes == 1:
        yield from map(function, tasks)
        return
    require_threads(_OWN_THREADS + _THREADS_PER_PROCESS * processes)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=_start_process) as pool:
        try:
            yield from in_order(pool, function, tasks, 2 * processes)
        except (Preempted, GeneratorExit, OSError, RuntimeError) as error:
            if isinstance(error, BrokenProcessPool):
                raise WorkerError(
                    "a process that was working on shards died",
                    found="most likely the machine ran out of memory, or of threads and processes (ulimit -u)",
                    fix="run again with fewer processes; shards that were built are kept",
                ) from None
            for process in multiprocessing.active_children():
                process.kill()  # else leaving the pool would wait for tasks that have begun
            raise


def in_order(
    pool: Executor, function: Callable[[TaskT], ResultT], tasks: Iterable[TaskT], ahead: int
) -> Generator[ResultT, None, None]:
    """Results of ``function`` for each of ``tasks``, in their order. Tasks are consumed as results are.

    Args:
        pool: where ``function`` runs; what has not begun when the results are no longer wanted is cancelled.
        ahead: how many tasks are begun, or wait to be, while a result is in use.
    """
    waiting: deque[Future[ResultT]] = deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(function, task))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _start_process() -> None:
    # Ctrl-C reaches all processes; the main one decides what follows.
    ignore_signals()
    # Else the workers of a killed parent would wait for tasks for ever.
    try:
        on_parents_death(lambda: os._exit(1))
    except RuntimeError:  # no thread can be started: the main process says so
        os._exit(1)


def require_threads(count: int) -> None:
    """Find out at once whether so many threads and processes can be started: a pool that gets only some may hang.

    Raises:
        RuntimeError: Python's own, "can't start new thread".
    """
    done = threading.Event()
    threads = [threading.Thread(target=done.wait, daemon=True) for _ in range(count)]
    started = 0
    try:
        for thread in threads:
            thread.start()
            started += 1
    finally:
        done.set()
        for thread in threads[:started]:
            thread.join()
