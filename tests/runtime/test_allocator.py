"""Memory that was freed is kept, and so is not cleared again by the system."""

from __future__ import annotations

import multiprocessing
import resource
from typing import Any

import pytest

from tinyvit_kd.runtime.allocator import keep_freed_memory

ROUNDS, BLOCKS, LENGTH, PAGE = 50, 20, 100_000, 4096


def faults(keeps: bool, told: Any) -> None:
    """Pages that a process is given for 50 times 2 MB, which it frees each time."""
    possible = keep_freed_memory() if keeps else True
    before = 0
    for number in range(ROUNDS + 1):
        blocks = [bytearray(b"x") * LENGTH for _ in range(BLOCKS)]
        del blocks
        if number == 0:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    told.put((possible, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before))


def test_a_process_that_keeps_what_it_frees_is_not_given_the_same_pages_again() -> None:
    context = multiprocessing.get_context("spawn")
    told = context.SimpleQueue()
    found = {}
    for keeps in (False, True):
        process = context.Process(target=faults, args=(keeps, told))
        process.start()
        found[keeps] = told.get()
        process.join()
    possible, kept = found[True]
    if not possible:
        pytest.skip("this system's allocator cannot be told")
    whole = ROUNDS * BLOCKS * LENGTH // PAGE
    assert kept < 0.05 * whole < 0.5 * whole < found[False][1]
