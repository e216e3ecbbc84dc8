"""How processes are started, and the memory and locks that a process shares with those that it starts later.

A forked process shares its parent's memory, and starts at once. It has none of its parent's threads, though: a library
that works in threads of its own, as obstore does, would wait for them for ever. A process that has used such a library
starts others anew instead, and shares memory with them as a file without a name.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import sys
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch

START_METHOD = "fork" if sys.platform == "linux" else "spawn"
"""How processes are started, unless this process must not fork."""

_must_not_fork: int | None = None  # the process that ``forbid_forks`` was called in


def start_method() -> str:
    """How this process starts others from now on: ``fork``, or ``spawn``, which starts them anew."""
    return START_METHOD if _must_not_fork is None else "spawn"


def forbid_forks() -> None:
    """Start processes anew from now on, since a library is used whose threads they need.

    Raises:
        RuntimeError: this process was forked by one that had called this; what it is about to do would never end.
    """
    global _must_not_fork
    if _must_not_fork not in (None, os.getpid()):
        raise RuntimeError(
            "this process was forked by one that has used an object store, whose threads it does not have: start it "
            "anew instead, as multiprocessing.get_context('spawn') does"
        )
    _must_not_fork = os.getpid()


class SharedBytes:
    """Zeros that are shared with all processes started later.

    The size of ``/dev/shm`` (64 MiB in a container) does not limit them, and pages are used up only as they are written
    to. Where processes are forked they are no file; where they are started anew, a file without a name.

    Args:
        nbytes: 1 or more.
        method: how the processes are started; None: as ``start_method`` says.

    Attributes:
        tensor: uint8 [nbytes].

    Raises:
        OSError, RuntimeError: there is not enough memory.
    """

    def __init__(self, nbytes: int, method: str | None = None) -> None:
        self._nbytes = nbytes
        self._file: int | None = None
        if (method or start_method()) == "fork":
            self.tensor = torch.frombuffer(mmap.mmap(-1, nbytes), dtype=torch.uint8)
        elif sys.platform == "linux":
            self._file = os.memfd_create("tinyvit_kd")
            weakref.finalize(self, os.close, self._file)
            os.ftruncate(self._file, nbytes)
            self.tensor = _mapped(self._file, nbytes)
        else:
            self.tensor = torch.zeros(nbytes, dtype=torch.uint8).share_memory_()  # type: ignore[no-untyped-call]

    def __reduce__(self) -> tuple[Callable[..., SharedBytes], tuple[Any, ...]]:
        if self._file is None:
            return _received, (self.tensor,)
        return _received_file, (_for_child(self._file), self._nbytes)


class Parcel:
    """Wraps what a process is started with, so that its parent does not wait until it has been read.

    What is pickled for a process goes through a pipe, which is full after 64 KiB; and reading it imports torch, which
    takes seconds. So one process would be started after the other. As a file, all is there at once.

    Args:
        content: can be pickled.
    """

    def __init__(self, content: Any) -> None:
        self.content = content

    def __reduce__(self) -> tuple[Callable[..., Parcel], tuple[Any, ...]]:
        if sys.platform != "linux":
            return Parcel, (self.content,)
        file = os.memfd_create("tinyvit_kd")
        weakref.finalize(self, os.close, file)
        pickled = memoryview(ForkingPickler.dumps(self.content))
        while pickled:
            pickled = pickled[os.write(file, pickled) :]
        return _unpacked, (_for_child(file),)


def shared_lock(method: str | None = None) -> AbstractContextManager[object]:
    """A lock between this process and all processes that it starts later in this way.

    To take and to give it back orders memory, on processors too that order little by themselves.
    """
    return multiprocessing.get_context(method or start_method()).Lock()


def _for_child(file: int) -> Any:
    from multiprocessing.reduction import DupFd  # not on Windows

    return DupFd(file)


def _mapped(file: int, nbytes: int) -> torch.Tensor:
    return torch.frombuffer(mmap.mmap(file, nbytes), dtype=torch.uint8)


def _received(tensor: torch.Tensor) -> SharedBytes:
    shared = SharedBytes.__new__(SharedBytes)
    shared._nbytes, shared._file, shared.tensor = len(tensor), None, tensor
    return shared


def _received_file(sent: Any, nbytes: int) -> SharedBytes:
    file = sent.detach()
    try:
        return _received(_mapped(file, nbytes))
    finally:
        os.close(file)  # the mapping stays


def _unpacked(sent: Any) -> Parcel:
    with os.fdopen(sent.detach(), "rb") as file:
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        return Parcel(ForkingPickler.loads(file.read()))
