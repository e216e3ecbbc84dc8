"""Locks by name between the processes of a machine, all in one file: the system releases those of a killed process."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import xxhash

_POLL = 0.02  # seconds
_BITS = 62  # of a place in the file; nothing is ever written there
_TAKEN = (errno.EAGAIN, errno.EACCES)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)  # some network file systems have no locks


class RangeLocks:
    """Exclusive locks and holds by name.

    A name is a byte of a file that stays empty. On a file system without locks everything is granted. Threads of a
    process exclude each other, too. It may be pickled, and used in forked processes, which own nothing at first.

    Args:
        path: the file; it is made, with its folder, when it is first needed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def work(self) -> bool:
        """Whether the file system has locks, as far as this process has asked for one."""
        return _locks_of(self.path).work

    @contextmanager
    def exclusive(self, name: str, wait: bool = True) -> Iterator[bool]:
        """Have a name for this thread alone. Yields whether that is so, which may be false without ``wait``."""
        here = _locks_of(self.path)
        thread_lock = here.threads.setdefault(name, threading.Lock())
        if not thread_lock.acquire(blocking=wait):
            yield False
            return
        try:
            while not (taken := here.set(name, fcntl.LOCK_EX)) and wait:
                time.sleep(_POLL)
            try:
                yield taken
            finally:
                if taken:
                    here.set(name, fcntl.LOCK_UN)
        finally:
            thread_lock.release()

    def hold(self, name: str) -> None:
        """Count one more holder of a name in this process. Waits while a process has the name for itself."""
        here = _locks_of(self.path)
        with here.counting:
            here.held[name] += 1
            while not here.set(name, fcntl.LOCK_SH):
                time.sleep(_POLL)

    def let_go(self, name: str) -> None:
        """Count one holder less in this process."""
        here = _locks_of(self.path)
        with here.counting:
            here.held[name] -= 1
            if here.held[name] <= 0:
                del here.held[name]
                here.set(name, fcntl.LOCK_UN)

    @contextmanager
    def unless_held(self, name: str) -> Iterator[bool]:
        """Keep others from holding a name; yields False where this process or another one holds it."""
        here = _locks_of(self.path)
        with here.counting:
            if here.held[name] or not here.set(name, fcntl.LOCK_EX):
                yield False
                return
            try:
                yield True
            finally:
                here.set(name, fcntl.LOCK_UN)


class _ProcessLocks:
    """What this process has of one file of locks. Its descriptor is never closed: that would release them all."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self.threads: dict[str, threading.Lock] = {}
        self.held: Counter[str] = Counter()
        self.counting = threading.RLock()
        self.work = True

    def set(self, name: str, kind: int) -> bool:
        """Lock or unlock the byte of a name; returns False if another process is in the way."""
        place = xxhash.xxh3_64_intdigest(name.encode()) >> (64 - _BITS)
        try:
            # Not flock: forked processes would inherit its locks, and could hold them after their parent was killed.
            fcntl.lockf(self.descriptor, kind | (0 if kind == fcntl.LOCK_UN else fcntl.LOCK_NB), 1, place)
        except OSError as error:
            if error.errno in _TAKEN:
                return False
            if error.errno not in _NO_LOCKS:
                raise
            self.work = False
        return True


_made: dict[tuple[int, Path], _ProcessLocks] = {}


def _locks_of(path: Path) -> _ProcessLocks:
    key = os.getpid(), path.absolute()
    if key not in _made:
        # Of two threads that are here at once one is left with a descriptor too many. A lock around this could be
        # copied by a fork while it is taken.
        _made.setdefault(key, _ProcessLocks(path))
    return _made[key]
