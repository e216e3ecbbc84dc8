"""Copies from the memory that batches are made in to the computing device, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy.typing as npt
import torch

from tinyvit_kd.runtime.log import warn


class Transfer:
    """Brings filled buffers to the device; on the CPU they are there already.

    Args:
        buffers: uint8 [count, nbytes].
    """

    def __init__(self, buffers: torch.Tensor) -> None:
        self.buffers = buffers

    def take(self, number: int) -> torch.Tensor:
        """Buffer ``number`` on the device, uint8 [nbytes]; valid until the next one is taken."""
        return self.buffers[number]

    def wait_for(self, number: int) -> None:
        """Wait until buffer ``number`` may be written to again."""


class GpuTransfer(Transfer):
    """Copies to the GPU on a stream of its own, while the GPU computes on the batch before.

    The host does not wait: it launches a step and takes the next buffer while the GPU is still busy, and the copy runs
    beside the step. Two buffers on the GPU are used in turn.

    Args:
        buffers: uint8 [count, nbytes], pinned.
        device: the GPU.
    """

    def __init__(self, buffers: torch.Tensor, device: torch.device) -> None:
        super().__init__(buffers)
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._slots = [torch.empty_like(buffers[0], device=device) for _ in range(2)]
        self._copied: list[torch.cuda.Event | None] = [None] * len(buffers)
        # Everything launched before the latest buffer was taken; at first, what may still use the memory of the slots.
        self._launched = torch.cuda.current_stream(device).record_event()
        self._taken = 0

    def take(self, number: int) -> torch.Tensor:
        """Start the copy. Work launched on the current stream from now on waits for it."""
        current = torch.cuda.current_stream(self._device)
        slot = self._slots[self._taken % 2]
        self._taken += 1
        self._stream.wait_event(self._launched)  # includes all work that reads the slot's last batch
        self._launched = current.record_event()
        with torch.cuda.stream(self._stream):
            slot.copy_(self.buffers[number], non_blocking=True)
        copied = self._stream.record_event()
        current.wait_event(copied)
        self._copied[number] = copied
        return slot

    def wait_for(self, number: int) -> None:
        """Wait for the copy of a buffer. It was started many batches ago, so it is done in practice."""
        copied = self._copied[number]
        if copied is not None:
            copied.synchronize()

    def finish(self) -> None:
        """Wait for copies that are in progress."""
        self._stream.synchronize()


@contextmanager
def transferring(buffers: torch.Tensor, device: torch.device) -> Iterator[Transfer]:
    """A ``Transfer`` of ``buffers``, uint8 [count, nbytes], to a device; for a GPU they are pinned meanwhile."""
    if device.type != "cuda":
        yield Transfer(buffers)
        return
    with _pinned(buffers):
        transfer = GpuTransfer(buffers, device)
        try:
            yield transfer
        finally:
            transfer.finish()


@contextmanager
def _pinned(buffers: torch.Tensor) -> Iterator[None]:
    # torch only pins memory that it allocates itself, which other processes do not share.
    cuda = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    error = int(cuda.cudaHostRegister(buffers.data_ptr(), buffers.stride(0) * len(buffers), 0))
    if error:
        warn(f"the memory of batches cannot be pinned (CUDA error {error}): copies to the GPU will be slower")
    try:
        yield
    finally:
        if not error:
            cuda.cudaHostUnregister(buffers.data_ptr())


def to_host(tensors: Sequence[torch.Tensor]) -> Callable[[], list[npt.NDArray[Any]]]:
    """Start copies to the host, after the work launched so far. The returned function waits for these copies only."""
    if not tensors[0].is_cuda:
        return lambda: [tensor.numpy() for tensor in tensors]
    copies = [torch.empty_like(tensor, device="cpu", pin_memory=True) for tensor in tensors]
    for pinned, tensor in zip(copies, tensors, strict=True):
        pinned.copy_(tensor, non_blocking=True)
    copied = torch.cuda.current_stream(tensors[0].device).record_event()

    def arrays() -> list[npt.NDArray[Any]]:
        copied.synchronize()
        return [pinned.numpy() for pinned in copies]

    return arrays
