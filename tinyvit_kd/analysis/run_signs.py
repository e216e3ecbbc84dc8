"""What a run that has not finished has left in its folder: how far it was, how it ended, its last words."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tinyvit_kd.analysis.run_folder import RunFolder
from tinyvit_kd.runs.attempts import Attempt, read_attempts
from tinyvit_kd.runs.run_files import ATTEMPTS, LOG
from tinyvit_kd.runtime.metric_loggers import METRICS
from tinyvit_kd.runtime.progress_file import PROGRESS
from tinyvit_kd.runtime.wording import duration

ALIVE_WITHIN = 60.0  # seconds since the last sign; a live job writes every five, and clocks of machines differ
_TAIL = 8  # lines of the log
_TAIL_BYTES = 16_384


@dataclass(frozen=True)
class RunSigns:
    """How a run is, seen from outside.

    Attributes:
        kind: ``finished``; ``running``, by its own word, not long ago; ``ended`` without having finished; ``silent``,
            neither of these: killed, or on a machine that was lost.
        words: the same for people, with what is known.
        total_steps: of the whole run; None where that is not known.
        attempts: its starts.
        last_lines: of its log; empty for a finished run.
    """

    kind: Literal["finished", "running", "ended", "silent"]
    words: str
    total_steps: int | None
    attempts: tuple[Attempt, ...]
    last_lines: tuple[str, ...]


def run_signs(run: RunFolder, now: float | None = None) -> RunSigns:
    """Read what says how a run is.

    Args:
        now: Unix time, seconds; None: the clock's.
    """
    progress = _progress(run.path / PROGRESS)
    attempts = tuple(read_attempts(run.path / ATTEMPTS))
    if run.summary is not None:
        return RunSigns("finished", "finished", _whole(run.summary.get("step")), attempts, ())
    kind, words = _state(run, progress, time.time() if now is None else now)
    return RunSigns(kind, words, _whole(progress.get("total")), attempts, _last_lines(run.path / LOG))


def _state(
    run: RunFolder, progress: dict[str, Any], now: float
) -> tuple[Literal["finished", "running", "ended", "silent"], str]:
    state, message, updated = progress.get("state"), progress.get("message"), progress.get("updated")
    if state in ("stopped", "failed"):
        return "ended", f"{state}: {message}" if message else str(state)
    if state == "finished":
        return "ended", "finished by its own word, but its summary is missing or damaged"
    if not isinstance(updated, int | float):
        return "silent", f"not finished, and no new line{_since(_last_change(run.path), now)}"
    if now - updated > ALIVE_WITHIN:
        return "silent", f"no sign of life{_since(updated, now)}"
    done, total, left = progress.get("done"), progress.get("total"), progress.get("seconds_left")
    share = f", {done / total:.0%}" if isinstance(done, int) and isinstance(total, int) and total > 0 else ""
    time_left = f", {duration(left)} left" if isinstance(left, int | float) and left > 0 else ""
    return "running", f"{state}{share}{time_left}"


def _since(moment: float | None, now: float) -> str:
    return "" if moment is None else f" for {duration(max(0.0, now - moment))}"


def _last_change(folder: Path) -> float | None:
    times = []
    for name in (METRICS, LOG):
        with suppress(OSError):
            times.append((folder / name).stat().st_mtime)
    return max(times, default=None)


def _progress(path: Path) -> dict[str, Any]:
    try:
        progress = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return progress if isinstance(progress, dict) else {}


def _last_lines(path: Path) -> tuple[str, ...]:
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            lines: Sequence[str] = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ()
    return tuple(lines[-_TAIL:])


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
