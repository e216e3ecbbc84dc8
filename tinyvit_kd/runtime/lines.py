"""Where the lines for people go: to the terminal, and to the log of the run that is under way."""

from __future__ import annotations

import errno
import os
import platform
import sys
import time
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from tinyvit_kd.errors import TinyVitKdError, reason_of
from tinyvit_kd.runtime.signals import Preempted

QUIET = "TINYVIT_KD_QUIET"  # environment variable: 1 for no lines and no bar, as --quiet
_EARLY = 500  # lines that are kept until a log is opened


class _Lines:
    """The lines of this process.

    Attributes:
        logs: the open logs.
        early: lines, with their times, for a log that will be opened; None: they are not kept.
        last: when the last line was printed, as ``time.monotonic`` counts.
        quiet: lines go to the logs alone.
    """

    def __init__(self) -> None:
        self.logs: list[TextIO] = []
        self.early: deque[tuple[float, str]] | None = None
        self.last = -float("inf")
        self.quiet = False


@lru_cache(maxsize=1)
def _lines() -> _Lines:
    return _Lines()


def print_line(text: str, rank: int = 0) -> None:
    """Print one line, above a progress bar if there is one; ranks other than 0 are named in it.

    In quiet mode it goes to the log alone.
    """
    line = f"[rank {rank}] {text}" if rank else text
    if not is_quiet():
        _show(line)
    lines = _lines()
    lines.last = time.monotonic()
    if lines.logs:
        _log(line, time.time())
    elif lines.early is not None:
        lines.early.append((time.time(), line))


def _show(line: str) -> None:
    try:
        tqdm.write(line, file=sys.stderr)
        sys.stderr.flush()
    except OSError as error:
        if error.errno != errno.EIO:  # that of a terminal which has been closed, and which nobody reads any more
            raise


def is_quiet() -> bool:
    """Whether nothing but results and errors is shown: by ``--quiet``, or by the environment."""
    return _lines().quiet or os.environ.get(QUIET, "") not in ("", "0")


@contextmanager
def quiet_lines() -> Iterator[None]:
    """Show no lines and no bars while the context lasts; logs get them all."""
    lines = _lines()
    before, lines.quiet = lines.quiet, True
    try:
        yield
    finally:
        lines.quiet = before


def own_rank() -> int:
    """This process's rank by its environment, where no ``Job`` is at hand; 0 if it is not set or is no number."""
    rank = os.environ.get("RANK", "")
    return int(rank) if rank.isdecimal() else 0


def last_line() -> float:
    """When this process printed its last line, as ``time.monotonic`` counts; minus infinity if it printed none."""
    return _lines().last


@contextmanager
def lines_for_a_log() -> Iterator[None]:
    """Keep the lines that are printed before a log is opened, for that log."""
    lines = _lines()
    lines.early = deque(maxlen=_EARLY)
    try:
        yield
    finally:
        lines.early = None


@contextmanager
def log_file(path: Path, title: str) -> Iterator[None]:
    """Append the lines that are printed, with their times, to a file: of one process, since others would mix theirs in.

    An error that ends the context is written, too. A file that cannot be written costs the log, not the run.

    Args:
        path: in a folder that exists.
        title: of what runs, for the first line.
    """
    lines = _lines()
    try:
        file = path.open("a", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        print_line(f"there will be no log in {path}: {reason_of(error)}")
        yield
        return
    with file:
        lines.logs.append(file)
        _log(f"{title}, on {platform.node()}, process {os.getpid()}", time.time())
        while lines.early:
            when, line = lines.early.popleft()
            _log(line, when)
        try:
            yield
        except BaseException as error:
            _log(_ending(error), time.time())
            raise
        finally:
            lines.logs.remove(file)


def _log(text: str, when: float) -> None:
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))
    for file in _lines().logs:
        with suppress(OSError, ValueError):  # a full disk
            file.write("".join(f"{stamp}  {line}\n" for line in text.splitlines()))
            file.flush()


def _ending(error: BaseException) -> str:
    if isinstance(error, TinyVitKdError | Preempted):
        return f"ended: {error}"
    return "ended by an error:\n" + "".join(traceback.format_exception(error))
