"""Waits for what another job makes, in all processes of a run, and says what is waited for and how fast it comes.

Rank 0 alone looks at the storage. All processes meet every few seconds, so that none waits in a collective operation
until that times out, and all of them stop at the same moment if one is asked to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from tinyvit_kd.errors import StorageError, StoreError, StoreUnreadableError, TinyVitKdError, said_by
from tinyvit_kd.runs.dump_signs import told_of_dumps
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.heartbeat import Beat, saying
from tinyvit_kd.runtime.log import say
from tinyvit_kd.runtime.progress import Progress
from tinyvit_kd.runtime.signals import AgreedStop, StopRequest
from tinyvit_kd.runtime.wording import duration

TICK = 2.0  # seconds between two meetings of the processes
FIRST_PAUSE, LAST_PAUSE = 1.0, 60.0  # seconds between two looks at the storage; they grow
LOOKING = 0.05  # share of the time that may go into looking: a large store takes long to list
QUIET = 300.0  # seconds without anything new after which it is told what is known of the dump


@dataclass(frozen=True)
class Sight:
    """How much is there of what a run waits for.

    Attributes:
        what: is waited for, as in "view 3 of /data/store".
        present: how much of it is there.
        wanted: how much of it there will be.
        unit: of both, in the singular.
        told: more to say of it at the start.
        life: a number that changes whenever the job that makes it has got on.
    """

    what: str
    present: int
    wanted: int
    unit: str
    told: str = ""
    life: int = 0

    @property
    def line(self) -> str:
        """What is waited for, and how much of it is there."""
        return f"waiting for {self.what}: {self.present:,} of {self.wanted:,} {self.unit}s are there"


Look = Callable[[], Sight | None]


@dataclass(frozen=True)
class Waiter:
    """How a run waits.

    Attributes:
        timeout: seconds without anything new after which it gives up; None: never.
        stores: whose dumps are asked for signs of life when nothing new comes.
        stop: whether a signal has asked the run to stop; None: signals raise by themselves.
        progress: of the run; None before it has begun.
        clock, sleep: of time, for tests.
    """

    job: Job
    timeout: float | None
    stores: Sequence[str]
    stop: StopRequest | None = None
    progress: Progress | None = None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def until_ready(self, look: Look) -> None:
        """Wait until ``look`` returns None; every process must call.

        Args:
            look: at the storage, in rank 0 alone.

        Raises:
            AgreedStop: a process was asked to stop, or nothing new came for ``timeout`` seconds.
        """
        with ExitStack() as until_ready:
            watch = _Watch(self, look, until_ready)
            while True:
                verdict = watch.verdict() if self.job.is_main else None
                asked = self.job.gather((bool(self.stop), verdict))
                first: _Verdict = asked[0][1]
                if first.is_ready:
                    return
                if any(stops for stops, _ in asked):
                    raise AgreedStop(f"stopped by a signal while {first.line}; run the same command again to continue")
                if first.has_given_up:
                    raise AgreedStop(
                        f"gave up {first.line}, and nothing new for {duration(self.timeout or 0)} "
                        "(store.follow_timeout); run the same command again to continue"
                    )
                self.sleep(TICK if not self.job.is_main else watch.rest)


@dataclass(frozen=True)
class _Verdict:
    """What rank 0 tells the others: whether all is there, or it is not worth waiting any longer."""

    is_ready: bool = False
    has_given_up: bool = False
    line: str = ""


class _Watch:
    """Rank 0's looks at the storage, and what it tells of them.

    Args:
        until_ready: ends with the waiting.
    """

    def __init__(self, waiter: Waiter, look: Look, until_ready: ExitStack) -> None:
        self._waiter, self._look, self._until_ready = waiter, look, until_ready
        self._begin = self._new = waiter.clock()
        self._next = self._begin
        self._pause = FIRST_PAUSE
        self._quiet = QUIET
        self._sight: Sight | None = None
        self._beat: Beat | None = None

    @property
    def rest(self) -> float:
        """Seconds until there is something to do."""
        return min(TICK, max(0.01, self._next - self._waiter.clock()))

    def verdict(self) -> _Verdict:
        """Look again if it is time to."""
        now = self._waiter.clock()
        if now >= self._next and self._looked():
            if self._beat is not None:
                say(self._waiter.job, f"it is there, after {duration(now - self._begin)}")
            return _Verdict(is_ready=True)
        now = self._waiter.clock()
        silent, timeout = now - self._new, self._waiter.timeout
        if silent > self._quiet:
            self._quiet *= 2
            self._say(f"nothing new for {duration(silent)}{told_of_dumps(self._waiter.stores)}")
        line = self._sight.line if self._sight is not None else "waiting for a storage that does not answer"
        return _Verdict(has_given_up=timeout is not None and silent > timeout, line=line)

    def _looked(self) -> bool:
        """Look; returns whether all is there."""
        clock = self._waiter.clock
        before, begin = self._sight, clock()
        try:
            self._sight = self._look()
        except (OSError, StoreError) as error:
            if not _may_pass(error):
                raise
            self._say(f"it cannot be looked for at the moment: {said_by(error)}")
        else:
            if self._sight is None:
                return True
            if before is None:
                self._begin_to_tell(self._sight)
            elif before.life != self._sight.life:
                self._new, self._quiet = clock(), QUIET
            if self._beat is not None:
                self._beat.at(self._sight.present, self._sight.wanted)
            if self._waiter.progress is not None:
                self._waiter.progress.enter("running", self._sight.line)
        end = clock()
        self._next = end + max(self._pause, (end - begin) / LOOKING)
        self._pause = min(LAST_PAUSE, self._pause * 1.5)
        return False

    def _begin_to_tell(self, sight: Sight) -> None:
        waiter = self._waiter
        self._say(sight.line + (f"; {sight.told}" if sight.told else ""))
        self._beat = self._until_ready.enter_context(saying(f"waiting for {sight.what}", sight.wanted, sight.unit))
        self._beat.done = self._beat.first = sight.present
        if waiter.progress is not None:
            self._until_ready.callback(waiter.progress.enter, waiter.progress.state, waiter.progress.message)
            self._until_ready.enter_context(waiter.progress.pace.idling())

    def _say(self, text: str) -> None:
        say(self._waiter.job, text)


def _may_pass(error: OSError | StoreError) -> bool:
    """Whether what could not be looked at may be there later: a disk that is away for a while, a service that is busy.

    A manifest that is damaged, or credentials that are refused, are not waited for.
    """
    if not isinstance(error, TinyVitKdError):
        return True
    is_refused = any(isinstance(each, StorageError) for each in (error, error.__cause__))
    return error.may_pass or (isinstance(error, StoreUnreadableError) and not is_refused)
