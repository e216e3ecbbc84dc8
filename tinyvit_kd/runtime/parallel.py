"""Work on many shards in several processes."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from tinyvit_kd.errors import WorkerError
from tinyvit_kd.runtime.signals import Preempted, ignore_signals, on_parents_death

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
    """
    if processes == 1:
        yield from map(function, tasks)
        return
    context = multiprocessing.get_context("spawn")
    waiting: deque[Future[ResultT]] = deque()
    with ProcessPoolExecutor(processes, context, initializer=_start_process) as pool:
        try:
            for task in tasks:
                waiting.append(pool.submit(function, task))
                if len(waiting) > 2 * processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except (Preempted, GeneratorExit):
            for process in multiprocessing.active_children():
                process.kill()  # else leaving the pool would wait for tasks that have begun
            raise
        except BrokenProcessPool:
            raise WorkerError(
                "a process that was working on shards died",
                found="most likely the machine ran out of memory",
                fix="run again with fewer processes; shards that were built are kept",
            ) from None
        finally:
            for future in waiting:
                future.cancel()


def _start_process() -> None:
    # Ctrl-C reaches all processes; the main one decides what follows.
    ignore_signals()
    # Else the workers of a killed parent would wait for tasks for ever.
    on_parents_death(lambda: os._exit(1))
