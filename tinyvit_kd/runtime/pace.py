"""How fast a job gets on and how long it still takes, by the clock on the wall."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

MEMORY = 600.0  # seconds: what was faster or slower longer ago hardly counts


class Pace:
    """The rate of a job in units per second, and the time to its end with all that comes between the units.

    Units (optimiser steps, views) are timed over about the last ten minutes. What interrupts them (evaluations,
    checkpoints) is timed by itself, and what is still to come of it is added; what has never been timed is left out.

    Args:
        pause_seconds: how long pauses took in an earlier start of the job, by kind.
        clock: the time, seconds.
    """

    def __init__(
        self, pause_seconds: Mapping[str, float] | None = None, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.total: int | None = None
        self.pause_seconds = dict(pause_seconds or {})
        self._pauses_left: Callable[[int], Mapping[str, int]] | None = None
        self._timed = 0.0, 0.0  # units and seconds, in one attribute because another thread reads it
        self._is_first = True
        self._clock = clock
        self._pause: tuple[str, float] | None = None  # its kind, and when it began
        self._idle = 0.0  # seconds since the last units in which nothing could be done

    def expect(self, total: int, pauses_left: Callable[[int], Mapping[str, int]] | None = None) -> None:
        """Learn how much there is to do.

        Args:
            total: units of the whole job, those that are done included.
            pauses_left: from the units that are done to the number of pauses after them, by kind; not the one that
                may be under way.
        """
        self.total, self._pauses_left = total, pauses_left

    def made(self, units: float, seconds: float) -> None:
        """Note that so many units took so long. The first ones start workers, and count only until there are others."""
        seconds, self._idle = max(0.0, seconds - self._idle), 0.0
        before = self._timed
        if before[0] and self._is_first:
            self._is_first = False
            before = 0.0, 0.0
        kept = math.exp(-seconds / MEMORY)
        self._timed = before[0] * kept + units, before[1] * kept + seconds

    @contextmanager
    def idling(self) -> Iterator[None]:
        """Leave out of the next units' time what passes while the context lasts: nothing can be done meanwhile."""
        begin = self._clock()
        try:
            yield
        finally:
            self._idle += self._clock() - begin

    @contextmanager
    def pausing(self, kind: str) -> Iterator[None]:
        """Time a pause while the context lasts; the last one of its kind stands for those to come."""
        begin = self._clock()
        self._pause = kind, begin
        try:
            yield
            self.pause_seconds[kind] = self._clock() - begin
        finally:
            self._pause = None

    @property
    def rate(self) -> float | None:
        """Units per second, without pauses; None before the first unit."""
        units, seconds = self._timed
        return units / seconds if seconds > 0 else None

    def seconds_left(self, done: int) -> float | None:
        """Time to the end of the job, pauses included; None where nothing is known."""
        rate = self.rate
        if self.total is None or (done < self.total and not rate):
            return None
        units = max(0, self.total - done) / rate if rate else 0.0
        return units + self._pauses_to_come(done) + self._rest_of_pause()

    def _pauses_to_come(self, done: int) -> float:
        counts = self._pauses_left(done) if self._pauses_left is not None else {}
        return sum(count * self.pause_seconds.get(kind, 0.0) for kind, count in counts.items())

    def _rest_of_pause(self) -> float:
        pause = self._pause  # another thread may end it
        if pause is None:
            return 0.0
        kind, begin = pause
        return max(0.0, self.pause_seconds.get(kind, 0.0) - (self._clock() - begin))
