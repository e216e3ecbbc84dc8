"""Memory and locks that a process shares with the processes that it starts later."""

from __future__ import annotations

import mmap
import multiprocessing
import sys
from contextlib import AbstractContextManager

import torch

# A forked process shares its parent's memory; where processes are spawned, memory is passed to them as a file.
START_METHOD = "fork" if sys.platform == "linux" else None


def shared_bytes(nbytes: int, start_method: str | None = START_METHOD) -> torch.Tensor:
    """Zeros that are shared with all processes started later: uint8 [nbytes].

    Where processes are forked it is not a file, so that the size of ``/dev/shm`` (64 MiB in a container) does not limit
    it, and pages are used up only as they are written to.

    Args:
        nbytes: 1 or more.
        start_method: how the processes are started; None: as the system does.

    Raises:
        OSError, RuntimeError: there is not enough memory.
    """
    if start_method == "fork":
        return torch.frombuffer(mmap.mmap(-1, nbytes), dtype=torch.uint8)
    zeros = torch.zeros(nbytes, dtype=torch.uint8)
    return zeros.share_memory_()  # type: ignore[no-untyped-call,no-any-return]


def shared_lock(start_method: str | None = START_METHOD) -> AbstractContextManager[object]:
    """A lock between this process and all processes that it starts later in this way.

    To take and to give it back orders memory, on processors too that order little by themselves.
    """
    return multiprocessing.get_context(start_method).Lock()
