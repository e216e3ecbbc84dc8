"""The memory that batches are made in: laid out once, shared with the loading processes, used again and again."""

from __future__ import annotations

import math
import mmap
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from tinyvit_kd.errors import ConfigError

TaskT = TypeVar("TaskT")
BatchT = TypeVar("BatchT")
Arrays = Mapping[str, npt.NDArray[Any]]
Tensors = Mapping[str, torch.Tensor]
Field = tuple[tuple[int, ...], npt.DTypeLike]  # shape and type

_ALIGNMENT = 64  # bytes, of every array
# A forked process has the memory of its parent; elsewhere memory is handed over as a file.
START_METHOD = "fork" if sys.platform == "linux" else None


class Layout:
    """Where the arrays of a batch lie in one buffer.

    Args:
        fields: shape and type of each array, by name.
    """

    def __init__(self, **fields: Field) -> None:
        self.fields = {name: (shape, np.dtype(dtype)) for name, (shape, dtype) in fields.items()}

    @property
    def nbytes(self) -> int:
        """Length of the buffer."""
        return max((stop for _, stop in self._spans.values()), default=0)

    def arrays(self, buffer: npt.NDArray[np.uint8]) -> Arrays:
        """The arrays, as parts of a buffer, uint8 [nbytes]."""
        return {
            name: buffer[slice(*span)].view(self.fields[name][1]).reshape(self.fields[name][0])
            for name, span in self._spans.items()
        }

    def tensors(self, buffer: torch.Tensor) -> Tensors:
        """The same of a buffer on any device."""
        return {
            name: buffer[slice(*span)].view(self._types[name]).view(self.fields[name][0])
            for name, span in self._spans.items()
        }

    @cached_property
    def _spans(self) -> dict[str, tuple[int, int]]:
        spans, start = dict[str, tuple[int, int]](), 0
        for name, (shape, dtype) in self.fields.items():
            spans[name] = start, start + math.prod(shape) * dtype.itemsize
            start = -(-spans[name][1] // _ALIGNMENT) * _ALIGNMENT
        return spans

    @cached_property
    def _types(self) -> dict[str, torch.dtype]:
        return {name: torch.from_numpy(np.empty(0, dtype)).dtype for name, (_, dtype) in self.fields.items()}


class BatchMaker(ABC, Generic[TaskT, BatchT]):
    """Makes batches of one size: loading processes fill them, the main process puts them together.

    A maker is a pure function of the task, and is copied into every loading process.
    """

    @property
    @abstractmethod
    def layout(self) -> Layout:
        """The arrays of a batch."""

    @abstractmethod
    def fill(self, task: TaskT, arrays: Arrays) -> Any:
        """Fill arrays in which there is another batch still; returns what else is to be extra, a few bytes."""

    @abstractmethod
    def join(self, tensors: Tensors, extra: Any) -> BatchT:
        """The batch from the filled arrays, as tensors on the device, and what ``fill`` returned."""

    def __call__(self, task: TaskT) -> BatchT:
        """A batch here and now, in memory of its own."""
        buffer = torch.zeros(self.layout.nbytes, dtype=torch.uint8)
        extra = self.fill(task, self.layout.arrays(buffer.numpy()))
        return self.join(self.layout.tensors(buffer), extra)


def shared_buffers(count: int, nbytes: int) -> torch.Tensor:
    """Memory that the processes which are started from now on share: uint8 [count, nbytes].

    On Linux it is no file, so that the size of ``/dev/shm``, 64 MiB in a container, does not limit it.

    Raises:
        ConfigError: there is not so much memory.
    """
    stride = -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    try:
        if START_METHOD == "fork":
            whole = torch.frombuffer(mmap.mmap(-1, count * stride), dtype=torch.uint8)
        else:
            whole = torch.zeros(count * stride, dtype=torch.uint8).share_memory_()  # type: ignore[no-untyped-call]
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            "there is not enough memory for the batches that are made ahead",
            where="runtime.workers, runtime.prefetch",
            found=f"{count} batches of {nbytes / 2**20:,.0f} MiB; {error}",
            fix="lower runtime.workers, runtime.prefetch or the batch",
        ) from error
    return whole.view(count, stride)[:, :nbytes]
