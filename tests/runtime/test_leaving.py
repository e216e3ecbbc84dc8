"""Processes leave long work together, whichever of them was asked to stop."""

from __future__ import annotations

import signal

import pytest
import torch
from torch._C._distributed_c10d import HashStore

from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.leaving import Leaving
from tinyvit_kd.runtime.signals import StopRequest


def two_ranks() -> list[Job]:
    """Two processes' places in a job, which share its store."""
    store = HashStore()
    return [Job(rank, 2, torch.device("cpu"), store=store) for rank in range(2)]


def batches(leaving: Leaving, done: list[int], signalled_at: int | None = None) -> None:
    for number in range(5):
        if number == signalled_at:
            signal.raise_signal(signal.SIGUSR1)
        leaving.look()
        done.append(number)


def test_a_process_that_is_asked_leaves_at_once_and_the_other_when_it_looks() -> None:
    asked, other = two_ranks()
    stop = StopRequest()
    first, second, done, also_done = Leaving(asked, stop), Leaving(other, StopRequest()), list[int](), list[int]()
    first.work(lambda: batches(first, done, signalled_at=3))
    second.work(lambda: batches(second, also_done))
    assert (done, also_done, stop.signal) == ([0, 1, 2], [], signal.SIGUSR1)


def test_another_work_is_not_left_for_that() -> None:
    jobs, done = two_ranks(), list[int]()
    first, _ = (Leaving(job, StopRequest()) for job in jobs)
    first.work(lambda: batches(first, [], signalled_at=0))
    _, second = (Leaving(job, StopRequest()) for job in jobs)
    second.work(lambda: batches(second, done))
    assert len(done) == 5


@pytest.mark.parametrize("requested", [False, True])
def test_a_stop_that_no_signal_asked_for_ends_it_too(requested: bool) -> None:
    stop, done = StopRequest(), list[int]()
    leaving = Leaving(Job(0, 1, torch.device("cpu")), stop)

    def part() -> None:
        if requested:
            stop.ask()
        batches(leaving, done)

    leaving.work(part)
    assert (len(done), leaving.agreed()) == ((0, True) if requested else (5, False))
