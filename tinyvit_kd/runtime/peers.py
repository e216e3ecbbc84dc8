"""Notices within seconds that another process of a job is gone, whatever this one is busy with or waits for.

A machine that vanishes sends no word: whoever waits for it in a collective operation would wait for its timeout. So
each process has a thread (``runtime.peer_watch``) that writes a sign of life to the job's store every second. Rank 0's
reads those of all others, and writes down who has been silent for too long; the others read that, and rank 0's own
sign. That is two requests per process and second at any number of processes. It does not matter what carries
gradients, nor whether that hangs.

Work that is slow does not end a job: the thread needs neither the main thread nor the device. It stops with its
process, and while a single call holds Python's lock.
"""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tinyvit_kd.errors import WorkerError
from tinyvit_kd.runtime.foreign_errors import is_closed_connection

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store  # imports torch, which those who read runs do not need

BEAT_EVERY = 1.0  # seconds between signs of life
LEAVING = 10.0  # seconds in which a process that learns of a peer's own end may end by itself, and close its logs
_FAILURES = 3  # requests in a row that the store has refused: it is gone
_STORE, _LEFT, _FAILED, _GONE = "store", "left", "failed", "gone"


class Silence:
    """How long others have given no new sign of life, by this process's own clock.

    Signs are compared, not times, since the clocks of machines differ.

    Args:
        patience: seconds.
        clock: the time, seconds.
    """

    def __init__(self, patience: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.patience, self._clock = patience, clock
        self._signs: dict[Hashable, tuple[str, float]] = {}
        self._looked = clock()
        self._lock = threading.Lock()

    def note(self, who: Hashable, sign: str) -> None:
        """Note somebody's sign; it counts if it is another one than before."""
        with self._lock:
            if who not in self._signs or self._signs[who][0] != sign:
                self._signs[who] = sign, self._clock()

    def forget(self, who: Hashable) -> None:
        """Expect no more signs of somebody."""
        with self._lock:
            self._signs.pop(who, None)

    def sign(self, who: Hashable) -> str:
        """Somebody's latest sign; empty if there was none."""
        return self._signs.get(who, ("", 0.0))[0]

    def seconds(self, who: Hashable) -> float:
        """How long somebody has been silent. Call ``look`` first."""
        return self._clock() - self._signs[who][1] if who in self._signs else 0.0

    def overdue(self) -> list[Hashable]:
        """Who has been silent for too long. Call ``look`` first."""
        return [who for who in list(self._signs) if self.seconds(who) > self.patience]

    def look(self) -> None:
        """Call this often. Whoever finds that it has not run itself, as it was stopped, blames nobody for that time."""
        with self._lock:
            now = self._clock()
            absent = now - self._looked
            self._looked = now
            if absent > self.patience / 2:
                self._signs = {who: (sign, since + absent) for who, (sign, since) in self._signs.items()}


@dataclass(frozen=True)
class Verdict:
    """Why this process has to end, and after how many seconds."""

    found: str
    grace: float = 0.0


class Watch:
    """What one process writes to the job's store of itself, and what it makes of that of others.

    Args:
        store: by a connection of its own, since a request of the main thread may wait for hours.
        where: the store's address, for people.
        silence: of the others.
        host: name of this machine.

    Attributes:
        is_needed: whether the others can do nothing without this process.
        fails: whether it ends by an error, or is stopped.
    """

    def __init__(
        self, store: Store, where: str, rank: int, world_size: int, silence: Silence, host: str = platform.node()
    ) -> None:
        self.store, self.where, self.rank, self.silence, self.host = store, where, rank, silence, host
        self.others = range(1, world_size) if rank == 0 else range(1)
        self._beats = self._failures = 0
        self.is_needed, self.fails = True, False
        self._is_over = False  # rank 0 has left, as nothing is left to do
        self._failed: dict[int, str] = {}
        self._told: Verdict | None = None  # by rank 0
        for who in (_STORE, *self.others):
            silence.note(who, "")

    def begin(self) -> None:
        """Rank 0 makes all keys, so that nobody waits for one."""
        if self.rank == 0:
            for name in (_GONE, _sign_of(0), *map(_sign_of, self.others)):
                self.store.set(name, "")

    def exchange(self) -> None:
        """Write a sign of life, and read those of others; errors of the store are counted."""
        if self._failures >= _FAILURES:
            return
        try:
            self._beats += 1
            self.store.set(_sign_of(self.rank), f"{self._beats} {self.host}")
            if self.rank == 0:
                self._read_all()
            else:
                self._read_main()
        except RuntimeError as error:
            self._failures += _FAILURES if is_closed_connection(error) else 1
            return
        self._failures = 0
        self.silence.note(_STORE, str(self._beats))

    def leave(self) -> None:
        """Say that this process ends, and how."""
        with suppress(RuntimeError):  # the store may be gone
            word = _FAILED if self.fails and self.is_needed else _LEFT
            self.store.set(_sign_of(self.rank), f"{word} {self.host}")

    def verdict(self) -> Verdict | None:
        """Why this process cannot go on; None if it can."""
        self.silence.look()
        if self._is_over or self._told is not None:
            return None if self._is_over else self._told
        if self._failures >= _FAILURES:
            return Verdict(f"the job's store at {self.where} is gone", LEAVING)
        unheard = self.silence.seconds(_STORE)
        if unheard > self.silence.patience:
            return Verdict(f"no answer from the job's store at {self.where} for {unheard:.0f} s")
        # Without the store nothing is known of the others.
        return self._found() if unheard < self.silence.patience / 2 else None

    def _found(self) -> Verdict | None:
        if self._failed:
            ended = [_name(rank, host) for rank, host in sorted(self._failed.items())]
            return Verdict(f"{_listed(ended)} has ended, and says why", LEAVING)
        silent = [who for who in self.silence.overdue() if isinstance(who, int)]
        if not silent:
            return None
        names = [_name(rank, self.silence.sign(rank).partition(" ")[2]) for rank in sorted(silent)]
        found = f"no sign of {_listed(names)} for {min(map(self.silence.seconds, silent)):.0f} s"
        return Verdict(found, 3 * BEAT_EVERY if self.rank == 0 else 0)  # in which the others read it

    def _read_all(self) -> None:
        for rank, sign in zip(self.others, self._read(list(map(_sign_of, self.others))), strict=True):
            self._hear(rank, sign)
        self.silence.look()
        if found := self._found():
            self.store.set(_GONE, f"{LEAVING if self._failed else 0} {found.found}")

    def _read_main(self) -> None:
        sign, told = self._read([_sign_of(0), _GONE])
        self._hear(0, sign)
        if told:
            grace, _, found = told.partition(" ")
            self._told = Verdict(found, float(grace))
        self._is_over = sign.partition(" ")[0] == _LEFT

    def _read(self, names: list[str]) -> list[str]:
        return [value.decode(errors="replace") for value in self.store.multi_get(names)]

    def _hear(self, rank: int, sign: str) -> None:
        word, _, host = sign.partition(" ")
        if word == _LEFT:
            self.silence.forget(rank)
            return
        if word == _FAILED:
            self._failed[rank] = host
        self.silence.note(rank, sign)


def _name(rank: int, host: str) -> str:
    return f"rank {rank}{f' on {host}' if host else ''}"


def _sign_of(rank: int) -> str:
    return f"sign-{rank}"


def _listed(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def lost_peer(found: str) -> WorkerError:
    """The error for a job that has lost one of its processes."""
    return WorkerError(
        "another process of this job is gone, or did not answer",
        found=found,
        fix="run the same command again: it continues where it stopped",
    )
