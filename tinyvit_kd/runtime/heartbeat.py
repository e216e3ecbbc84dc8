"""Lines in time: whatever takes long says so after 10 seconds of silence, and whenever 30 more have passed in silence.

A command says what it is doing with ``saying``, in contexts inside each other, of which the innermost speaks. A thread
prints the line if nothing else has been printed meanwhile. A progress bar that is shown speaks for itself.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache

from tinyvit_kd.runtime.lines import last_line, own_rank, print_line
from tinyvit_kd.runtime.wording import counted, duration, plural

FIRST_LINE = 10.0  # seconds of silence until the first line of a command, or of a piece of work
NEXT_LINES = 30.0  # seconds of silence until each further one
_SLICE = 1.0  # seconds between looks at the clock


class Beat:
    """What a piece of work says of itself while it lasts.

    Args:
        what: the work, as "reading the checkpoint".
        total: how much there is to do; None: not known.
        unit: of ``total``, in the singular.
        now: the time, seconds.
        speaks: False: something else shows the progress.
    """

    def __init__(self, what: str, total: int | None, unit: str, now: float, speaks: bool = True) -> None:
        self.what, self.total, self.unit, self.speaks = what, total, unit, speaks
        self.done = self.first = 0
        self.begin = now
        self.has_spoken = False

    def at(self, done: int, total: int | None = None) -> None:
        """Note how far the work is, and how much there is if that has become known."""
        self.done = done
        self.total = total if total is not None else self.total

    def advance(self, count: int = 1) -> None:
        """Note that so much more is done."""
        self.done += count

    def line(self, now: float, detail: str = "") -> str:
        """The line: how far, how fast and how long it will take, as far as this is known."""
        seconds = max(now - self.begin, 1e-9)
        parts = [f"running for {duration(seconds)}"]
        if self.unit and self.total:
            parts = [f"{self.done:,} of {counted(self.total, self.unit)}"]
            made = self.done - self.first
            if made > 0:
                rate = made / seconds
                parts += [
                    f"{rate:{',.0f' if rate >= 100 else '.3g'}} {plural(self.unit)}/s",
                    f"{duration((self.total - self.done) / rate)} left",
                ]
            else:
                parts.append(f"after {duration(seconds)}")
        return f"{self.what}: {', '.join(parts)}{f' ({detail})' if detail else ''}"


class Pulse:
    """Decides when a line is due. One per process.

    Args:
        clock: the time, seconds.
        last: when the process printed its last line, by that clock.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, last: Callable[[], float] = last_line) -> None:
        self.clock, self.last = clock, last
        self.beats: list[Beat] = []
        self.detail: Callable[[], str] | None = None  # tells what is being read
        self._begin = 0.0

    def enter(self, beat: Beat) -> None:
        """Begin a piece of work, inside of those that have begun."""
        if not self.beats:
            self._begin = self.clock()
        self.beats.append(beat)

    def leave(self, beat: Beat) -> None:
        """End a piece of work."""
        self.beats.remove(beat)

    def line_if_due(self) -> str | None:
        """The line of the innermost work, if there has been silence for long enough."""
        beats = list(self.beats)
        if not beats or not beats[-1].speaks:
            return None
        beat, now, last = beats[-1], self.clock(), self.last()
        silence = now - max(last, self._begin)
        if last > self._begin and silence < NEXT_LINES:
            if beat.has_spoken or min(silence, now - beat.begin) < FIRST_LINE:
                return None
        elif silence < FIRST_LINE:
            return None
        beat.has_spoken = True
        return beat.line(now, self.detail() if self.detail is not None else "")


@lru_cache(maxsize=1)
def _pulse() -> Pulse:
    return Pulse()


@contextmanager
def saying(what: str, total: int | None = None, unit: str = "", *, speaks: bool = True) -> Iterator[Beat]:
    """Say what is being done while the context lasts, on rank 0.

    Args:
        what, total, unit, speaks: see ``Beat``.
    """
    pulse = _pulse()
    beat = Beat(what, total, unit, pulse.clock(), speaks)
    is_first = not pulse.beats
    pulse.enter(beat)
    ended = threading.Event()
    if is_first and own_rank() == 0:
        _start(ended)
    try:
        yield beat
    finally:
        pulse.leave(beat)
        ended.set()


@contextmanager
def telling(detail: Callable[[], str]) -> Iterator[None]:
    """Let the lines tell what is being read, while the context lasts."""
    pulse = _pulse()
    before, pulse.detail = pulse.detail, detail
    try:
        yield
    finally:
        pulse.detail = before


def _start(ended: threading.Event) -> None:
    _speaking()
    with suppress(RuntimeError):  # the system allows no more threads; the work goes on without these lines
        threading.Thread(target=_speak, args=(ended,), name="heartbeat", daemon=True).start()


def _speak(ended: threading.Event) -> None:
    while not ended.wait(_SLICE):
        with _speaking():
            line = _pulse().line_if_due()
            if line is not None:
                print_line(line)


@lru_cache(maxsize=1)
def _speaking() -> threading.Lock:
    """Held while a line is printed. A process that was forked meanwhile would inherit the terminal's lock, held."""
    lock = threading.Lock()
    os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    return lock
