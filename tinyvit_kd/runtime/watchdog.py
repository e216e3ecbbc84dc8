"""Notes of what each loading process is doing, so that one that hangs can be named and does not delay the exit.

A read from storage that has gone away may never return, and only SIGKILL ends it. So each loading process notes what it
is about to read, in memory that it shares with the main process; the main process waits only for a limited time.
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
from tinyvit_kd.runtime.heartbeat import telling
from tinyvit_kd.runtime.log import warn
from tinyvit_kd.runtime.signals import REQUEUE_EXIT_CODE, parents_id

_NOTE_BYTES = 256
_GRACE = 3.0  # seconds in which a dismissed process may end by itself
_FIRST_WARNING = 30.0  # seconds


def _private(kind: Any, length: int) -> Any:
    """An array that only this process uses; it takes no space in ``/dev/shm``."""
    return (kind * length)()


class Notes:
    """Shared memory with a note for each loading process: what it is doing, and since when.

    Args:
        processes: number of loading processes; 0: the main process loads.
    """

    def __init__(self, processes: int) -> None:
        self.processes = processes
        count = max(1, processes)
        memory = RawArray if processes else _private
        self._texts: Any = [memory(c_char, _NOTE_BYTES) for _ in range(count)]
        self._since: Any = memory(c_double, count)
        self._dismissed: Any = memory(c_byte, 1)

    def write(self, process: int, text: str) -> None:
        """Note what a process is doing from now on."""
        self._texts[process].value = text.encode(errors="replace")[: _NOTE_BYTES - 1]
        self._since[process] = time.monotonic()

    def read(self) -> str:
        """What all processes are doing, the oldest note first."""
        now = time.monotonic()
        notes = [(now - self._since[each], self._texts[each].value) for each in range(len(self._texts))]
        busy = sorted((note for note in notes if note[1]), reverse=True)
        return "; ".join(f"{text.decode(errors='replace')}, for {age:.0f} s" for age, text in busy) or "not known"

    def read_if_any(self) -> str:
        """As ``read``, but empty if there is no note yet."""
        return self.read() if self.latest() else ""

    def latest(self) -> float:
        """When the newest note was written, as ``time.monotonic`` counts."""
        return float(max(self._since))

    def dismiss(self) -> None:
        """Tell the processes to end, including those that hang in a read."""
        self._dismissed[0] = 1

    @property
    def dismissed(self) -> bool:
        """Whether the processes have been told to end."""
        return bool(self._dismissed[0])


_own_note: tuple[Notes, int] | None = None  # where this process writes its note


_beside = threading.local()


def leave_no_notes() -> None:
    """For a thread that works beside: what it does says nothing of whether the main thread hangs."""
    _beside.here = True


def doing(text: str) -> None:
    """Note what this process is about to wait for. Takes about a microsecond; does nothing outside of loading."""
    if _own_note is not None and not getattr(_beside, "here", False):
        notes, process = _own_note
        notes.write(process, text)


def register_worker(notes: Notes, process: int) -> None:
    """Make this process loading process number ``process``. It ends when it is dismissed or its parent has gone."""
    global _own_note
    _own_note = notes, process
    threading.Thread(target=_end_when_dismissed, args=(notes, parents_id()), daemon=True).start()


def _end_when_dismissed(notes: Notes, parent: int) -> None:
    while os.getppid() == parent and not notes.dismissed:
        time.sleep(0.2)
    # A process that does not hang ends properly in this time; it may be writing to a pipe that others share.
    time.sleep(_GRACE if notes.dismissed else 0)
    os._exit(0)


@contextmanager
def loading_here(notes: Notes) -> Iterator[None]:
    """Let the main process note its own reads, for when there are no loading processes."""
    global _own_note
    previous = _own_note
    _own_note = notes, 0
    try:
        yield
    finally:
        _own_note = previous


@contextmanager
def watched(timeout: float) -> Iterator[None]:
    """Exit with the code for requeueing if a read or write of the main process itself hangs.

    The main process notes its reads and writes with ``doing``.

    Args:
        timeout: seconds without a new note.
    """
    notes = Notes(0)
    watchdog = Watchdog(notes, timeout)
    with watchdog.watching(), loading_here(notes), watchdog.waiting(), telling(notes.read_if_any):
        yield


class Watchdog:
    """Watches how long the main process has been waiting for data.

    Args:
        notes: of the loading processes.
        timeout: seconds of waiting after which the run is given up.
    """

    def __init__(self, notes: Notes, timeout: float) -> None:
        self.notes = notes
        self.timeout = timeout
        self._waiting_since: float | None = None
        self._ended = threading.Event()

    @contextmanager
    def watching(self) -> Iterator[Watchdog]:
        """Watch while the context lasts."""
        threading.Thread(target=self._watch, name="data-watch", daemon=True).start()
        try:
            yield self
        finally:
            self._ended.set()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Put this around each wait for a batch."""
        self._waiting_since = time.monotonic()
        try:
            yield
        finally:
            self._waiting_since = None

    def error(self) -> StalledError:
        """The error to raise when the time is up."""
        return stalled(f"no data has come for {self.timeout:g} seconds", self.notes.read())

    def _watch(self) -> None:
        current = 0.0
        next_warning = _FIRST_WARNING
        while not self._ended.wait(min(1.0, self.timeout / 4)):
            since = self._waiting_since
            if since is None:
                continue
            if since != current:
                current = since
                next_warning = _FIRST_WARNING
            main_loads = self.notes.processes == 0
            # If the main process loads, a new note shows that it does not hang, however long a batch takes.
            waited = time.monotonic() - (max(since, self.notes.latest()) if main_loads else since)
            if waited > next_warning:
                next_warning *= 2
                warn(f"waiting for data for {waited:.0f} s: {self.notes.read()}")
            if waited > self.timeout and main_loads:
                # The main thread itself hangs in a read, where no exception can reach it.
                warn(str(self.error()))
                os._exit(REQUEUE_EXIT_CODE)


def stalled(what: str, where: str) -> StalledError:
    """The error for storage that does not answer."""
    return StalledError(
        what,
        where=where,
        fix="check the storage, then run the same command again: it continues where it stopped "
        "(runtime.data_timeout is how long to wait)",
    )
