"""What every loading process is doing: one that hangs in a read can be named, and does not hold up the end.

A read from a storage that has gone away may never return, and no signal but SIGKILL ends it. So each loading
process notes what it is about to read in memory that it shares with the main process, which waits only so long.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_byte, c_char, c_double
from multiprocessing import RawArray
from typing import Any

from tinyvit_kd.errors import StalledError
from tinyvit_kd.runtime.log import warn
from tinyvit_kd.runtime.signals import REQUEUE_EXIT_CODE, parents_id

_TEXT = 256  # bytes of a note
_GRACE = 3.0  # seconds that a dismissed process has to end by itself
_FIRST_WARNING = 30.0  # seconds


def _private(kind: Any, length: int) -> Any:
    """An array of this process alone, which needs no room in ``/dev/shm``."""
    return (kind * length)()


class Notes:
    """Shared memory with a note for each loading process: what it has been doing, and since when.

    Args:
        processes: loading processes; 0: the main process loads.
    """

    def __init__(self, processes: int) -> None:
        self.processes = processes
        count, memory = max(1, processes), RawArray if processes else _private
        self._texts: Any = [memory(c_char, _TEXT) for _ in range(count)]
        self._since: Any = memory(c_double, count)
        self._dismissed: Any = memory(c_byte, 1)

    def write(self, process: int, text: str) -> None:
        """Note what a process does from now on."""
        self._texts[process].value = text.encode(errors="replace")[: _TEXT - 1]
        self._since[process] = time.monotonic()

    def read(self) -> str:
        """All that the processes are doing, the one that has been at it longest first."""
        now = time.monotonic()
        notes = [(now - self._since[each], self._texts[each].value) for each in range(len(self._texts))]
        busy = sorted((note for note in notes if note[1]), reverse=True)
        return "; ".join(f"{text.decode(errors='replace')}, for {age:.0f} s" for age, text in busy) or "not known"

    def latest(self) -> float:
        """When the last note was written, in the time of ``time.monotonic``."""
        return float(max(self._since))

    def dismiss(self) -> None:
        """Ask the processes to end, also those that hang in a read."""
        self._dismissed[0] = 1

    @property
    def dismissed(self) -> bool:
        """Whether the processes have been asked to end."""
        return bool(self._dismissed[0])


_mine: tuple[Notes, int] | None = None


def doing(text: str) -> None:
    """Note what this process is about to wait for; about a microsecond, and nothing outside of loading."""
    if _mine is not None:
        _mine[0].write(_mine[1], text)


def join_loading(notes: Notes, process: int) -> None:
    """Make this process number ``process`` of the loading ones; it ends when it is dismissed or orphaned."""
    global _mine
    _mine = notes, process
    threading.Thread(target=_end_when_told, args=(notes, parents_id()), daemon=True).start()


def _end_when_told(notes: Notes, parent: int) -> None:
    while os.getppid() == parent and not notes.dismissed:
        time.sleep(0.2)
    # One that is not hanging ends in order meanwhile: it may be writing to a pipe that others share.
    time.sleep(_GRACE if notes.dismissed else 0)
    os._exit(0)


@contextmanager
def loading_here(notes: Notes) -> Iterator[None]:
    """Let the main process note its own reads, where it has no loading processes."""
    global _mine
    before, _mine = _mine, (notes, 0)
    try:
        yield
    finally:
        _mine = before


@contextmanager
def watched(timeout: float) -> Iterator[None]:
    """Leave with the code for requeueing where the main process's own reads and writes, which it notes, hang.

    Args:
        timeout: seconds without a new note.
    """
    notes = Notes(0)
    patience = Patience(notes, timeout)
    with patience.watching(), loading_here(notes), patience.waiting():
        yield


class Patience:
    """Watches how long the main process has been waiting for data.

    Args:
        notes: of the loading processes.
        timeout: seconds after which waiting is given up.
    """

    def __init__(self, notes: Notes, timeout: float) -> None:
        self.notes, self.timeout = notes, timeout
        self._since: float | None = None
        self._ended = threading.Event()

    @contextmanager
    def watching(self) -> Iterator[Patience]:
        """Watch while the context lasts."""
        threading.Thread(target=self._watch, name="data-watch", daemon=True).start()
        try:
            yield self
        finally:
            self._ended.set()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around each wait for a batch."""
        self._since = time.monotonic()
        try:
            yield
        finally:
            self._since = None

    def error(self) -> StalledError:
        """What is raised when the time is up."""
        return stalled(f"no data has come for {self.timeout:g} seconds", self.notes.read())

    def _watch(self) -> None:
        current, next_warning = 0.0, _FIRST_WARNING
        while not self._ended.wait(min(1.0, self.timeout / 4)):
            since = self._since
            if since is None:
                continue
            if since != current:
                current, next_warning = since, _FIRST_WARNING
            here = self.notes.processes == 0
            # Notes of the main process itself show that it is not hanging, however long a batch takes.
            waited = time.monotonic() - (max(since, self.notes.latest()) if here else since)
            if waited > next_warning:
                next_warning *= 2
                warn(f"waiting for data for {waited:.0f} s: {self.notes.read()}")
            if waited > self.timeout and here:
                # The main thread itself hangs in a read, where no exception reaches it.
                warn(str(self.error()))
                os._exit(REQUEUE_EXIT_CODE)


def stalled(what: str, where: str) -> StalledError:
    """The error of a storage that does not answer."""
    return StalledError(
        what,
        where=where,
        fix="see to the storage, then run the same command again: it goes on where it was "
        "(runtime.data_timeout is how long to wait)",
    )
