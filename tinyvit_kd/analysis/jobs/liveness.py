"""Whether a job runs, was stopped, has failed, or is silent: from the small files that it keeps, read from outside.

No file has to be there, whole, or fresh. Times are compared with care: the clocks of the machine that looks, of the
machine that works and of the file server may differ.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tinyvit_kd.runs.attempts import Attempt, read_attempts
from tinyvit_kd.runtime.files import modified, read_small_json

State = Literal["starting", "running", "evaluating", "stopped", "failed", "finished", "silent", "killed", "unknown"]
ACTIVE: tuple[State, ...] = ("starting", "running", "evaluating")
SILENT_AFTER = 60.0  # seconds without a sign of a job that writes one every 5 seconds
SILENT_WITHOUT_PROGRESS = 600.0  # of an older one, which writes only lines of its log
GONE_AFTER = 12.0  # seconds without a sign, after which it counts that this machine has no such process
AHEAD = 5.0  # seconds that a time may lie in the future without the clocks being said to differ
_TAIL = 1 << 14  # bytes at the end of a log
_ENDED = re.compile(r"^\S+ \S+  ended(?:: | by an error:)(.*)$", re.MULTILINE)
_LARGEST = 1e300  # of a number that is counted with
_STEP = re.compile(r"  step (\d+)/(\d+) ")


@dataclass(frozen=True)
class JobFiles:
    """Where a job leaves signs of itself; any of these may be missing."""

    progress: Path
    attempts: Path
    log: Path
    others: tuple[Path, ...] = ()  # whose change is a sign, too
    delay: float = 0.0  # seconds after which a sign is seen, at most: of files that are uploaded now and then

    def all(self) -> tuple[Path, ...]:
        """Every one of them."""
        return (self.progress, self.attempts, self.log, *self.others)


@dataclass(frozen=True)
class Life:
    """How a job is.

    Attributes:
        state: the job's own word or, where it shows no sign of life any more, ``silent``, or ``killed`` if its process
            is known to be gone.
        age: seconds since the last sign; None if there is none.
        message: what it is doing, or what ended it.
        progress: ``progress.json``; empty where there is none that can be read.
        attempts: its starts.
        log_steps: (done, total) in its log, where there is no ``progress.json``.
        clock_ahead: seconds that the clock behind the files is ahead of this machine's, where that shows.
    """

    state: State
    age: float | None
    message: str | None
    progress: dict[str, Any]
    attempts: tuple[Attempt, ...]
    log_steps: tuple[int, int] | None
    clock_ahead: float

    @property
    def is_active(self) -> bool:
        """Whether it is at work, as far as can be seen."""
        return self.state in ACTIVE

    def number(self, name: str) -> float | None:
        """A number of ``progress.json``; None where it is not known."""
        return as_number(self.progress.get(name))

    @property
    def seconds_left(self) -> float | None:
        """To the end of the job, counted from now; None where it is not known, or nothing is at work."""
        left = self.number("seconds_left")
        return None if left is None or not self.is_active else max(0.0, left - min(self.age or 0.0, SILENT_AFTER))

    @property
    def stands_still(self) -> float | None:
        """Seconds for which it has been alive without getting any further, by its own clock; None if not known."""
        updated, advanced = self.number("updated"), self.number("advanced")
        return None if updated is None or advanced is None else max(0.0, updated - advanced)

    @property
    def seconds(self) -> float | None:
        """Of all its attempts together; None if not known."""
        if not self.attempts:
            return None
        last = self.attempts[-1]
        until = max(last.until, self.number("updated") or 0) if self.is_active else last.until  # noted more often
        return sum(each.seconds for each in self.attempts[:-1]) + max(0.0, until - last.started)


def read_life(files: JobFiles, now: float, finished_at: float | None = None) -> Life:
    """Read how a job is.

    Args:
        now: Unix time, seconds, by the clock of this machine.
        finished_at: when what only a finished job writes was written, by the clock of the disk; None: it is not there.
    """
    progress = read_small_json(files.progress)
    attempts = tuple(read_attempts(files.attempts))
    tail = end_of(files.log)
    changed = [time for time in map(modified, files.all()) if time is not None]
    if finished_at is not None:
        changed.append(finished_at)
    age = _age(now, changed, as_number(progress.get("updated")))
    state, message = _own_word(progress, attempts, tail)
    noted = modified(files.progress)
    if finished_at is not None and (state in ("finished", "unknown") or (noted or 0) <= finished_at + 2 * AHEAD):
        state, message = "finished", message if state == "finished" else None
    elif state in ACTIVE or state == "unknown":
        state = _still(state, progress, attempts, None if age is None else max(0.0, age - files.delay))
    steps = [match.groups() for match in _STEP.finditer(tail)] if not progress else []
    log_steps = (int(steps[-1][0]), int(steps[-1][1])) if steps else None
    ahead = max(0.0, max(changed, default=now) - now)
    return Life(state, age, message, progress, attempts, log_steps, ahead if ahead > AHEAD else 0.0)


def _own_word(progress: dict[str, Any], attempts: tuple[Attempt, ...], tail: str) -> tuple[State, str | None]:
    """What the job itself said last."""
    said, message = progress.get("state"), progress.get("message")
    for state in (*ACTIVE, "stopped", "failed", "finished"):
        if said == state:
            return state, message if isinstance(message, str) else None
    for state in ("stopped", "failed", "finished"):
        if attempts and attempts[-1].ended == state:
            return state, attempts[-1].message
    ended = _ending(tail)
    if ended is not None:
        return ended
    return "unknown", None


def ending_by_log(log: Path) -> tuple[State, str] | None:
    """How a job ended, stopped or failed, and what ended it, by its log; None: that does not say."""
    return _ending(end_of(log))


def _ending(tail: str) -> tuple[State, str] | None:
    endings = list(_ENDED.finditer(tail))
    if not endings or "process " in tail[endings[-1].end() :]:  # it was started again after that
        return None
    words = endings[-1][1].strip() or tail.rstrip().splitlines()[-1][len("2026-01-01 00:00:00  ") :]
    return ("stopped" if words.startswith("stopped") else "failed"), words


def _still(state: State, progress: dict[str, Any], attempts: tuple[Attempt, ...], age: float | None) -> State:
    """Whether a job that has not ended by its own word is alive."""
    if age is None:
        return "unknown"
    if age > GONE_AFTER and _is_gone(progress, attempts):
        return "killed"
    if age > (SILENT_AFTER if progress or attempts else SILENT_WITHOUT_PROGRESS):
        return "silent"
    return "running" if state == "unknown" else state


def _is_gone(progress: dict[str, Any], attempts: tuple[Attempt, ...]) -> bool:
    """Whether a job's first process ran on this machine, and is no more. Another container may have the same name."""
    host, process = progress.get("host"), progress.get("pid")
    if attempts and not progress:
        host, process = attempts[-1].host, attempts[-1].process
    if host != platform.node() or not isinstance(process, int) or process <= 1:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return _is_zombie(process)


def _is_zombie(process: int) -> bool:
    """Whether a process has ended, and its parent has not asked how."""
    with suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[:1] == ["Z"]
    return False


def _age(now: float, changed: Iterable[float], updated: float | None) -> float | None:
    """Seconds since the last sign.

    Args:
        changed: when files changed, by the clock of their disk.
        updated: when the job last wrote, by its own clock. It counts where it shows that the job lives, or where the
            disk's times lie in the future.
    """
    newest = max(changed, default=None)
    if newest is None:
        return None
    age = now - newest
    if updated is not None and now - updated >= -AHEAD:
        if age < -AHEAD:
            age = now - updated
        elif now - updated <= SILENT_AFTER:
            age = min(age, now - updated)
    return max(0.0, age)


def as_number(value: Any) -> float | None:
    """A finite number; None for anything else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) < _LARGEST else None


def end_of(path: Path) -> str:
    """The last lines of a log, some 16 KiB; empty where there is none that can be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
