"""How often a run was started, and how long it worked in all: kept in a small file that survives kills.

A checkpoint would not do. The time between it and a kill was spent, too, and checkpoints of equal runs are equal files.
"""

from __future__ import annotations

import math
import os
import platform
import shlex
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from tinyvit_kd import __version__
from tinyvit_kd.runtime.files import read_small_json, write_json
from tinyvit_kd.runtime.peer_watch import last_words
from tinyvit_kd.runtime.signals import ending_by

FORMAT = 1
NOTED_EVERY = 10.0  # seconds; a killed attempt counts up to its last note

_KINDS = dict.fromkeys(("ended", "command", "host", "version", "message"), str) | dict.fromkeys(
    ("process", "world_size"), int
)


@dataclass
class Attempt:
    """One start of a run, up to its end.

    Attributes:
        started: Unix time, seconds, by the clock of the machine.
        until: Unix time, seconds; of a killed attempt, its last note.
        ended: ``finished``, ``stopped`` or ``failed``; None while it runs, and for ever if it was killed.
        command: the command line.
        host: name of rank 0's machine.
        process: number of rank 0's process there.
        world_size: number of processes.
        version: of tinyvit_kd.
        message: of the error that ended it.
    """

    started: float
    until: float
    ended: str | None
    command: str
    host: str
    process: int
    world_size: int
    version: str
    message: str | None = None

    @property
    def seconds(self) -> float:
        """How long it worked."""
        return max(0.0, self.until - self.started)


class Attempts:
    """All attempts of a run, the current one last, in rank 0's hands.

    Args:
        path: of the file; None: nothing is kept.
        world_size: number of processes.
    """

    def __init__(self, path: Path | None, world_size: int) -> None:
        now = time.time()
        self._path = path
        self._begin = time.monotonic()
        self._writing = threading.Lock()
        self.current = Attempt(
            now, now, None, command_line(), platform.node(), os.getpid(), world_size, __version__, None
        )
        self.all = [*([] if path is None else read_attempts(path)), self.current]

    def note(self, ended: str | None = None, message: str | None = None) -> None:
        """Write that the current attempt has come this far. A file that cannot be written costs nothing but itself."""
        with self._writing:
            if ended is None and self.current.ended is not None:
                return  # the thread that notes from time to time comes after the end
            # Not by the wall clock, which may be set while a run lasts.
            self.current.until = self.current.started + time.monotonic() - self._begin
            self.current.ended, self.current.message = ended, message
            if self._path is not None:
                with suppress(OSError):
                    write_json(self._path, {"format": FORMAT, "attempts": [asdict(each) for each in self.all]})

    @property
    def seconds(self) -> float:
        """Of all attempts together, up to now."""
        current = time.monotonic() - self._begin
        return sum(each.seconds for each in self.all if each is not self.current) + current

    def facts(self) -> dict[str, Any]:
        """What results tell of the attempts: seconds of all, when the first one started, and the command lines."""
        return {
            "seconds": round(self.seconds, 3),
            "started": min(each.started for each in self.all),
            "finished": self.current.started + time.monotonic() - self._begin,
            "attempts": len(self.all),
            "commands": list(dict.fromkeys(each.command for each in self.all)),
        }


@contextmanager
def attempting(path: Path | None, world_size: int) -> Iterator[Attempts]:
    """Note a new attempt of a run, in ``path``, while the context lasts; for rank 0, and with None for others."""
    attempts = Attempts(path, world_size)
    attempts.note()
    over = threading.Event()
    if path is not None:
        with suppress(RuntimeError):  # the system allows no more threads: a killed attempt then counts less
            threading.Thread(target=_keep_noting, args=(attempts, over), name="attempts", daemon=True).start()
    try:
        with last_words(lambda message: attempts.note("failed", message)):
            yield attempts
    except BaseException as error:
        over.set()
        attempts.note(*ending_by(error))
        raise
    over.set()
    attempts.note("finished")


def _keep_noting(attempts: Attempts, over: threading.Event) -> None:
    while not over.wait(NOTED_EVERY):
        attempts.note()


def read_attempts(path: Path) -> list[Attempt]:
    """The attempts in a file, as far as they can be read; none where there is no such file."""
    listed = read_small_json(path).get("attempts")
    found = map(_attempt, listed if isinstance(listed, list) else [])
    return [each for each in found if each is not None]


def _attempt(value: Any) -> Attempt | None:
    if not isinstance(value, dict):
        return None
    try:
        known: dict[str, Any] = {field.name: _of_its_kind(field.name, value) for field in fields(Attempt)}
        attempt = Attempt(**known)
        attempt.started, attempt.until = float(attempt.started), float(attempt.until)
    except (TypeError, ValueError, OverflowError):
        return None
    return attempt if math.isfinite(attempt.seconds) else None


def _of_its_kind(name: str, attempt: dict[str, Any]) -> Any:
    """A field of an attempt; None where something else stands there, as somebody may have edited the file."""
    value = attempt.get(name)
    return value if isinstance(value, _KINDS.get(name, object)) else None


def command_line() -> str:
    """The command of this process, as it can be typed again."""
    program = Path(sys.argv[0])
    is_ours = program.name == "tinyvit-kd" or program.parent.name == "tinyvit_kd"
    return shlex.join(["tinyvit-kd" if is_ours else sys.argv[0], *sys.argv[1:]])
