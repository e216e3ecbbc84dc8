"""From the memory that batches are made in to the device that computes, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy.typing as npt
import torch

from tinyvit_kd.runtime.log import warn


class Transfer:
    """Takes filled buffers to the device; on the CPU they are there already.

    Args:
        buffers: uint8 [count, nbytes].
    """

    def __init__(self, buffers: torch.Tensor) -> None:
        self.buffers = buffers

    def take(self, number: int) -> torch.Tensor:
        """Buffer ``number`` on the device, uint8 [nbytes]; it may be used until the next one is taken."""
        return self.buffers[number]

    def wait_for(self, number: int) -> None:
        """Wait until buffer ``number`` may be written to again."""


class GpuTransfer(Transfer):
    """Copies to the GPU on a stream of its own, beside the computation on the batch before.

    Nothing here waits on the host: it launches a step, takes the next buffer while the GPU is still at work, and the
    copy runs beside the step. Two places on the GPU are used in turn.

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
        self._launched: torch.cuda.Event | None = None  # all that was launched until the last buffer was taken
        self._taken = 0

    def take(self, number: int) -> torch.Tensor:
        """Start the copy; what is launched on the current stream from now on waits for it."""
        current, slot = torch.cuda.current_stream(self._device), self._slots[self._taken % 2]
        self._taken += 1
        if self._launched is not None:
            self._stream.wait_event(self._launched)  # among it all that read the batch which was in this place
        self._launched = current.record_event()
        with torch.cuda.stream(self._stream):
            slot.copy_(self.buffers[number], non_blocking=True)
        copied = self._stream.record_event()
        current.wait_event(copied)
        self._copied[number] = copied
        return slot

    def wait_for(self, number: int) -> None:
        """Wait for the copy of a buffer; it was so many batches ago that it is done."""
        copied = self._copied[number]
        if copied is not None:
            copied.synchronize()

    def finish(self) -> None:
        """Wait for the copies that are under way."""
        self._stream.synchronize()


@contextmanager
def transferring(buffers: torch.Tensor, device: torch.device) -> Iterator[Transfer]:
    """What takes ``buffers``, uint8 [count, nbytes], to a device; they are pinned meanwhile where this is a GPU."""
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
    # torch pins only memory of its own making, which other processes do not share.
    cuda = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    refused = int(cuda.cudaHostRegister(buffers.data_ptr(), buffers.stride(0) * len(buffers), 0))
    if refused:
        warn(f"the memory of batches cannot be pinned (CUDA error {refused}): copies to the GPU will be slower")
    try:
        yield
    finally:
        if not refused:
            cuda.cudaHostUnregister(buffers.data_ptr())


def to_host(tensors: Sequence[torch.Tensor]) -> Callable[[], list[npt.NDArray[Any]]]:
    """Start copies to the host, behind what has been launched; the function returned waits for them alone."""
    if not tensors[0].is_cuda:
        return lambda: [tensor.numpy() for tensor in tensors]
    here = [torch.empty_like(tensor, device="cpu", pin_memory=True) for tensor in tensors]
    for pinned, tensor in zip(here, tensors, strict=True):
        pinned.copy_(tensor, non_blocking=True)
    copied = torch.cuda.current_stream(tensors[0].device).record_event()

    def arrays() -> list[npt.NDArray[Any]]:
        copied.synchronize()
        return [pinned.numpy() for pinned in here]

    return arrays
