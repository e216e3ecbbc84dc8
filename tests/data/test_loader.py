"""Batches come in order, whoever makes them; a process that dies or hangs is told of, and leaves nothing behind."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from tests.processes import wait_until
from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.data.buffers import Arrays, BatchMaker, Layout, Tensors
from tinyvit_kd.data.loader import loading
from tinyvit_kd.errors import ShardError, StalledError, WorkerError
from tinyvit_kd.runtime.signals import REQUEUE_EXIT_CODE
from tinyvit_kd.runtime.watchdog import doing

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def no_loader_is_left() -> Iterator[None]:
    """An error may hold a loader and its processes; collected in a process of a later test, they would disturb it."""
    yield
    gc.collect()


def runtime(workers: int, timeout: float = 60) -> RuntimeConfig:
    return RuntimeConfig(workers=workers, prefetch=2, data_timeout=timeout)


@dataclass
class Numbers(BatchMaker[int, tuple[int, Any]]):
    """Batches of 100,000 copies of a task, and what a function says of it."""

    tell: Callable[[int], Any]

    @property
    def layout(self) -> Layout:
        return Layout(ends=((2,), np.uint8), copies=((100_000,), np.int64))

    def fill(self, task: int, arrays: Arrays) -> Any:
        arrays["ends"][:] = task % 256
        arrays["copies"][:] = task
        return task, self.tell(task)

    def join(self, tensors: Tensors, told: Any) -> tuple[int, Any]:
        task, rest = told
        assert (tensors["copies"] == task).all()
        assert (tensors["ends"] == task % 256).all()
        return task, rest


@contextmanager
def telling(
    tell: Callable[[int], Any], tasks: Iterable[int], settings: RuntimeConfig
) -> Iterator[Iterator[tuple[int, Any]]]:
    with loading(Numbers(tell), tasks, settings, CPU) as loaded:
        yield loaded


def everything(tell: Callable[[int], Any], tasks: Iterable[int], settings: RuntimeConfig) -> list[Any]:
    with telling(tell, tasks, settings) as loaded:
        return [told for _, told in loaded]


def draw(task: int) -> int:
    """Later tasks are quicker, so that a loader that did not wait would mix them up."""
    time.sleep(0.01 if task % 2 else 0)
    return task * task


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_come_in_the_order_of_the_tasks(workers: int) -> None:
    assert everything(draw, range(20), runtime(workers)) == [task * task for task in range(20)]


def refuse(task: int) -> int:
    if task == 3:
        raise ShardError("gone", where="shard 7")
    return task


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_comes_in_its_place_and_unchanged(workers: int) -> None:
    with telling(refuse, range(9), runtime(workers)) as loaded:
        assert [next(loaded)[1] for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ShardError) as caught:
            next(loaded)
    assert caught.value.where == "shard 7"


def stumble(kind: type[Exception], task: int) -> int:
    if task == 3:
        raise kind("of our own")
    return task


@pytest.mark.parametrize("kind", [EOFError, FileNotFoundError, KeyError], ids=["closed", "gone", "bug"])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_bug_of_ours_in_a_process_is_not_taken_for_its_death(kind: type[Exception], workers: int) -> None:
    with pytest.raises(kind, match="of our own"):
        everything(partial(stumble, kind), range(9), runtime(workers))


# As torch's signal handler says, or, where a lock of Python's swallowed that, as torch sees a little later.
DIED = "(killed by signal: Killed|exited unexpectedly)"


def die(task: int) -> int:
    if task == 3:
        os.kill(os.getpid(), signal.SIGKILL)  # as the system does when memory runs out
    return task


def test_a_killed_process_is_told_of() -> None:
    with pytest.raises(WorkerError, match=rf"{DIED}.*runtime\.workers"):
        everything(die, range(9), runtime(2))


def kill_the_only_process() -> None:
    (process,) = multiprocessing.active_children()
    process.kill()


def hang(task: int) -> int:
    doing(f"reading sample {task} of shards/train-000004.tar")
    if task == 3:
        time.sleep(600)
    return task


def test_a_process_that_is_killed_while_the_main_one_does_something_else_is_told_of() -> None:
    def do_something_else() -> None:
        with telling(draw, range(1000), runtime(1)) as loaded:
            next(loaded)
            kill_the_only_process()
            time.sleep(60)  # which the signal of its end interrupts

    with pytest.raises(WorkerError, match="killed by signal: Killed"):
        do_something_else()


def test_a_killed_process_is_told_of_though_the_signal_of_its_end_was_lost() -> None:
    def take_until_killed() -> None:
        with loading(Numbers(hang), range(100), runtime(1, timeout=300), CPU, check_every=0.2) as batches:
            next(batches)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # as if what torch's handler raises had been swallowed
            kill_the_only_process()
            list(batches)

    handler = signal.getsignal(signal.SIGCHLD)
    begin = time.monotonic()
    try:
        with pytest.raises(WorkerError, match=r"exited unexpectedly.*runtime\.workers"):
            take_until_killed()
    finally:
        signal.signal(signal.SIGCHLD, handler)
    assert time.monotonic() - begin < 150  # half of what it would wait for data


def test_a_killed_process_is_told_of_whatever_its_end_interrupted() -> None:
    def write_something() -> None:
        with telling(draw, range(1000), runtime(1)) as loaded:
            next(loaded)
            try:
                kill_the_only_process()
                time.sleep(60)  # which the signal of its end interrupts
            except RuntimeError:
                raise OSError("a file is not what it should be")  # noqa: B904  as torch does it

    with pytest.raises(WorkerError, match="killed by signal: Killed"):
        write_something()


def test_a_process_that_hangs_is_named_and_does_not_hold_up_the_end() -> None:
    begin = time.monotonic()
    with pytest.raises(StalledError, match=r"sample 3 of shards/train-000004\.tar, for \d+ s"):
        everything(hang, range(9), runtime(2, timeout=3))  # in which the processes must have started
    wait_until_none_is_left()
    assert time.monotonic() - begin < 300  # half of what it hangs for


def wait_until_none_is_left() -> None:
    """One that hangs is given three seconds to end, and torch waits five for it: on a busy machine they may meet."""
    wait_until(lambda: not multiprocessing.active_children(), "a process was left behind")


def test_the_main_process_that_hangs_names_what_it_reads_and_leaves_with_the_code_for_requeueing() -> None:
    script = "from tests.data.test_loader import *; everything(hang, range(9), runtime(0, timeout=1))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == REQUEUE_EXIT_CODE
    assert "sample 3 of shards/train-000004.tar" in done.stderr


def slow(task: int) -> int:
    for part in range(35):
        doing(f"reading sample {part}")
        time.sleep(0.1)
    return task


def test_a_batch_that_takes_long_is_not_one_that_hangs() -> None:
    assert everything(slow, range(1), runtime(0, timeout=3)) == [0]


def test_a_loader_that_is_closed_early_leaves_no_process_behind() -> None:
    begin = time.monotonic()
    for make in (draw, hang):
        with telling(make, range(1000), runtime(2)) as loaded:
            next(loaded)
    wait_until_none_is_left()
    assert time.monotonic() - begin < 300


def test_numbers_are_handed_over_as_they_are() -> None:
    arrays = everything(np.arange, range(1, 3), runtime(1))
    assert [type(array) for array in arrays] == [np.ndarray, np.ndarray]
