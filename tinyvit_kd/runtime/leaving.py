"""How the processes of a job leave long work together, once one of them has been asked to stop."""

from __future__ import annotations

import time
from collections.abc import Callable

from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.signals import Preempted, StopRequest, raise_if_stopped

LOOK_EVERY = 1.0  # seconds between two questions to the job's store


class Leaving:
    """Lets all processes leave work that each does at its own pace, as soon as one has been asked to stop.

    Every process must make one for each such work, in the same order.

    Args:
        stop: whether a signal has asked the run to stop; None: signals raise by themselves, each in its own process.
    """

    def __init__(self, job: Job, stop: StopRequest | None) -> None:
        self._job, self._stop = job, stop
        self._name = job.new_name("leaving")
        self._next_look = 0.0

    def work(self, part: Callable[[], object]) -> None:
        """Do a part of the work that waits for no other process; it is left where it is when a stop is asked for.

        Args:
            part: calls ``look`` often, to learn of a stop that another process was asked for.
        """
        if self._stop is None:
            part()
            return
        try:
            with self._stop.leaving_at_once():
                part()
        except Preempted:
            self._tell()

    def look(self) -> None:
        """Leave ``work`` here if a stop was asked for, of this process or another one.

        Raises:
            Preempted: it was.
        """
        raise_if_stopped()
        if self._stop is not None and (self._stop or self._is_told()):
            raise Preempted("this process, or another one of this job, was asked to stop")

    def agreed(self) -> bool:
        """Whether any process has been asked to stop; every process must call, and all learn the same."""
        return any(self._job.gather(bool(self._stop)))

    def _tell(self) -> None:
        if self._job.store is not None:
            self._job.store.add(self._name, 1)

    def _is_told(self) -> bool:
        now = time.monotonic()
        if self._job.store is None or now < self._next_look:
            return False
        self._next_look = now + LOOK_EVERY
        return int(self._job.store.add(self._name, 0)) > 0
