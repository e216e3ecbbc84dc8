"""The memory that batches are made in: laid out once, shared with the loading processes, and reused."""

from __future__ import annotations

import math
import mmap
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runtime.shared_memory import SharedBytes

TaskT = TypeVar("TaskT")
BatchT = TypeVar("BatchT")
Arrays = Mapping[str, npt.NDArray[Any]]
Tensors = Mapping[str, torch.Tensor]
Field = tuple[tuple[int, ...], npt.DTypeLike]  # shape and type

_ALIGNMENT = 64  # bytes; of the start of every array


class Layout:
    """The places of a batch's arrays in one buffer.

    Args:
        fields: shape and type of each array, by name.
    """

    def __init__(self, **fields: Field) -> None:
        self.fields = {name: (shape, np.dtype(dtype)) for name, (shape, dtype) in fields.items()}

    @property
    def nbytes(self) -> int:
        """Length of the buffer, bytes."""
        return max((stop for _, stop in self._byte_ranges.values()), default=0)

    def arrays(self, buffer: npt.NDArray[np.uint8]) -> Arrays:
        """The arrays in a buffer, uint8 [nbytes], of which they are slices."""
        return {
            name: buffer[slice(*byte_range)].view(self.fields[name][1]).reshape(self.fields[name][0])
            for name, byte_range in self._byte_ranges.items()
        }

    def tensors(self, buffer: torch.Tensor) -> Tensors:
        """The same as tensors, for a buffer on any device."""
        return {
            name: buffer[slice(*byte_range)].view(self._torch_dtypes[name]).view(self.fields[name][0])
            for name, byte_range in self._byte_ranges.items()
        }

    @cached_property
    def _byte_ranges(self) -> dict[str, tuple[int, int]]:
        ranges: dict[str, tuple[int, int]] = {}
        start = 0
        for name, (shape, dtype) in self.fields.items():
            stop = start + math.prod(shape) * dtype.itemsize
            ranges[name] = start, stop
            start = -(-stop // _ALIGNMENT) * _ALIGNMENT
        return ranges

    @cached_property
    def _torch_dtypes(self) -> dict[str, torch.dtype]:
        return {name: torch.from_numpy(np.empty(0, dtype)).dtype for name, (_, dtype) in self.fields.items()}


class BatchMaker(ABC, Generic[TaskT, BatchT]):
    """Makes batches of one size: loading processes fill the arrays, and the main process wraps them as a batch.

    A maker is copied into every loading process. What it makes depends on the task alone.
    """

    @property
    @abstractmethod
    def layout(self) -> Layout:
        """The arrays of a batch."""

    @abstractmethod
    def fill(self, task: TaskT, arrays: Arrays) -> Any:
        """Fill the arrays, which still hold an earlier batch. Returns a few bytes that go to ``join`` as ``extra``."""

    @abstractmethod
    def join(self, tensors: Tensors, extra: Any) -> BatchT:
        """The batch, from the filled arrays as tensors on the device and from what ``fill`` returned."""

    @contextmanager
    def shared(self) -> Iterator[None]:
        """While this lasts, loading processes that are started share what a maker wants them to have in common."""
        yield

    def __call__(self, task: TaskT) -> BatchT:
        """Make a batch in this process, in memory of its own."""
        buffer = torch.zeros(self.layout.nbytes, dtype=torch.uint8)
        extra = self.fill(task, self.layout.arrays(buffer.numpy()))
        return self.join(self.layout.tensors(buffer), extra)


class SharedBuffers:
    """Buffers in memory that is shared with processes.

    Args:
        memory: at least ``count`` times ``nbytes``, rounded up to pages.

    Attributes:
        rows: uint8 [count, nbytes].
    """

    def __init__(self, memory: SharedBytes, count: int, nbytes: int) -> None:
        self._given = memory, count, nbytes
        self.rows = memory.tensor.view(count, _stride(nbytes))[:, :nbytes]

    def __reduce__(self) -> tuple[type[SharedBuffers], tuple[SharedBytes, int, int]]:
        return SharedBuffers, self._given


def _stride(nbytes: int) -> int:
    return -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE


def shared_buffers(count: int, nbytes: int) -> SharedBuffers:
    """Memory that is shared with all processes started later.

    Raises:
        ConfigError: there is not enough memory.
    """
    try:
        memory = SharedBytes(count * _stride(nbytes))
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            "there is not enough memory for the batches that are prepared ahead",
            where="runtime.workers, runtime.prefetch",
            found=f"{count} batches of {nbytes / 2**20:,.0f} MiB; {error}",
            fix="lower runtime.workers, runtime.prefetch or the batch size",
        ) from error
    return SharedBuffers(memory, count, nbytes)
