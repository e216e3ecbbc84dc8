"""Batches arrive on the device complete, while the next ones are being made in the same memory."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import NEEDS_GPU
from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.data.buffers import Arrays, BatchMaker, Layout, Tensors, shared_buffers
from tinyvit_kd.data.loader import loading
from tinyvit_kd.data.transfer import to_host
from tinyvit_kd.runtime.shared_memory import START_METHOD

LAYOUT = Layout(views=((2, 3, 5), np.uint8), labels=((7,), np.int64), weights=((2, 2), np.float32), last=((), np.uint8))


def test_arrays_and_tensors_are_the_same_memory() -> None:
    buffer = torch.zeros(LAYOUT.nbytes, dtype=torch.uint8)
    arrays, tensors = LAYOUT.arrays(buffer.numpy()), LAYOUT.tensors(buffer)
    for number, (name, array) in enumerate(arrays.items(), start=1):
        array[...] = number
        assert tensors[name].shape == array.shape
        assert tensors[name].dtype == torch.from_numpy(np.zeros(1, array.dtype)).dtype
    for number, tensor in enumerate(tensors.values(), start=1):
        assert (tensor == number).all()  # no two arrays overlap


def test_every_array_is_aligned() -> None:
    buffer = shared_buffers(3, LAYOUT.nbytes).rows
    for row in buffer:
        assert all(array.ctypes.data % 64 == 0 for array in LAYOUT.arrays(row.numpy()).values())


@pytest.mark.skipif(START_METHOD != "fork", reason="other systems pass memory as a file")
def test_shared_memory_is_shared_and_not_a_file() -> None:
    buffers = shared_buffers(2, 10_000).rows
    process = multiprocessing.get_context("fork").Process(target=lambda: buffers[1].fill_(7))
    process.start()
    process.join()
    assert buffers.sum(dim=1).tolist() == [0, 70_000]
    # This is the kernel's name for a shared anonymous mapping; a file in /dev/shm would appear under its own name.
    assert mapped_file(buffers) == "/dev/zero (deleted)"


def mapped_file(memory: torch.Tensor) -> str:
    """The file behind the mapping that holds a tensor (proc_pid_maps(5))."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        ends, *_, name = line.split(maxsplit=5)
        first, last = (int(end, 16) for end in ends.split("-"))
        if first <= memory.data_ptr() < last:
            return name
    pytest.fail("it is not mapped")


def test_results_come_back_as_arrays() -> None:
    answers = to_host([torch.arange(3), torch.ones(2, 2)])
    assert [array.tolist() for array in answers()] == [[0, 1, 2], [[1, 1], [1, 1]]]


class Copies(BatchMaker[int, torch.Tensor]):
    """Batches of a single array that repeats its task's number."""

    @property
    def layout(self) -> Layout:
        return Layout(copies=((100_000,), np.int64))

    def fill(self, task: int, arrays: Arrays) -> None:
        arrays["copies"][:] = task

    def join(self, tensors: Tensors, extra: None) -> torch.Tensor:
        assert extra is None
        return tensors["copies"]


def keep_the_gpu_busy() -> None:
    torch.cuda._sleep(10_000_000)  # type: ignore[no-untyped-call]


@NEEDS_GPU
def test_batches_reach_the_gpu_complete_while_later_ones_are_made() -> None:
    device = torch.device("cuda")
    sums = []
    with loading(Copies(), range(50), RuntimeConfig(workers=2, prefetch=2), device) as batches:
        for copies in batches:
            keep_the_gpu_busy()  # so that it reads the batch long after the host has launched this
            sums.append(copies.sum())
    assert torch.stack(sums).tolist() == [task * 100_000 for task in range(50)]


@NEEDS_GPU
def test_results_are_copied_after_they_are_computed() -> None:
    keep_the_gpu_busy()
    answers = to_host([torch.full((1000,), 3, device="cuda")])
    assert answers()[0].tolist() == [3] * 1000
